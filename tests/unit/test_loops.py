"""Event loops: what a cancellation before the first turn, or a bell that has rung, comes to."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dbos.engine.io import Call, Preempted
from dbos.runtime.aio import call_within
from dbos.runtime.loops import LoopHouse
from dbos.runtime.wakeups import Bell


def test_the_end_of_a_task_is_told_even_if_it_never_had_a_turn() -> None:
    ran: list[str] = []

    async def operation() -> None:
        ran.append("operation")

    async def scenario() -> None:
        LoopHouse().spawn_here(operation(), lambda: ran.append("end"))
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.01)

    asyncio.run(scenario())

    assert ran == ["end"]


def test_the_end_of_a_task_on_our_own_loop_is_told_when_the_loop_stops() -> None:
    house = LoopHouse()
    begun, ended = threading.Event(), threading.Event()

    async def operation() -> None:
        begun.set()
        await asyncio.sleep(3600)

    house.spawn(operation, ended.set)
    assert begun.wait(10)
    house.stop()

    assert ended.wait(10)


def test_a_bell_that_rang_before_the_step_began_stops_it() -> None:
    bell = Bell()
    bell.ring()

    async def endless() -> None:
        await asyncio.sleep(3600)

    async def scenario() -> None:
        await asyncio.wait_for(call_within(Call(endless, (), {}, True), None, bell), 10)

    with pytest.raises(Preempted):
        asyncio.run(scenario())


def test_a_cancelled_coroutine_is_no_error_of_user_code() -> None:
    house = LoopHouse()

    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        house.run_to_end(cancelled())
    house.stop()
