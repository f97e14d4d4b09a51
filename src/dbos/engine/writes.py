"""Writes that a run makes for others to see: recorded, or in a step under its claim alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from dbos.engine.execution import Execution
from dbos.engine.site import Site, refuse_in_transaction
from dbos.engine.steps import Operation, commit_in_order, commit_owned, itself, once, step_row
from dbos.errors import DBOSUsageError
from dbos.serialization.codec import WorkflowSerializationFormat, requested_format
from dbos.storage.protocol import Write
from dbos.storage.rows import Recorded, StepRow

if TYPE_CHECKING:
    from dbos.engine.engine import Runtime

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RunWrite:
    """Where a write belongs: its run, the operation it counts to, and that operation's record."""

    run: Execution
    function_id: int
    record: StepRow | None
    """None in a step: the step's own record comes later."""
    format: str


async def write_in_run(
    rt: Runtime,
    site: Site,
    name: str,
    write: Write[A, Recorded],
    argument: Callable[[RunWrite], A],
    requested: WorkflowSerializationFormat | None = None,
) -> None:
    """Commit a write of the run around a call; in workflow code exactly once, with its record."""
    run, step = site.scope.run, site.scope.step
    if run is None or (step is not None and step.kind == "transaction"):
        call = name.removeprefix("DBOS.")
        verb = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in call)
        raise DBOSUsageError(f"{verb}() must be called from within a workflow or step")
    format = rt.engine.codec.format_for(requested_format(requested), run.format)
    if step is not None:
        await run.ensure_alive(rt)
        unrecorded = argument(RunWrite(run, step.step_id, None, format))
        await commit_owned(rt, run, write, unrecorded, itself)
        return

    async def perform(operation: Operation) -> None:
        row = step_row(rt, run, operation, output=None, error=None)
        recorded = argument(RunWrite(run, site.step_id, row, format))
        await commit_in_order(rt, run, write, recorded, itself)

    await once(rt, run, site.step_id, name, perform)


async def carry_out(
    rt: Runtime,
    site: Site,
    name: str,
    command: tuple[str, Write[A, R], Callable[[StepRow | None], A]],
    verdict_of: Callable[[R], Recorded | None],
) -> R | None:
    """Commit a command; in workflow code together with its record, and not again on replay.

    The command is its lane key, its write, and the argument made around the record. Its answer is
    None on replay.
    """
    refuse_in_transaction(site, name)
    lane_key, write, argument = command
    run = site.run
    if run is None:
        return await rt.io.commit(write, argument(None), lane_key)

    async def perform(operation: Operation) -> R | None:
        row = step_row(rt, run, operation, output=None, error=None)
        return await commit_in_order(rt, run, write, argument(row), verdict_of)

    return await once(rt, run, site.step_id, name, perform)
