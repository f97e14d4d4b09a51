"""The asyncio driver: operations suspend in the caller's task; no loop blocks on a database."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

from dbos.engine.io import Call, Preempted, Signal, TimeLimit
from dbos.runtime.committer import Committer, Ticket
from dbos.runtime.reader import Reader
from dbos.runtime.threads import WorkerThreads
from dbos.runtime.wakeups import Bell
from dbos.storage.protocol import Topic, Write

A = TypeVar("A")
R = TypeVar("R")

# How many turns of the loop follow from one outcome before the next one is delivered
# (engine/replay). A finished task wakes its awaiter in two turns; eight cover gathers within
# gathers within task groups.
SETTLING_TURNS = 8


class AsyncIo:
    """`Io` for asyncio callers."""

    cooperative = True
    waits = True

    def __init__(self, reader: Reader, committer: Committer, threads: WorkerThreads) -> None:
        self._reader = reader
        self._committer = committer
        self._threads = threads
        self.now_ms: Callable[[], int] = reader.now_ms

    def call(self, call: Call) -> Awaitable[Any]:
        if call.is_async:
            coroutine: Awaitable[Any] = call.function(*call.args, **call.kwargs)
            return coroutine
        return self._on_a_thread(call)

    async def call_within(self, call: Call, timeout_s: float | None, stop: Signal | None) -> Any:
        __tracebackhide__ = True
        return await call_within(call, timeout_s, stop)

    async def read(self, query: Callable[..., R], /, *args: Any) -> R:
        return cast("R", await asyncio.wrap_future(self._reader.submit(query, *args)))

    def commit(self, write: Write[A, R], arg: A, lane_key: str) -> Awaitable[R]:
        ticket = _LoopTicket(write, arg, asyncio.get_running_loop())
        self._committer.submit(lane_key, ticket)
        return ticket.future

    async def commit_last(self, write: Write[A, R], arg: A, lane_key: str) -> R:
        return await self.commit(write, arg, lane_key)

    async def commit_carried(
        self,
        write: Write[A, R],
        arg: A,
        commit: Callable[[], Awaitable[R]],
        topics: Sequence[Topic] = (),
    ) -> R:
        answer = await commit()
        self._committer.publish(topics)
        return answer

    def lane(self, lane_key: str) -> AbstractContextManager[None]:
        return self._committer.held(lane_key)

    def post(self, write: Write[A, R], arg: A, lane_key: str) -> None:
        self._committer.submit(lane_key, Ticket(write, arg))

    def signal(self) -> Bell:
        return Bell()

    async def wait(self, signal: Signal, seconds: float | None) -> bool:
        assert isinstance(signal, Bell)
        loop = asyncio.get_running_loop()
        rung: asyncio.Future[None] = loop.create_future()
        if _arm(signal, loop, rung):
            timer = None if seconds is None else loop.call_later(max(0.0, seconds), _set, rung)
            try:
                await rung
            finally:
                if timer is not None:
                    timer.cancel()
                if rung.cancelled():
                    signal.disarm()
        return signal.disarm()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def settle(self) -> None:
        for _ in range(SETTLING_TURNS):
            await asyncio.sleep(0)

    def is_abandonment(self, error: BaseException) -> bool:
        return isinstance(error, asyncio.CancelledError | GeneratorExit)

    async def _on_a_thread(self, call: Call) -> Any:
        context = contextvars.copy_context()
        future = self._threads.submit(lambda: context.run(call.function, *call.args, **call.kwargs))
        return await asyncio.wrap_future(future)


async def call_within(call: Call, timeout_s: float | None, stop: Signal | None) -> Any:
    """Run a coroutine function as a task, under a time limit and until a bell stops it."""
    __tracebackhide__ = True
    loop = asyncio.get_running_loop()
    task = loop.create_task(call.function(*call.args, **call.kwargs))
    stopped: asyncio.Future[None] = loop.create_future()
    if isinstance(stop, Bell) and not _arm(stop, loop, stopped):
        stopped.set_result(None)
    watched: set[asyncio.Future[Any]] = {task, stopped}
    try:
        await asyncio.wait(watched, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await _cancel_and_end(task)
        raise
    finally:
        stopped.cancel()
    if task.done():
        return task.result()
    preempted = isinstance(stop, Bell) and stop.disarm()
    cause = await _cancel_and_end(task)
    if preempted:
        raise Preempted
    raise TimeLimit from cause


class _LoopTicket(Ticket):
    """A ticket whose answer goes to a future of a loop."""

    __slots__ = ("future", "loop")

    def __init__(self, write: Write[Any, Any], arg: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(write, arg)
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()


def settle_all(tickets: Sequence[Ticket]) -> None:
    """Give all answers of a batch, with one call into each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_LoopTicket]] = {}
    for ticket in tickets:
        if isinstance(ticket, _LoopTicket):
            by_loop.setdefault(ticket.loop, []).append(ticket)
        else:
            ticket.settle()
    for loop, settled in by_loop.items():
        _call_into(loop, _resolve, settled)


def _resolve(tickets: Iterable[_LoopTicket]) -> None:
    for ticket in tickets:
        # A cancelled task abandons the answer, never the write.
        if ticket.future.done():
            continue
        if ticket.error is not None:
            ticket.future.set_exception(ticket.error)
        else:
            ticket.future.set_result(ticket.answer)


def _arm(bell: Bell, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> bool:
    def wake() -> None:
        _call_into(loop, _set, future)

    return bell.arm(wake)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _call_into(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], arg: Any) -> None:
    """Call into a loop from any thread. A loop that was closed has nobody left to tell."""
    try:
        loop.call_soon_threadsafe(callback, arg)
    except RuntimeError:
        if not loop.is_closed():
            raise


async def _cancel_and_end(task: asyncio.Task[Any]) -> BaseException | None:
    """Cancel a task and await its end; the error it ended with, if any."""
    task.cancel()
    await asyncio.wait((task,))
    return None if task.cancelled() else task.exception()
