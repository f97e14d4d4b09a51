"""Durable waits: a value that is looked for until a deadline that survives restarts.

A wait takes two step ids: the first records what was found, or that nothing came in time; the
second the deadline. Each look is one write that finds and records, so what was found is recorded
exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from dbos.engine.execution import Execution
from dbos.engine.steps import (
    DEADLINE_FORMAT,
    Operation,
    commit_owned,
    once,
    recorded_step,
    sleep_row,
    step_row,
)
from dbos.serialization.codec import Stored
from dbos.storage.protocol import Topic, Write
from dbos.storage.rows import Recorded
from dbos.storage.waits import Look, Seen

if TYPE_CHECKING:
    from dbos.engine.engine import Runtime

DEADLINE = "DBOS.sleep"


@dataclass(frozen=True, slots=True)
class DurableWait:
    """What to wait for, and the write that looks for it."""

    name: str
    """The name it is recorded under."""
    step_id: int
    timeout_s: float
    topic: Topic
    subject: tuple[str, ...]
    write: Write[Any, Seen]
    argument: Callable[[Look], Any]


async def wait_durably(rt: Runtime, run: Execution, wait: DurableWait) -> Any:
    """The value, as soon as it is there; None if it does not come in time."""

    async def look(operation: Operation) -> Any:
        seen = await _look_until_done(rt, run, wait, operation)
        where = Stored(run.workflow_id, wait.step_id, "output")
        return rt.engine.codec.load(seen.output, seen.serialization, where)

    return await once(rt, run, wait.step_id, wait.name, look)


async def _look_until_done(
    rt: Runtime, run: Execution, wait: DurableWait, operation: Operation
) -> Seen:
    started_at_ms = operation.started_at_ms
    deadline_ms = _recorded_deadline(rt, run, wait)
    is_first = deadline_ms is None
    if deadline_ms is None:
        deadline_ms = started_at_ms + round(wait.timeout_s * 1000)
    with rt.engine.hub.watch(wait.topic, *wait.subject, also=(run.stopped,)) as bell:
        while True:
            left_ms = deadline_ms - rt.io.now_ms()
            look = _look(rt, run, operation, is_last=left_ms <= 0)
            if is_first:
                row = sleep_row(rt, run, wait.step_id + 1, started_at_ms, deadline_ms)
                look = Look(look.found, row, look.missed)
                is_first = False
            seen = await _commit_look(rt, run, wait, look)
            if seen.is_done:
                return seen
            await rt.io.wait(bell, max(0.0, left_ms / 1000))
            await run.ensure_alive(rt)


def _look(rt: Runtime, run: Execution, operation: Operation, *, is_last: bool) -> Look:
    found = step_row(rt, run, operation, output=None, error=None)
    if not is_last:
        return Look(found)
    nothing = rt.engine.codec.dump(None, "result", rt.engine.codec.native)
    return Look(found, None, msgspec.structs.replace(found, output=nothing))


def _recorded_deadline(rt: Runtime, run: Execution, wait: DurableWait) -> int | None:
    known = recorded_step(run, wait.step_id + 1, DEADLINE)
    if known is None:
        return None
    where = Stored(run.workflow_id, wait.step_id + 1, "output")
    instant_s: float = rt.engine.codec.load(
        known.output, known.serialization or DEADLINE_FORMAT, where
    )
    return round(instant_s * 1000)


async def _commit_look(rt: Runtime, run: Execution, wait: DurableWait, look: Look) -> Seen:
    """One look. Its place in the order of delivery is that of its commit, if it found anything."""
    argument = wait.argument(look)
    if not rt.io.cooperative:
        return await commit_owned(rt, run, wait.write, argument, _verdict)
    place, delivered = run.replay.append_place(), run.replay.delivered
    is_delivered = False
    try:
        seen = await commit_owned(rt, run, wait.write, argument, _verdict)
        is_delivered = seen.is_done
    finally:
        if not is_delivered:
            run.replay.abandon(place)
    if seen.is_done and (run.in_flight > 1 or not run.replay.passes(place, delivered)):
        await run.replay.turn(rt.io, place, look.found.completed_at_epoch_ms)
    return seen


def _verdict(seen: Seen) -> Recorded:
    return seen.recorded
