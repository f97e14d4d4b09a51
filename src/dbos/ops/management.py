"""Cancelling, resuming and deleting workflows; their delays and attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from dbos import validation
from dbos.engine.engine import Runtime
from dbos.engine.site import Site, refuse_in_transaction
from dbos.engine.writes import carry_out
from dbos.errors import DBOSNonExistentWorkflowError
from dbos.ops.verb import verb
from dbos.storage import management
from dbos.storage.management import AttributeChange, Command, Commanded, Delay
from dbos.storage.protocol import Write
from dbos.storage.rows import Recorded

CANCEL = "DBOS.cancelWorkflow"
RESUME = "DBOS.resumeWorkflow"
DELETE = "DBOS.deleteWorkflow"
SET_DELAY = "DBOS.setWorkflowDelay"
UPDATE_ATTRIBUTES = "DBOS.updateWorkflowAttributes"


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
    await _cancel(rt, site, _ids([workflow_id], cancel_children, "cancel_children"))


@verb(step_ids=1)
async def cancel_workflows(
    rt: Runtime, site: Site, workflow_ids: Sequence[str], *, cancel_children: bool = False
) -> None:
    """Cancel workflows, as `cancel_workflow` does, in one transaction."""
    await _cancel(rt, site, _ids(workflow_ids, cancel_children, "cancel_children"))


@verb(step_ids=1)
async def delete_workflow(
    rt: Runtime, site: Site, workflow_id: str, *, delete_children: bool = False
) -> None:
    """Delete a workflow with its steps, events, streams and messages; durable when this returns.

    A running one stops, and those who await it get `DBOSNonExistentWorkflowError`. An unknown id is
    ignored. The id may be used again, and then starts from nothing.

    Args:
        delete_children: also delete all of its descendants.
    """
    await _delete(rt, site, _ids([workflow_id], delete_children, "delete_children"))


@verb(step_ids=1)
async def delete_workflows(
    rt: Runtime, site: Site, workflow_ids: Sequence[str], *, delete_children: bool = False
) -> None:
    """Delete workflows, as `delete_workflow` does, in one transaction."""
    await _delete(rt, site, _ids(workflow_ids, delete_children, "delete_children"))


async def resume(
    rt: Runtime, site: Site, workflow_ids: Sequence[str], queue_name: str | None
) -> None:
    """Queue stopped workflows again; their recorded steps are replayed and not run again."""
    command = Command(_distinct(workflow_ids))
    if queue_name is not None:
        command = replace(command, queue_name=validation.queue_name(queue_name))
    answer = await _command(rt, site, RESUME, management.resume, command)
    if answer is None:
        return
    if answer.unknown:
        raise DBOSNonExistentWorkflowError("target", ", ".join(answer.unknown))
    # A former attempt that did not yet hear of its cancel hears of it now.
    _dismiss(rt, answer, "cancelled")


@verb(step_ids=1)
async def set_workflow_delay(
    rt: Runtime,
    site: Site,
    workflow_id: str,
    *,
    delay_seconds: float | None = None,
    delay_until_epoch_ms: int | None = None,
) -> None:
    """Move the end of a delayed workflow's delay; durable when this returns.

    A workflow that is not DELAYED, or is unknown, is left as it is.

    Args:
        delay_seconds: counted from now, by the database's clock.
        delay_until_epoch_ms: an instant, in milliseconds since the epoch.

    Raises:
        DBOSInvalidInputError: not exactly one of the two is given, or it is negative.
    """
    checked = validation.workflow_id(workflow_id)
    seconds, until_ms = validation.workflow_delay(delay_seconds, delay_until_epoch_ms)
    delay = Delay(checked, None if seconds is None else round(seconds * 1000), until_ms)
    await carry_out(
        rt,
        site,
        SET_DELAY,
        (checked, management.set_delay, lambda record: replace(delay, record=record)),
        _itself,
    )


@verb(step_ids=1)
async def update_workflow_attributes(
    rt: Runtime,
    site: Site,
    workflow_id: str,
    attributes: dict[str, Any] | None,
    *,
    merge: bool = False,
) -> None:
    """Replace a workflow's attributes; durable when this returns. An unknown id is ignored.

    Args:
        attributes: the whole dict; None clears it.
        merge: change the given keys only, and keep the others.

    Raises:
        DBOSInvalidInputError: the attributes must be a dict, and JSON-serializable.
    """
    change = AttributeChange(
        validation.workflow_id(workflow_id),
        validation.attributes(attributes),
        validation.flag(merge, "merge"),
    )
    await carry_out(
        rt,
        site,
        UPDATE_ATTRIBUTES,
        (
            change.workflow_id,
            management.change_attributes,
            lambda record: replace(change, record=record),
        ),
        _itself,
    )


async def _cancel(rt: Runtime, site: Site, command: Command) -> None:
    answer = await _command(rt, site, CANCEL, management.cancel, command)
    _dismiss(rt, answer, "cancelled")


async def _delete(rt: Runtime, site: Site, command: Command) -> None:
    answer = await _command(rt, site, DELETE, management.delete, command)
    _dismiss(rt, answer, "lost")
    if answer is not None and rt.engine.transactor is not None:
        # Afterwards: a record that is gone while its run is there would have its effects twice.
        deleted = {*command.workflow_ids, *(workflow_id for workflow_id, _ in answer.changed)}
        await rt.engine.transactor.forget(rt, sorted(deleted))


def _dismiss(rt: Runtime, answer: Commanded | None, reason: Literal["cancelled", "lost"]) -> None:
    """Tell the attempts in this process at once; others hear of it within about a second."""
    if answer is None:
        return
    for workflow_id, claim in answer.changed:
        attempt = rt.engine.running.get(workflow_id)
        if attempt is not None and attempt.claim == claim:
            rt.engine.dismiss(attempt, reason)


def _ids(workflow_ids: Sequence[str], with_children: object, name: str) -> Command:
    return Command(_distinct(workflow_ids), validation.flag(with_children, name))


def _distinct(workflow_ids: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(validation.workflow_ids(workflow_ids)))


async def _command(
    rt: Runtime, site: Site, name: str, write: Write[Command, Commanded], command: Command
) -> Commanded | None:
    if not command.workflow_ids and site.run is None:
        refuse_in_transaction(site, name)
        return None
    lane_key = next(iter(command.workflow_ids), "")
    return await carry_out(
        rt,
        site,
        name,
        (lane_key, write, lambda record: replace(command, record=record)),
        lambda answer: answer.recorded,
    )


def _itself(recorded: Recorded | None) -> Recorded | None:
    return recorded
