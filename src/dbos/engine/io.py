"""The outside world as the core sees it: one protocol, three drivers.

Every operation of the engine is an `async def` that touches the world through an `Io` and nothing
else.

- Under the blocking driver an operation never suspends: each `Io` call does its work on the
  caller's
  thread and returns, so `runtime.drive` can run the coroutine with a single `send`.
- Under the asyncio driver the same coroutine suspends in the caller's task.
- Under the simulating driver every `Io` call is an effect that a scheduler orders, delays or kills.

So the core may not import `asyncio`, `threading`, `time` or `random`; the checks enforce it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import msgspec

from dbos.errors import DBOSException
from dbos.storage.protocol import Topic, Write

A = TypeVar("A")
R = TypeVar("R")


class Signal(Protocol):
    """A bell that stays rung until it is cleared."""

    def ring(self) -> None: ...

    def clear(self) -> None: ...


class Hub(Protocol):
    """Where waiters leave their bells. Register, look, wait, look again: no wake-up is lost."""

    def watch(
        self, topic: Topic, *subject: str, also: Sequence[Topic] = ()
    ) -> AbstractContextManager[Signal]:
        """A bell for a topic, rung for `also` too; `subject` is what to ask the database about."""
        ...

    def publish(self, topics: Iterable[Topic]) -> None:
        """Ring every bell that waits for one of these topics in this process."""
        ...


class Call(msgspec.Struct, frozen=True):
    """A call of user code."""

    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    is_async: bool


class Io(Protocol):
    """Everything an operation may do to the world."""

    cooperative: bool
    """Whether several tasks of one run may interleave under this driver."""

    waits: bool
    """Whether `wait` and `sleep` wait at all: not inside somebody's open transaction."""

    def call(self, call: Call) -> Awaitable[Any]:
        """Run user code to its end: directly, or awaited if it is a coroutine function."""
        ...

    async def call_within(self, call: Call, timeout_s: float | None, stop: Signal | None) -> Any:
        """Run async user code under a time limit, and until `stop` rings.

        Raises `TimeLimit` from the limit and `Preempted` from the bell, after the code has ended.
        """
        ...

    async def read(self, query: Callable[..., R], /, *args: Any) -> R:
        """Run `query(tx, *args)` in one snapshot."""
        ...

    def commit(self, write: Write[A, R], arg: A, lane_key: str) -> Awaitable[R]:
        """Apply a write; durable when this returns. Writes with one lane key keep their order."""
        ...

    async def commit_last(self, write: Write[A, R], arg: A, lane_key: str) -> R:
        """As `commit`, for the last write of a background run: its thread need not wait for it."""
        ...

    async def commit_carried(
        self,
        write: Write[A, R],
        arg: A,
        commit: Callable[[], Awaitable[R]],
        topics: Sequence[Topic] = (),
    ) -> R:
        """Have the user's transaction apply a write and commit both; then ring the topics."""
        ...

    def lane(self, lane_key: str) -> AbstractContextManager[None]:
        """For the block, nothing else of this engine is written through this lane."""
        ...

    def post(self, write: Write[A, R], arg: A, lane_key: str) -> None:
        """Hand over a write whose answer nobody waits for."""
        ...

    def signal(self) -> Signal: ...

    async def wait(self, signal: Signal, seconds: float | None) -> bool:
        """Wait until the bell rings (True) or the time is over (False), and clear it."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def settle(self) -> None:
        """Let every other task of this thread's loop that can run do so first."""
        ...

    def is_abandonment(self, error: BaseException) -> bool:
        """Whether user code was stopped from outside (a cancelled task, a closing loop)."""
        ...

    def now_ms(self) -> int:
        """The database's clock, in milliseconds since the epoch."""
        ...


class Closed(DBOSException):
    """The engine was shut down: nothing can be read or recorded through it any more."""

    def __init__(self) -> None:
        super().__init__(
            "DBOS was shut down by destroy(): this engine records nothing more. Workflows it was "
            "running go on in another process, or here after the next DBOS.launch()."
        )


class ClientClosed(Closed):
    """The same of a client, which runs nothing."""

    def __init__(self) -> None:
        DBOSException.__init__(self, "This DBOSClient was destroyed: make another one.")


class TimeLimit(Exception):
    """User code reached the time limit given to `call_within`. Never seen by users."""


class Preempted(BaseException):
    """User code was stopped by the bell given to `call_within`. Never seen by users."""
