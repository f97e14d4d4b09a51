"""Times workflows called directly, one after another. Parameters: seconds, steps."""

from __future__ import annotations

import time

from bench.work.program import latencies, launched, parameters, report, rounds
from dbos import DBOS


@DBOS.step()
def add_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
def chain(steps: int) -> int:
    number = 0
    for _ in range(steps):
        number = add_one(number)
    return number


def main() -> None:
    given = parameters()
    steps = int(given["steps"])
    durations: list[float] = []
    with launched():
        for _ in range(5):
            chain(steps)
        for _ in rounds(given["seconds"], at_least=10):
            started = time.perf_counter()
            chain(steps)
            durations.append(time.perf_counter() - started)
    report(latencies(durations))


if __name__ == "__main__":
    main()
