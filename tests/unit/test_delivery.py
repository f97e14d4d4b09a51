"""The order in which outcomes reach the tasks of a run, at the edge of two operations at once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from dbos.engine.replay import Replay
from dbos.engine.steps import commit_in_order, itself
from dbos.runtime.aio import AsyncIo
from dbos.storage.steps import KEPT


class Answers(AsyncIo):
    """The driver of asyncio callers, with commits that are answered when a test says so."""

    def __init__(self) -> None:
        self.now_ms = lambda: 0
        self.open: dict[str, asyncio.Future[Any]] = {}

    def commit(self, write: Any, arg: Any, lane_key: str) -> asyncio.Future[Any]:
        return self.open.setdefault(arg, asyncio.get_running_loop().create_future())


def test_what_follows_an_outcome_comes_before_the_next_even_if_that_is_the_last_under_way() -> None:
    io, order = Answers(), list[str]()
    run: Any = SimpleNamespace(replay=Replay(), in_flight=0, workflow_id="run")
    rt = cast("Any", SimpleNamespace(io=io))

    async def operation(name: str) -> None:
        run.in_flight += 1
        await commit_in_order(rt, run, cast("Any", None), name, itself)
        run.in_flight -= 1
        if name == "first":
            io.open["second"].set_result(KEPT)

    async def first() -> None:
        await asyncio.create_task(operation("first"))
        order.append("first")

    async def second() -> None:
        while not io.open:
            await asyncio.sleep(0)
        await operation("second")
        order.append("second")

    async def scenario() -> None:
        tasks = asyncio.gather(first(), second())
        while len(io.open) < 2:
            await asyncio.sleep(0)
        io.open["first"].set_result(KEPT)
        await tasks

    asyncio.run(scenario())

    assert order == ["first", "second"]
