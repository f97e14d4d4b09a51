"""Weighs many workflows that wait for a message, then sends them all one.

Parameters: waiters, budget_s, blocking, idle_s. It stops starting more when the time budget is used
up, and reports how many there are by then. `blocking=1` takes sync workflows instead of asyncio
ones. With `idle_s` the statements of that long an idle time are counted, on PostgreSQL; that needs
a relay, so memory is not looked at then.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

from bench.work.program import (
    DATABASE_VARIABLE,
    config,
    database_url,
    finished_runs,
    parameters,
    report,
)
from bench.work.statement_count import StatementCounter
from dbos import DBOS

BATCH = 100
FIRST = 10
LONGEST_END_S = 60.0


@DBOS.workflow()
async def wait_for_message() -> None:
    await DBOS.recv_async("bench", timeout_seconds=3600)


@DBOS.workflow()
def wait_blocking() -> None:
    DBOS.recv("bench", timeout_seconds=3600)


async def start_batch(size: int, *, blocking: bool) -> list[str]:
    if blocking:
        starts = [asyncio.to_thread(DBOS.start_workflow, wait_blocking) for _ in range(size)]
        return [handle.workflow_id for handle in await asyncio.gather(*starts)]
    tasks = [DBOS.start_workflow_async(wait_for_message) for _ in range(size)]
    return [handle.workflow_id for handle in await asyncio.gather(*tasks)]


def resident_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


async def start_waiters(
    wanted: int, budget_s: float, *, blocking: bool
) -> tuple[list[str], dict[str, float]]:
    waiters = await start_batch(FIRST, blocking=blocking)
    before = resident_kib()
    started = time.perf_counter()
    while len(waiters) - FIRST < wanted and time.perf_counter() - started < budget_s:
        waiters += await start_batch(BATCH, blocking=blocking)
    count = len(waiters) - FIRST
    elapsed = time.perf_counter() - started
    # Starts return before the bodies reach their wait; a moment of idling lets them.
    await asyncio.sleep(2)
    return waiters, {
        "waiting": count,
        "kib_each": (resident_kib() - before) / count,
        "threads": threading.active_count(),
        "starts_per_s": count / elapsed,
    }


async def end_waiters(waiters: list[str]) -> dict[str, float]:
    """Send each its message, and wait until all have finished; for a limited time."""
    began = time.perf_counter()
    with finished_runs() as count_finished:
        for first in range(0, len(waiters), BATCH):
            batch = waiters[first : first + BATCH]
            await asyncio.gather(*(DBOS.send_async(waiter, "go", "bench") for waiter in batch))
        while (finished := count_finished()) < len(waiters):
            if time.perf_counter() - began > LONGEST_END_S:
                break
            await asyncio.sleep(0.05)
    elapsed = time.perf_counter() - began
    return {"ended_per_s": finished / elapsed, "unfinished": len(waiters) - finished}


async def measure(counter: StatementCounter | None) -> None:
    given = parameters()
    wanted, budget_s, blocking = int(given["waiters"]), given["budget_s"], "blocking" in given
    waiters, figures = await start_waiters(wanted, budget_s, blocking=blocking)
    if counter is not None:
        before = counter.count
        await asyncio.sleep(given["idle_s"])
        figures["statements_per_s"] = (counter.count - before) / given["idle_s"]
    figures |= await end_waiters(waiters)
    report(figures)
    # A package that could not end them all is not waited for.
    os._exit(0)


def main() -> None:
    counter: StatementCounter | None = None
    if "idle_s" in parameters() and database_url().startswith("postgresql"):
        counter = StatementCounter(database_url())
        os.environ[DATABASE_VARIABLE] = counter.url
    DBOS(config=config())
    DBOS.launch()
    asyncio.run(measure(counter))


if __name__ == "__main__":
    main()
