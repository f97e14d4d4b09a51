"""The layer between an engine and a driver: numbers every effect, and interrupts where planned."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from dbos.engine.context import current_scope
from dbos.engine.io import Call, Io, Signal
from dbos.storage.protocol import Topic, Write
from dbos.testing.ledger import Ledger, subject
from dbos.testing.report import Effect
from dbos.testing.timeline import Crash, Timeline

A = TypeVar("A")
R = TypeVar("R")


class WatchedIo:
    """A driver whose every effect can be the last."""

    def __init__(self, inner: Io, timeline: Timeline, ledger: Ledger) -> None:
        self.cooperative: bool = inner.cooperative
        self.waits: bool = inner.waits
        self._inner = inner
        self._timeline = timeline
        self._ledger = ledger

    async def call(self, call: Call) -> Any:
        __tracebackhide__ = True
        with self._user_code(call):
            return await self._inner.call(call)

    async def call_within(self, call: Call, timeout_s: float | None, stop: Signal | None) -> Any:
        __tracebackhide__ = True
        with self._user_code(call):
            return await self._inner.call_within(call, timeout_s, stop)

    async def read(self, query: Callable[..., R], /, *args: Any) -> R:
        with self._effect("read", _name_of(query), *_place()):
            return await self._inner.read(query, *args)

    async def commit(self, write: Write[A, R], arg: A, lane_key: str) -> R:
        with self._effect("commit", write.name, *subject(arg)):
            self._ledger.ask(write.name, arg)
            answer = await self._inner.commit(write, arg, lane_key)
        self._ledger.acknowledge(arg, answer)
        return answer

    async def commit_last(self, write: Write[A, R], arg: A, lane_key: str) -> R:
        return await self.commit(write, arg, lane_key)

    async def commit_carried(
        self,
        write: Write[A, R],
        arg: A,
        commit: Callable[[], Awaitable[R]],
        topics: Sequence[Topic] = (),
    ) -> R:
        with self._effect("commit", write.name, *subject(arg)):
            answer = await self._inner.commit_carried(write, arg, commit, topics)
        self._ledger.acknowledge(arg, answer)
        return answer

    def lane(self, lane_key: str) -> AbstractContextManager[None]:
        return self._inner.lane(lane_key)

    def post(self, write: Write[A, R], arg: A, lane_key: str) -> None:
        with self._effect("post", write.name, *subject(arg)):
            self._inner.post(write, arg, lane_key)

    def signal(self) -> Signal:
        return self._inner.signal()

    async def wait(self, signal: Signal, seconds: float | None) -> bool:
        with self._effect("wait", "a signal", *_place()) as effect:
            self._timeline.waits_for(effect, signal)
            try:
                return await self._inner.wait(signal, seconds)
            finally:
                self._timeline.waits_no_more(effect)

    async def sleep(self, seconds: float) -> None:
        # Waited for by a bell, so that a crash ends it.
        signal = self._inner.signal()
        with self._effect("sleep", f"of {seconds} s", *_place()) as effect:
            self._timeline.waits_for(effect, signal)
            try:
                await self._inner.wait(signal, seconds)
            finally:
                self._timeline.waits_no_more(effect)

    async def settle(self) -> None:
        self._timeline.pass_gate()
        await self._inner.settle()
        self._timeline.pass_gate()

    def is_abandonment(self, error: BaseException) -> bool:
        return isinstance(error, Crash) or self._inner.is_abandonment(error)

    def now_ms(self) -> int:
        return self._inner.now_ms()

    @contextmanager
    def _user_code(self, call: Call) -> Generator[None]:
        scope = current_scope()
        with self._effect("call", _name_of(call.function), *_place()):
            is_body = self._ledger.body_begins(scope)
            try:
                yield
            finally:
                if is_body:
                    self._ledger.body_ends(scope)

    @contextmanager
    def _effect(
        self, kind: str, name: str, workflow_id: str | None, step_id: int | None
    ) -> Generator[Effect]:
        effect = self._timeline.begin(kind, name, workflow_id, step_id)
        try:
            yield effect
        except Exception:
            self._timeline.end(effect)
            raise
        except BaseException:
            self._timeline.give_up(effect)
            raise
        self._timeline.end(effect)


def _place() -> tuple[str | None, int | None]:
    scope = current_scope()
    if scope.run is None:
        return None, None
    return scope.run.workflow_id, None if scope.step is None else scope.step.step_id


def _name_of(target: object) -> str:
    inner = getattr(target, "query", target)
    name = getattr(inner, "__qualname__", None)
    return name if isinstance(name, str) else type(inner).__name__
