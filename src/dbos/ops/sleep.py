"""Durable sleep: the wake time is committed before the wait begins."""

from __future__ import annotations

from dbos import validation
from dbos.engine.engine import Runtime
from dbos.engine.execution import Execution
from dbos.engine.replay import Sleeper
from dbos.engine.site import Site, only_in_workflow
from dbos.engine.steps import commit_owned, itself, recorded_step, sleep_row
from dbos.ops.verb import counted_verb
from dbos.serialization.codec import Stored
from dbos.storage import steps
from dbos.storage.rows import RecordedStep
from dbos.telemetry import log

SLEEP = "DBOS.sleep"


def _step_ids(seconds: float) -> int:
    return 1 if validation.sleep_seconds(seconds) > 0 else 0


@counted_verb(_step_ids)
async def sleep(rt: Runtime, site: Site, seconds: float) -> None:
    """Sleep durably in workflow code; a restarted workflow sleeps only the rest.

    The absolute wake time, by the database's clock, is committed before the wait begins. Zero or
    less returns at once and is not recorded.

    Args:
        seconds: how long, finite, at most 100 years.

    Raises:
        DBOSUsageError: called outside workflow code.
        DBOSInvalidInputError: not a finite number.
    """
    run = only_in_workflow(site, "sleep")
    if site.step_id == 0:
        return
    await run.ensure_alive(rt)
    run.in_flight += 1
    try:
        known = recorded_step(run, site.step_id, SLEEP)
        started_at_ms = rt.io.now_ms()
        wake_at_ms = _recorded_wake_time(rt, known) if known else _later(started_at_ms, seconds)
        with (
            rt.engine.hub.watch(run.stopped) as bell,
            run.replay.asleep(wake_at_ms, bell) as sleeper,
        ):
            if known is None:
                log.running_step(SLEEP)
                row = sleep_row(rt, run, site.step_id, started_at_ms, wake_at_ms)
                await commit_owned(rt, run, steps.record, row, itself)
            else:
                log.replaying_step(SLEEP)
            await _sleep_out(rt, run, sleeper)
            is_alone = known is None and run.in_flight == 1
            await run.replay.wake(rt.io, sleeper, is_alone=is_alone)
    finally:
        run.in_flight -= 1


def _recorded_wake_time(rt: Runtime, known: RecordedStep) -> int:
    where = Stored(known.workflow_id, known.step_id, "output")
    wake_at_s: float = rt.engine.codec.load(known.output, known.serialization, where)
    return round(wake_at_s * 1000)


def _later(now_ms: int, seconds: float) -> int:
    return now_ms + round(seconds * 1000)


async def _sleep_out(rt: Runtime, run: Execution, sleeper: Sleeper) -> None:
    while not sleeper.is_called and (left_ms := sleeper.wake_at_ms - rt.io.now_ms()) > 0:
        await rt.io.wait(sleeper.bell, left_ms / 1000)
        await run.ensure_alive(rt)
