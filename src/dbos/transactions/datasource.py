"""A database of the user's choice in whose transactions steps take part: the blocking kind."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session, sessionmaker

from dbos import validation
from dbos.config import PoolSettings, parse_database_url
from dbos.engine.context import current_scope
from dbos.engine.io import Call
from dbos.engine.transactions import IsolationLevel
from dbos.errors import DBOSException, DBOSUsageError
from dbos.models import DatasourceOptions
from dbos.serialization.codec import Codec, Serializer
from dbos.storage import effects
from dbos.storage.adopted import adopter
from dbos.storage.effects import DATASOURCES
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
from dbos.transactions.drivers import BlockingDriver
from dbos.transactions.engines import engine_at
from dbos.transactions.plain import run_plain
from dbos.transactions.sessions import GuardedSession, guarded
from dbos.transactions.transactor import Elsewhere, SeparateTransactor

P = ParamSpec("P")
R = TypeVar("R")


class SQLAlchemyDatasource:
    """Transactions on any PostgreSQL or SQLite database, each one step of a workflow."""

    def __init__(self, place: Elsewhere, engine: Engine, *, is_engine_ours: bool) -> None:
        """Use `SQLAlchemyDatasource.create`."""
        self._place = place
        self._engine = engine
        self._is_engine_ours = is_engine_ours
        self._transactor = SeparateTransactor(place, lambda: None)

    @classmethod
    def create(
        cls,
        database_url: str,
        engine_kwargs: dict[str, Any] | None = None,
        engine: Engine | None = None,
        schema: str | None = None,
        serializer: Serializer | None = None,
        sessionmaker: sessionmaker[Any] | None = None,
        run_migrations: bool = True,
    ) -> SQLAlchemyDatasource:
        """Open a datasource; its bookkeeping table exists when this returns.

        Args:
            database_url: PostgreSQL or SQLite.
            engine_kwargs: for `create_engine`, when no engine is given.
            engine: used as it is, and never closed by us.
            schema: of the bookkeeping table on PostgreSQL; default "dbos".
            serializer: of the recorded results; default: the application's.
            sessionmaker: makes the sessions; default: plain ones.
            run_migrations: False only checks that the table is there.

        Raises:
            DBOSDatabaseError: the database cannot be reached.
            DBOSInitializationError: the table is missing and is not to be made.
        """
        address = parse_database_url(database_url)
        schema = schema or DEFAULT_SCHEMA
        is_ours = engine is None
        if engine is None:
            options = engine_kwargs or {}
            pool = PoolSettings(connect_args=options.get("connect_args") or {})
            engine = engine_at(address, pool, options)
        else:
            engine = checked_engine(engine, Engine, address)
        place = Elsewhere(
            BlockingDriver(engine, functools.partial(guarded, sessionmaker)),
            DATASOURCES,
            adopter(address.kind, schema),
            None if serializer is None else Codec(serializer),
        )
        try:
            prepare_datasource(engine, address, schema, run_migrations=run_migrations)
        except BaseException:
            if is_ours:
                engine.dispose()
            raise
        return cls(place, engine, is_engine_ours=is_ours)

    @staticmethod
    def migrate(
        database_url: str, *, schema: str | None = None, application_role: str | None = None
    ) -> None:
        """Make the bookkeeping table, and let a role without rights to make it use it.

        Raises:
            DBOSDatabaseError: the database cannot be reached.
        """
        effects.migrate_datasource(
            parse_database_url(database_url), schema or DEFAULT_SCHEMA, application_role
        )

    def run_tx_step(
        self,
        ds_options: DatasourceOptions | None,
        func: Callable[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run a function in one transaction; in workflow code as one recorded step, exactly once.

        Elsewhere it is a plain transaction and nothing is recorded.

        Args:
            ds_options: name (default: the function's) and isolation level (default SERIALIZABLE).

        Raises:
            DBOSException: "coroutine": the function is async.
            DBOSUsageError: called from a transaction or a step that has one open.
        """
        __tracebackhide__ = True
        refuse_coroutine(func)
        name, isolation = name_and_isolation(ds_options, func)
        value: R = self._run(name, isolation, Call(func, args, kwargs, False))
        return value

    @overload
    def transaction(self, func: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def transaction(
        self, *, name: str | None = None, isolation_level: IsolationLevel = "SERIALIZABLE"
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def transaction(
        self,
        func: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        isolation_level: IsolationLevel = "SERIALIZABLE",
    ) -> Any:
        """Make a function run as by `run_tx_step` wherever it is called.

        Raises:
            DBOSException: "coroutine": the function is async.
        """
        isolation = validation.isolation_level(isolation_level)

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            refuse_coroutine(function)
            recorded = recorded_as(name, function)

            @functools.wraps(function)
            def run(*args: Any, **kwargs: Any) -> Any:
                __tracebackhide__ = True
                return self._run(recorded, isolation, Call(function, args, kwargs, False))

            return run

        return decorate if func is None else decorate(func)

    def destroy(self) -> None:
        """Close the connections of an engine that `create` made. Safe twice."""
        if self._is_engine_ours:
            self._engine.dispose()

    def sql_session(self) -> Session:
        """The session of the transaction of this datasource that this code runs in.

        Raises:
            DBOSUsageError: there is none.
        """
        session = open_session(current_scope())
        if not isinstance(session, GuardedSession) or not _is_on(session, self._engine):
            raise DBOSUsageError(OUTSIDE_OF_A_TRANSACTION)
        return session

    def _run(self, name: str, isolation: IsolationLevel, call: Call) -> Any:
        __tracebackhide__ = True
        scope = current_scope()
        placed_call = placed(name, isolation, call, scope)
        if placed_call is None:
            return driven(run_plain(self._place.driver, isolation, call, scope))
        return driven(self._transactor.run(placed_call.run.engine.blocking, placed_call))


def _is_on(session: Session, engine: Engine) -> bool:
    bind = session.get_bind()
    return isinstance(bind, Connection) and bind.engine is engine


def driven(operation: Any) -> Any:
    """Run an operation of the blocking driver, which never suspends."""
    __tracebackhide__ = True
    try:
        operation.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the blocking driver does not suspend")


def refuse_coroutine(function: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(function):
        raise DBOSException(
            f"Function {getattr(function, '__qualname__', function)} is a coroutine function: use "
            "AsyncSQLAlchemyDatasource for it."
        )
