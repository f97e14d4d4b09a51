"""Counts steps of asyncio workflows gathered many at a time. Parameters: seconds, tasks."""

from __future__ import annotations

import asyncio
import time

from bench.work.program import launched, parameters, report, rounds
from dbos import DBOS

STEPS = 10


@DBOS.step()
async def add_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
async def chain() -> int:
    number = 0
    for _ in range(STEPS):
        number = await add_one(number)
    return number


async def steps_per_second(tasks: int, seconds: float) -> float:
    await asyncio.gather(*(chain() for _ in range(20)))
    started = time.perf_counter()
    steps = 0
    for _ in rounds(seconds):
        steps += sum(await asyncio.gather(*(chain() for _ in range(tasks))))
    return steps / (time.perf_counter() - started)


def main() -> None:
    given = parameters()
    with launched():
        figure = asyncio.run(steps_per_second(int(given["tasks"]), given["seconds"]))
    report({"steps_per_s": figure})


if __name__ == "__main__":
    main()
