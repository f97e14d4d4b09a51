"""Durable sleep: the wake time is committed before the wait begins."""

from __future__ import annotations

from dbos import validation
from dbos.engine.engine import Runtime
from dbos.engine.execution import Execution
from dbos.engine.site import Site, only_in_workflow
from dbos.engine.steps import commit_owned, itself, recorded_step, sleep_row
from dbos.ops.verb import counted_verb
from dbos.serialization.codec import Stored
from dbos.storage import steps
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
        wake_at_ms = await _wake_time(rt, run, site.step_id, seconds)
        await _sleep_until(rt, run, wake_at_ms)
    finally:
        run.in_flight -= 1


async def _wake_time(rt: Runtime, run: Execution, step_id: int, seconds: float) -> int:
    known = recorded_step(run, step_id, SLEEP)
    if known is not None:
        log.replaying_step(SLEEP)
        where = Stored(run.workflow_id, step_id, "output")
        wake_at_s: float = rt.engine.codec.load(known.output, known.serialization, where)
        return round(wake_at_s * 1000)
    log.running_step(SLEEP)
    started_at_ms = rt.io.now_ms()
    wake_at_ms = started_at_ms + round(seconds * 1000)
    row = sleep_row(rt, run, step_id, started_at_ms, wake_at_ms)
    await commit_owned(rt, run, steps.record, row, itself)
    return wake_at_ms


async def _sleep_until(rt: Runtime, run: Execution, wake_at_ms: int) -> None:
    with rt.engine.hub.watch(run.stopped) as bell:
        while (remaining_ms := wake_at_ms - rt.io.now_ms()) > 0:
            await rt.io.wait(bell, remaining_ms / 1000)
            await run.ensure_alive(rt)
