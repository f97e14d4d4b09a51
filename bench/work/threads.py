"""Counts steps of workflows called from many threads at once. Parameters: seconds, threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from bench.work.program import launched, parameters, report, rounds
from dbos import DBOS

STEPS = 10


@DBOS.step()
def add_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
def chain() -> int:
    number = 0
    for _ in range(STEPS):
        number = add_one(number)
    return number


def call_repeatedly(start: threading.Barrier, seconds: float) -> int:
    chain()
    start.wait()
    return sum(chain() for _ in rounds(seconds))


def main() -> None:
    given = parameters()
    threads = int(given["threads"])
    start = threading.Barrier(threads + 1)
    with launched(), ThreadPoolExecutor(threads) as pool:
        calls = [pool.submit(call_repeatedly, start, given["seconds"]) for _ in range(threads)]
        start.wait()
        started = time.perf_counter()
        steps = sum(call.result() for call in calls)
        elapsed = time.perf_counter() - started
    report({"steps_per_s": steps / elapsed})


if __name__ == "__main__":
    main()
