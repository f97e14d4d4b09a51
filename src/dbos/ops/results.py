"""Results, status and handles of runs, by id."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from dbos import validation
from dbos.engine.engine import Runtime
from dbos.engine.results import RECHECK_S, await_outcome
from dbos.engine.site import Site, recorded_operation, refuse_in_transaction
from dbos.engine.starts import GET_RESULT, Awaited, recorded_result
from dbos.errors import DBOSInvalidInputError, DBOSNonExistentWorkflowError
from dbos.models import WorkflowFilter, WorkflowStatus
from dbos.ops.inspection import current_list
from dbos.ops.statuses import status_from_record, status_to_record
from dbos.ops.verb import verb
from dbos.storage import workflows
from dbos.storage.protocol import Topic

GET_STATUS = "DBOS.getStatus"
WAIT_FIRST = "DBOS.waitFirst"


@verb(step_ids=1)
async def get_result(rt: Runtime, site: Site, workflow_id: str) -> Any:
    """Wait for a workflow to end, and return its result or raise its error.

    An id without a workflow is waited for. In workflow code the result is recorded: a replay
    returns the same value, whatever became of the workflow since.

    Raises:
        DBOSAwaitedWorkflowCancelledError: it was cancelled.
        DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded: it is dead-lettered.
        DBOSNonExistentWorkflowError: it was deleted meanwhile.
        DBOSUsageError: called inside a transaction.
    """
    validation.workflow_id(workflow_id)
    refuse_in_transaction(site, GET_RESULT)
    if site.run is None:
        return await await_outcome(rt, workflow_id)
    return await recorded_result(rt, site.run, site.step_id, Awaited(workflow_id, by_handle=False))


async def first_ended(
    rt: Runtime, site: Site, workflow_ids: Sequence[str], recheck_s: float
) -> str:
    """The id of the first of these workflows that has ended; recorded in workflow code."""
    if len(set(workflow_ids)) != len(workflow_ids):
        raise DBOSInvalidInputError("handles have duplicate workflow IDs: pass each one once")
    refuse_in_transaction(site, WAIT_FIRST)
    waiter = site.run

    async def wait() -> str:
        topics = [Topic("done", workflow_id) for workflow_id in workflow_ids]
        with ExitStack() as watches:
            others = topics[1:] if waiter is None else [*topics[1:], waiter.stopped]
            bell = watches.enter_context(
                rt.engine.hub.watch(topics[0], workflow_ids[0], also=others)
            )
            for topic in topics[1:]:
                watches.enter_context(rt.engine.hub.watch(topic, topic.key))
            while True:
                ended = set(await rt.io.read(workflows.ended, list(workflow_ids)))
                for workflow_id in workflow_ids:
                    if workflow_id in ended:
                        return workflow_id
                # The lookout looks once a second for all who wait; only more often is our own work.
                await rt.io.wait(bell, None if recheck_s >= RECHECK_S else recheck_s)
                if waiter is not None:
                    await waiter.ensure_alive(rt)

    return await recorded_operation(rt, site, WAIT_FIRST, wait)


@verb(step_ids=1)
async def get_workflow_status(rt: Runtime, site: Site, workflow_id: str) -> WorkflowStatus | None:
    """The workflow's status as it stands in the database; None if there is no such workflow.

    In workflow code the answer is recorded. Waits for nothing.
    """
    validation.workflow_id(workflow_id)
    refuse_in_transaction(site, GET_STATUS)

    async def look() -> dict[str, Any] | None:
        return status_to_record(await current_status(rt, workflow_id))

    return status_from_record(await recorded_operation(rt, site, GET_STATUS, look))


async def existing_status(rt: Runtime, site: Site, workflow_id: str) -> WorkflowStatus:
    """The status of a workflow that must exist; recorded in workflow code."""
    validation.workflow_id(workflow_id)
    refuse_in_transaction(site, GET_STATUS)

    async def look() -> dict[str, Any] | None:
        status = await current_status(rt, workflow_id)
        if status is None:
            raise DBOSNonExistentWorkflowError("target", workflow_id)
        return status_to_record(status)

    status = status_from_record(await recorded_operation(rt, site, GET_STATUS, look))
    assert status is not None
    return status


async def current_status(rt: Runtime, workflow_id: str) -> WorkflowStatus | None:
    """The status of a workflow as the database has it now."""
    found = await current_list(rt, WorkflowFilter(workflow_ids=(workflow_id,)))
    return found[0] if found else None
