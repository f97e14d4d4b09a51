"""The blocking driver: an operation does its work on the caller's thread and never suspends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from dbos.engine.io import Call, Signal
from dbos.runtime.aio import call_within
from dbos.runtime.committer import Committer, Ticket
from dbos.runtime.drive import Parked
from dbos.runtime.loops import LoopHouse
from dbos.runtime.reader import Reader
from dbos.runtime.threads import WorkerThreads
from dbos.runtime.wakeups import Bell
from dbos.storage.protocol import Topic, Write

A = TypeVar("A")
R = TypeVar("R")


class BlockingIo:
    """`Io` for sync callers."""

    cooperative = False
    waits = True

    def __init__(
        self, reader: Reader, committer: Committer, loops: LoopHouse, threads: WorkerThreads
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._loops = loops
        self._threads = threads

    async def call(self, call: Call) -> Any:
        __tracebackhide__ = True
        if call.is_async:
            return self._loops.run_to_end(call.function(*call.args, **call.kwargs))
        return call.function(*call.args, **call.kwargs)

    async def call_within(self, call: Call, timeout_s: float | None, stop: Signal | None) -> Any:
        __tracebackhide__ = True
        return self._loops.run_to_end(call_within(call, timeout_s, stop))

    async def read(self, query: Callable[..., R], /, *args: Any) -> R:
        return self._reader.run(query, *args)

    async def commit(self, write: Write[A, R], arg: A, lane_key: str) -> R:
        return self._committer.run(write, arg, lane_key)

    async def commit_last(self, write: Write[A, R], arg: A, lane_key: str) -> R:
        ticket = Ticket(write, arg)
        if not self._committer.commit_now(lane_key, ticket):
            await Parked(lambda: self._committer.submit(lane_key, ticket), ticket)
        answer: R = ticket.result()
        return answer

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
        rung = threading.Lock()
        rung.acquire()
        if signal.arm(rung.release):
            # A lock takes at most threading.TIMEOUT_MAX seconds; who waits longer looks again.
            limit = (
                threading.TIMEOUT_MAX if seconds is None else min(seconds, threading.TIMEOUT_MAX)
            )
            with self._threads.not_working():
                rung.acquire(timeout=max(0.0, limit))
        return signal.disarm()

    async def sleep(self, seconds: float) -> None:
        with self._threads.not_working():
            time.sleep(seconds)

    async def settle(self) -> None:
        return None

    def is_abandonment(self, error: BaseException) -> bool:
        return isinstance(error, asyncio.CancelledError | GeneratorExit)

    def now_ms(self) -> int:
        return self._reader.now_ms()
