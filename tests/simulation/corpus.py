"""The workflows of the simulation: each says what it returns, whatever interrupts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dbos import DBOS
from dbos.engine.context import current_scope
from dbos.engine.registry import Registration, Registry
from dbos.testing.sim_io import SimIo
from dbos.testing.sim_loop import gather
from tests.simulation.conversations import collect, digits_up_to, talk, tick


class Declined(Exception):
    """A step's ordinary failure."""


async def linger(seconds: float) -> None:
    """Take time inside a step, as a request to another service does."""
    run = current_scope().run
    assert run is not None
    io = run.engine.aio.io
    assert isinstance(io, SimIo)
    await io.sleep(seconds)


@DBOS.step(name="sim.add")
async def add(total: int, number: int) -> int:
    return total + number


@DBOS.step(name="sim.ship")
async def ship(number: int, seconds: float) -> int:
    await linger(seconds)
    return number * 10


@DBOS.step(name="sim.decline")
async def decline(number: int) -> int:
    await linger(0.01)
    raise Declined(f"declined {number}")


@DBOS.step(name="sim.falter", retries_allowed=True, max_attempts=3, interval_seconds=0.5)
async def falter(number: int) -> int:
    status = DBOS.step_status
    assert status is not None
    if status.current_attempt != 2:
        raise Declined("not yet")
    return number


@DBOS.step(name="sim.keep")
async def keep(seen: list[int]) -> list[int]:
    return seen


@DBOS.workflow(name="sim.sum")
async def sum_up(count: int) -> int:
    total = 0
    for number in range(count + 2):
        total = await add(total, number)
    return total


@DBOS.workflow(name="sim.slow")
async def slow(count: int) -> int:
    first = await ship(count, 2.0)
    await DBOS.sleep_async(3.0 * count)
    return first + await ship(count + 1, 12.0)


@DBOS.workflow(name="sim.failing")
async def failing(count: int) -> int:
    try:
        await decline(count)
    except Declined:
        await add(1, count)
    await DBOS.sleep_async(1.0)
    return await decline(count + 1)


@DBOS.workflow(name="sim.retrying")
async def retrying(count: int) -> int:
    return await falter(count) + await add(count, 1)


@DBOS.workflow(name="sim.family")
async def family(count: int) -> int:
    handle = await DBOS.start_workflow_async(sum_up, count)
    direct: int = await slow(1)
    return direct + await handle.get_result()


@DBOS.workflow(name="sim.parallel")
async def parallel(count: int) -> int:
    """Whose tasks interleave: the order seen by the first attempt must be seen by every other."""
    seen: list[int] = []

    async def branch(number: int) -> int:
        total = 0
        for part in range(2):
            await DBOS.sleep_async(0.4 * part * (5 - number))
            total += await ship(number + part, 0.5 * number)
            seen.append(number)
        return total

    totals = await gather(*(branch(number) for number in range(1, count + 2)))
    kept = await keep(list(seen))
    return sum(totals) if kept == seen else -1


@DBOS.workflow(name="sim.tree")
async def tree(count: int) -> int:
    """Children started from tasks of their own."""
    values: list[int] = await gather(*(sum_up(number) for number in range(count + 1)))
    return sum(values) + await add(count, 1)


@DBOS.workflow(name="sim.pondering")
async def pondering(count: int) -> int:
    """Which takes its time after its last step, and again in each attempt."""
    total = await add(count, 1)
    await linger(4.0 * count)
    return total * 2


CORPUS = (sum_up, slow, failing, retrying, family, parallel, tree, pondering, talk)
_STEPS = (add, ship, decline, falter, keep, collect, tick)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run must come to."""

    value: int | None
    error: str | None = None


def expected(name: str, count: int) -> Expected:
    """The outcome of a workflow of the corpus, computed by hand and not by the engine."""
    sums = {number: sum(range(number + 2)) for number in range(count + 1)}
    slow_value = count * 10 + (count + 1) * 10
    match name:
        case "sim.sum":
            return Expected(sums[count])
        case "sim.slow":
            return Expected(slow_value)
        case "sim.failing":
            return Expected(None, f"declined {count + 1}")
        case "sim.retrying":
            return Expected(count + count + 1)
        case "sim.family":
            return Expected(30 + sums[count])
        case "sim.talk" | "sim.collect":
            return Expected(digits_up_to(count))
        case "sim.pondering":
            return Expected(2 * (count + 1))
        case "sim.parallel":
            return Expected(sum(20 * number + 10 for number in range(1, count + 2)))
        case _:
            return Expected(sum(sums.values()) + count + 1)


def registration(function: Callable[..., Any]) -> Registration:
    found: Registration = function.__dbos_registration__  # type: ignore[attr-defined]
    return found


def registry() -> Registry:
    """The corpus alone, whatever else this process has registered."""
    known = Registry()
    for function in (*CORPUS, *_STEPS):
        known.add(registration(function))
    return known
