"""A database of the user's choice in whose transactions steps take part: the asyncio kind."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ParamSpec, TypeVar, overload

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.util import greenlet_spawn

from dbos import validation
from dbos.config import DatabaseAddress, parse_database_url
from dbos.engine.async_function import AsyncFunction
from dbos.engine.context import current_scope
from dbos.engine.io import Call
from dbos.engine.transactions import IsolationLevel
from dbos.errors import DBOSException, DBOSUsageError
from dbos.models import DatasourceOptions
from dbos.serialization.codec import Codec, Serializer
from dbos.storage import effects
from dbos.storage.adopted import adopter
from dbos.storage.effects import DATASOURCES
from dbos.transactions.async_driver import AsyncDriver
from dbos.transactions.async_engines import LoopEngines, async_engine_at, require, twin_of
from dbos.transactions.calls import (
    DEFAULT_SCHEMA,
    OUTSIDE_OF_A_TRANSACTION,
    checked_engine,
    name_and_isolation,
    open_session,
    placed,
    prepare_datasource,
    recorded_as,
)
from dbos.transactions.plain import run_plain
from dbos.transactions.transactor import Elsewhere, SeparateTransactor

P = ParamSpec("P")
R = TypeVar("R")


class AsyncSQLAlchemyDatasource:
    """Transactions of async functions on any PostgreSQL or SQLite database."""

    def __init__(self, place: Elsewhere, engines: LoopEngines) -> None:
        """Use `await AsyncSQLAlchemyDatasource.create(...)`."""
        self._place = place
        self._engines = engines
        self._transactor = SeparateTransactor(place, lambda: None)

    @classmethod
    async def create(
        cls,
        database_url: str,
        engine_kwargs: dict[str, Any] | None = None,
        engine: AsyncEngine | None = None,
        schema: str | None = None,
        serializer: Serializer | None = None,
        sessionmaker: async_sessionmaker[Any] | None = None,
        run_migrations: bool = True,
    ) -> AsyncSQLAlchemyDatasource:
        """Open a datasource; its bookkeeping table exists when this returns.

        It may be used on any number of event loops, each of which gets connections of its own.

        Args:
            database_url: PostgreSQL or SQLite. The driver is aiosqlite for SQLite; for PostgreSQL
                it is psycopg, or asyncpg if the URL begins with `postgresql+asyncpg://`.
            engine_kwargs: for `create_async_engine`, when no engine is given.
            engine: used as it is, and never closed by us. On other loops than the first it works
                on, an engine like it takes its place.
            schema: of the bookkeeping table on PostgreSQL; default "dbos".
            serializer: of the recorded results; default: the application's.
            sessionmaker: makes the sessions; default: plain ones.
            run_migrations: False only checks that the table is there.

        Raises:
            DBOSDatabaseError: the database cannot be reached.
            DBOSInitializationError: the table is missing and is not to be made; or a package of
                the extra `async` is not installed.
        """
        address = parse_database_url(database_url)
        schema = schema or DEFAULT_SCHEMA
        make = _maker(database_url, address, engine_kwargs or {}, engine)
        engines = LoopEngines(make, engine)
        async with engines.aside() as first:
            await greenlet_spawn(
                partial(prepare_datasource, run_migrations=run_migrations),
                first.sync_engine,
                address,
                schema,
            )
        place = Elsewhere(
            AsyncDriver(engines, sessionmaker),
            DATASOURCES,
            adopter(address.kind, schema),
            None if serializer is None else Codec(serializer),
        )
        return cls(place, engines)

    @staticmethod
    async def migrate(
        database_url: str, *, schema: str | None = None, application_role: str | None = None
    ) -> None:
        """Make the bookkeeping table, and let a role without rights to make it use it.

        Raises:
            DBOSDatabaseError: the database cannot be reached.
        """
        await asyncio.to_thread(
            effects.migrate_datasource,
            parse_database_url(database_url),
            schema or DEFAULT_SCHEMA,
            application_role,
        )

    def run_tx_step_async(
        self,
        ds_options: DatasourceOptions | None,
        func: Callable[P, Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]:
        """Run a function in one transaction; in workflow code as one recorded step, exactly once.

        Elsewhere it is a plain transaction and nothing is recorded. The step id is taken when this
        is called, not when the coroutine that it returns is awaited.

        Args:
            ds_options: name (default: the function's) and isolation level (default SERIALIZABLE).

        Raises:
            DBOSException: "coroutine": the function is not async.
            DBOSUsageError: called from a transaction or a step that has one open.
        """
        refuse_plain_function(func)
        name, isolation = name_and_isolation(ds_options, func)
        return self._run(name, isolation, Call(func, args, kwargs, True))

    @overload
    def transaction(
        self, func: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...

    @overload
    def transaction(
        self, *, name: str | None = None, isolation_level: IsolationLevel = "SERIALIZABLE"
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]: ...

    def transaction(
        self,
        func: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        isolation_level: IsolationLevel = "SERIALIZABLE",
    ) -> Any:
        """Make a function run as by `run_tx_step_async` wherever it is called.

        Raises:
            DBOSException: "coroutine": the function is not async.
        """
        isolation = validation.isolation_level(isolation_level)

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            refuse_plain_function(function)
            recorded = recorded_as(name, function)

            def run(*args: Any, **kwargs: Any) -> Any:
                return self._run(recorded, isolation, Call(function, args, kwargs, True))

            return AsyncFunction(function, run)

        return decorate if func is None else decorate(func)

    async def destroy(self) -> None:
        """Close the connections of the engines that were made here. Safe twice."""
        await self._engines.close()

    def sql_session(self) -> AsyncSession:
        """The session of the transaction of this datasource that this code runs in.

        Raises:
            DBOSUsageError: there is none.
        """
        session = open_session(current_scope())
        if not isinstance(session, AsyncSession) or not self._is_here(session):
            raise DBOSUsageError(OUTSIDE_OF_A_TRANSACTION)
        return session

    def _is_here(self, session: AsyncSession) -> bool:
        bind = session.sync_session.get_bind()
        return isinstance(bind, Connection) and self._engines.owns(bind.engine)

    def _run(self, name: str, isolation: IsolationLevel, call: Call) -> Coroutine[Any, Any, Any]:
        scope = current_scope()
        placed_call = placed(name, isolation, call, scope)
        if placed_call is None:
            return run_plain(self._place.driver, isolation, call, scope)
        return self._transactor.run(placed_call.run.engine.aio, placed_call)


def refuse_plain_function(function: Callable[..., Any]) -> None:
    if not inspect.iscoroutinefunction(function):
        name = getattr(function, "__qualname__", type(function).__name__)
        raise DBOSException(
            f"Function {name} is not a coroutine function: use SQLAlchemyDatasource for it."
        )


def _maker(
    database_url: str,
    address: DatabaseAddress,
    options: dict[str, Any],
    engine: AsyncEngine | None,
) -> Callable[[], AsyncEngine]:
    """How to make an engine for one more loop."""
    require("greenlet")
    if engine is not None:
        return partial(twin_of, checked_engine(engine, AsyncEngine, address))
    driver = "psycopg"
    if address.kind == "sqlite":
        require("aiosqlite")
    elif database_url.partition("://")[0].endswith("+asyncpg"):
        driver = "asyncpg"
        require(driver)
    return partial(async_engine_at, address, driver, options)
