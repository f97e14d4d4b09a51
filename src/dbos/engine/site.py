"""Where an operation was called: its run and reserved step ids, and the recording around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from dbos.engine.context import OUTSIDE, Scope, current_scope
from dbos.engine.outcome import Success
from dbos.engine.steps import Operation, once, record
from dbos.errors import DBOSUsageError
from dbos.storage import steps

if TYPE_CHECKING:
    from dbos.engine.engine import Runtime
    from dbos.engine.execution import Execution

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Site:
    """The place of a call, fixed when the call was made."""

    scope: Scope
    run: Execution | None
    """The run, if the call was made in workflow code: only there are operations recorded."""
    step_id: int
    """The first reserved step id; 0 where nothing is recorded."""


NOWHERE: Final = Site(OUTSIDE, None, 0)
"""The place of every call of a client: nothing is recorded, and no block around it counts."""


def here(step_ids: int) -> Site:
    """The place of a call being made now, with its step ids reserved."""
    scope = current_scope()
    run = scope.workflow
    return Site(scope, run, run.take_step_ids(step_ids) if run and step_ids else 0)


async def recorded_operation(
    rt: Runtime,
    site: Site,
    name: str,
    action: Callable[[], Awaitable[R]],
    *,
    child: str | None = None,
) -> R:
    """In workflow code return the recorded answer, or act and record it; elsewhere just act.

    Only success is recorded: a failure passes through and is met again on replay.
    """
    run = site.run
    if run is None:
        return await action()

    async def perform(operation: Operation) -> R:
        outcome = await record(rt, run, operation, Success(await action()), steps.record_wait)
        value: R = outcome.resolve()
        return value

    return await once(rt, run, site.step_id, name, perform)


def refuse_in_transaction(site: Site, recorded_name: str) -> None:
    """Most operations would wait for the very database that the transaction holds."""
    step = site.scope.step
    if step is not None and step.kind == "transaction":
        raise DBOSUsageError(f"Invalid call to `{recorded_name}` inside a transaction")


def only_in_workflow(site: Site, call: str) -> Execution:
    """The run of a call that makes sense in workflow code alone."""
    if site.run is None:
        raise DBOSUsageError(f"{call}() must be called from within a workflow")
    return site.run
