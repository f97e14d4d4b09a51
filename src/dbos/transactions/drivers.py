"""How transactions reach their database: on the caller's thread, or suspending in their task.

Everything that is done with a connection is plain code, written once. Over a blocking engine it
just runs. Over an asyncio engine it runs in a greenlet, as all of SQLAlchemy does there, and the
task suspends wherever the driver waits.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, TypeVar, TypeVarTuple

from sqlalchemy.engine import Engine

from dbos.engine.io import Call
from dbos.transactions.attempt import Attempt, SessionFactory, attempt, plain_session

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class Driver(Protocol):
    """The way of one datasource to its database."""

    def attempt(
        self, isolation: str, *, writes: bool = True
    ) -> AbstractAsyncContextManager[Attempt]:
        """An open transaction, as by `dbos.transactions.attempt.attempt`."""
        ...

    def do(self, function: Callable[[*Ts], R], *args: *Ts) -> Awaitable[R]:
        """Run plain code that works on a connection."""
        ...

    async def call(self, call: Call) -> Any:
        """Run the user's function."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class BlockingDriver:
    """Works on the caller's thread and never suspends."""

    def __init__(self, engine: Engine, make_session: SessionFactory = plain_session) -> None:
        self.engine = engine
        self._make_session = make_session

    def attempt(
        self, isolation: str, *, writes: bool = True
    ) -> AbstractAsyncContextManager[Attempt]:
        return _Directly(attempt(self.engine, isolation, self._make_session, writes=writes))

    async def do(self, function: Callable[[*Ts], R], *args: *Ts) -> R:
        return function(*args)

    async def call(self, call: Call) -> Any:
        __tracebackhide__ = True
        return call.function(*call.args, **call.kwargs)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class _Directly:
    """A plain context manager where an asynchronous one is asked for."""

    def __init__(self, plain: AbstractContextManager[Attempt]) -> None:
        self._plain = plain

    async def __aenter__(self) -> Attempt:
        return self._plain.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._plain.__exit__(kind, error, trace)
