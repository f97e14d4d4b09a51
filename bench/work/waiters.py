"""Weighs many asyncio workflows that wait for a message. Parameters: waiters, budget_s.

It stops starting more when the time budget is used up, and reports how many there are by then.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

from bench.work.program import config, parameters, report
from dbos import DBOS

BATCH = 100


@DBOS.workflow()
async def wait_for_message() -> None:
    await DBOS.recv_async("bench", timeout_seconds=3600)


def resident_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


async def start_waiters(wanted: int, budget_s: float) -> dict[str, float]:
    await asyncio.gather(*(DBOS.start_workflow_async(wait_for_message) for _ in range(10)))
    before = resident_kib()
    started = time.perf_counter()
    count = 0
    while count < wanted and time.perf_counter() - started < budget_s:
        await asyncio.gather(*(DBOS.start_workflow_async(wait_for_message) for _ in range(BATCH)))
        count += BATCH
    elapsed = time.perf_counter() - started
    # Starts return before the bodies reach their wait; a moment of idling lets them.
    await asyncio.sleep(2)
    return {
        "waiting": count,
        "kib_each": (resident_kib() - before) / count,
        "threads": threading.active_count(),
        "starts_per_s": count / elapsed,
    }


def main() -> None:
    given = parameters()
    DBOS(config=config())
    DBOS.launch()

    async def measure() -> None:
        report(await start_waiters(int(given["waiters"]), given["budget_s"]))
        # Thousands of waits are not worth ending one by one.
        os._exit(0)

    asyncio.run(measure())


if __name__ == "__main__":
    main()
