"""The way to a database through an asyncio engine of SQLAlchemy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, TypeVarTuple

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.util import greenlet_spawn

from dbos.engine.io import Call
from dbos.transactions.async_engines import LoopEngines
from dbos.transactions.attempt import Attempt, attempt
from dbos.transactions.sessions import GuardedSession, guarded_kind

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class AsyncDriver:
    """Suspends in the caller's task, on a connection that belongs to the task's loop."""

    def __init__(self, engines: LoopEngines, maker: async_sessionmaker[Any] | None) -> None:
        self._engines = engines
        self._maker = maker

    def attempt(
        self, isolation: str, *, writes: bool = True
    ) -> AbstractAsyncContextManager[Attempt]:
        return _InGreenlets(partial(self._begin, isolation, writes), self._engines)

    async def do(self, function: Callable[[*Ts], R], *args: *Ts) -> R:
        return await greenlet_spawn(function, *args)

    async def call(self, call: Call) -> Any:
        __tracebackhide__ = True
        return await call.function(*call.args, **call.kwargs)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _begin(
        self, isolation: str, writes: bool, engine: AsyncEngine
    ) -> AbstractContextManager[Attempt]:
        make_session = partial(_session, self._maker, engine)
        return attempt(engine.sync_engine, isolation, make_session, writes=writes)


class _InGreenlets:
    """An open transaction whose beginning and end may suspend the task."""

    def __init__(
        self,
        begin: Callable[[AsyncEngine], AbstractContextManager[Attempt]],
        engines: LoopEngines,
    ) -> None:
        self._begin = begin
        self._engines = engines
        self._plain: AbstractContextManager[Attempt] | None = None
        self._opened: Attempt | None = None

    async def __aenter__(self) -> Attempt:
        self._plain = self._begin(await self._engines.here())
        self._opened = await greenlet_spawn(self._plain.__enter__)
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        assert self._plain is not None
        assert self._opened is not None
        if kind is GeneratorExit:
            # The loop is gone, and with it whoever could wait for an answer of the server.
            self._opened.abandon()
            return self._plain.__exit__(kind, error, trace)
        return await greenlet_spawn(self._plain.__exit__, kind, error, trace)


def _session(
    maker: async_sessionmaker[Any] | None, engine: AsyncEngine, connection: Connection
) -> GuardedSession:
    """A guarded session, with the `AsyncSession` through which the user works in it."""
    options: dict[str, Any] = {"expire_on_commit": False}
    kind: type[AsyncSession] = AsyncSession
    if maker is not None:
        options = {key: value for key, value in maker.kw.items() if key not in ("bind", "binds")}
        kind = maker.class_
    plain = options.pop("sync_session_class", kind.sync_session_class)
    shown = kind(
        bind=AsyncConnection(engine, connection),
        sync_session_class=guarded_kind(plain),
        **options,
    )
    session = shown.sync_session
    assert isinstance(session, GuardedSession)
    session.show_as(shown)
    return session
