"""How far waits are from their nominal length when the wall clock jumps by an hour.

Parameters: wait_s, limit_s, by_s. The clock that Python programs read is moved while the waits are
under way; more waits begin after that. A wait that has not ended at the limit counts as that long.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from bench.work.program import config, parameters, report
from dbos import DBOS

SETTLING_S = 1.0


@DBOS.workflow()
def sleeping(seconds: float) -> None:
    DBOS.sleep(seconds)


@DBOS.workflow()
def receiving(seconds: float) -> None:
    DBOS.recv("bench", timeout_seconds=seconds)


@DBOS.workflow()
def reading(seconds: float) -> None:
    DBOS.get_event("nobody", "key", timeout_seconds=seconds)


WAITS: tuple[Callable[[float], None], ...] = (sleeping, receiving, reading)


def jump(by_s: float) -> None:
    read_s, read_ns = time.time, time.time_ns
    time.time = lambda: read_s() + by_s
    time.time_ns = lambda: read_ns() + round(by_s * 1e9)


def length_s(waiting: Callable[[float], None], seconds: float) -> float:
    started = time.perf_counter()
    waiting(seconds)
    return time.perf_counter() - started


def deviations_s(wait_s: float, limit_s: float, by_s: float) -> list[float]:
    with ThreadPoolExecutor(2 * len(WAITS)) as threads:
        futures: list[Future[float]] = [threads.submit(length_s, w, wait_s) for w in WAITS]
        time.sleep(SETTLING_S)
        jump(by_s)
        futures += [threads.submit(length_s, w, wait_s) for w in WAITS]
        wait(futures, timeout=limit_s)
        found = [abs((f.result() if f.done() else limit_s) - wait_s) for f in futures]
        report({"most_ms": 1000 * max(found)})
        # A wait that has not ended may last an hour: nobody waits for it.
        os._exit(0)


def main() -> None:
    given = parameters()
    DBOS(config=config())
    DBOS.launch()
    deviations_s(given["wait_s"], given["limit_s"], given["by_s"])


if __name__ == "__main__":
    main()
