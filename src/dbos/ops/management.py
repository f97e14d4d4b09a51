"""Cancelling and resuming workflows."""

from __future__ import annotations

from collections.abc import Sequence

from dbos import validation
from dbos.engine.engine import Runtime
from dbos.engine.site import Site, refuse_in_transaction
from dbos.engine.steps import Operation, commit_in_order, once, step_row
from dbos.errors import DBOSInvalidInputError, DBOSNonExistentWorkflowError
from dbos.ops.verb import verb
from dbos.storage import management
from dbos.storage.management import Command, Commanded
from dbos.storage.protocol import Write
from dbos.storage.rows import Recorded

CANCEL = "DBOS.cancelWorkflow"
RESUME = "DBOS.resumeWorkflow"


@verb(step_ids=1)
async def cancel_workflow(
    rt: Runtime, site: Site, workflow_id: str, *, cancel_children: bool = False
) -> None:
    """Cancel a workflow; durable when this returns.

    It leaves its queue and frees its deduplication id. A running one stops at its next operation, a
    waiting one within about a second. A finished or unknown workflow is left as it is.

    Args:
        cancel_children: also cancel all of its descendants.
    """
    await _command(rt, site, CANCEL, management.cancel, _ids([workflow_id], cancel_children))


@verb(step_ids=1)
async def cancel_workflows(
    rt: Runtime, site: Site, workflow_ids: Sequence[str], *, cancel_children: bool = False
) -> None:
    """Cancel workflows, as `cancel_workflow` does, in one transaction."""
    await _command(rt, site, CANCEL, management.cancel, _ids(workflow_ids, cancel_children))


async def resume(
    rt: Runtime, site: Site, workflow_ids: Sequence[str], queue_name: str | None
) -> None:
    """Queue stopped workflows again; their recorded steps are replayed and not run again."""
    command = _ids(workflow_ids, False)
    if queue_name is not None:
        command = Command(command.workflow_ids, queue_name=validation.queue_name(queue_name))
    answer = await _command(rt, site, RESUME, management.resume, command)
    if answer is not None and answer.unknown:
        raise DBOSNonExistentWorkflowError("target", ", ".join(answer.unknown))


def _ids(workflow_ids: Sequence[str], with_children: bool) -> Command:
    if isinstance(workflow_ids, str):
        raise DBOSInvalidInputError("workflow_ids must be a list of ids: put the one id in a list")
    checked = dict.fromkeys(validation.workflow_id(workflow_id) for workflow_id in workflow_ids)
    return Command(tuple(checked), with_children)


async def _command(
    rt: Runtime, site: Site, name: str, write: Write[Command, Commanded], command: Command
) -> Commanded | None:
    """Carry out a command; in workflow code together with its record, and not again on replay."""
    refuse_in_transaction(site, name)
    run = site.run
    if run is None:
        if not command.workflow_ids:
            return None
        return await rt.io.commit(write, command, command.workflow_ids[0])

    async def perform(operation: Operation) -> Commanded | None:
        row = step_row(rt, run, operation, output=None, error=None)
        recorded = Command(command.workflow_ids, command.with_children, command.queue_name, row)
        return await commit_in_order(rt, run, write, recorded, _verdict)

    return await once(rt, run, site.step_id, name, perform)


def _verdict(answer: Commanded) -> Recorded:
    return answer.recorded or Recorded("kept", "PENDING")
