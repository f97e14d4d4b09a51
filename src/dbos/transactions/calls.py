"""What datasources of both kinds do alike: name a call, place it, and prepare their table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dbos import validation
from dbos.config import DatabaseAddress
from dbos.engine.context import Scope
from dbos.engine.io import Call
from dbos.engine.transactions import IsolationLevel, TransactionCall
from dbos.errors import DBOSDatabaseError, DBOSInvalidInputError, DBOSUsageError
from dbos.models import DatasourceOptions
from dbos.storage import effects
from dbos.storage.adopted import adopter
from dbos.storage.effects import DATASOURCES
from dbos.storage.faults import translate_postgres, translate_sqlite
from dbos.transactions.adopted import AdoptedConnection
from dbos.transactions.attempt import attempt
from dbos.transactions.faults import Passing

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

E = TypeVar("E", "Engine", "AsyncEngine")

OUTSIDE_OF_A_TRANSACTION = "sql_session() was called outside of a transaction of this datasource."
DEFAULT_SCHEMA = "dbos"


def recorded_as(name: str | None, function: Callable[..., Any]) -> str:
    """The name of a step: the given one, else the function's."""
    if name is None:
        name = getattr(function, "__qualname__", None)
    if name is None:
        raise DBOSInvalidInputError(
            f"A {type(function).__name__} has no name to be recorded as: give the transaction one"
        )
    return validation.step_name(name)


def name_and_isolation(
    options: DatasourceOptions | None, function: Callable[..., Any]
) -> tuple[str, IsolationLevel]:
    """The options of a call, checked."""
    given = options or {}
    isolation = validation.isolation_level(given.get("isolation_level", "SERIALIZABLE"))
    return recorded_as(given.get("name"), function), isolation


def refuse_nested(name: str, scope: Scope) -> None:
    """A transaction within one would wait for the locks of the one around it."""
    step = scope.step
    if step is not None and step.transaction is not None:
        raise DBOSUsageError(f"Transaction {name} was called from within a transaction.")


def placed(
    name: str, isolation: IsolationLevel, call: Call, scope: Scope
) -> TransactionCall | None:
    """Take the step id of a call made in workflow code; None elsewhere."""
    refuse_nested(name, scope)
    run = scope.workflow
    if run is None:
        return None
    return TransactionCall(name, call, isolation, run, run.take_step_ids(1), scope.authentication)


def open_session(scope: Scope) -> object:
    """The session of the transaction that a scope is in, if it is in one."""
    opened = None if scope.step is None else scope.step.transaction
    return None if opened is None else opened.session


def checked_engine(engine: object, kind: type[E], address: DatabaseAddress) -> E:
    """The user's engine, which must suit the datasource and the kind of database in the URL."""
    if not isinstance(engine, kind):
        raise DBOSInvalidInputError(
            f"engine must be of class {kind.__name__}, not {type(engine).__name__}: "
            "SQLAlchemyDatasource takes an Engine, AsyncSQLAlchemyDatasource an AsyncEngine"
        )
    dialect: str = engine.dialect.name
    if {"postgresql": "postgres"}.get(dialect, dialect) != address.kind:
        raise DBOSInvalidInputError(
            f"engine is for {dialect}, but database_url is {address.display}: give the URL of the "
            "engine's own database"
        )
    return engine


def prepare_datasource(
    engine: Engine, address: DatabaseAddress, schema: str, *, run_migrations: bool
) -> None:
    """Have the bookkeeping table, through the engine that the datasource uses."""
    try:
        with attempt(engine, "READ COMMITTED", writes=run_migrations) as opened:
            _prepare_on(opened.connection, address, schema, run_migrations=run_migrations)
            opened.commit()
    except Passing as passing:
        raise _translated(passing.fault, address) from None
    except SQLAlchemyError as error:
        raise _translated(error, address) from None


def _prepare_on(
    connection: Connection, address: DatabaseAddress, schema: str, *, run_migrations: bool
) -> None:
    tx = adopter(address.kind, schema)(AdoptedConnection(connection))
    place = schema if address.kind == "postgres" else None
    if run_migrations:
        effects.prepare(tx, DATASOURCES, place)
    else:
        effects.verify(tx, DATASOURCES, place, address.display)


def _translated(error: BaseException, address: DatabaseAddress) -> BaseException:
    """Our error, without a word of the driver's, for one that came through SQLAlchemy."""
    fault = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(fault, DBOSDatabaseError):
        return fault
    if address.kind == "sqlite":
        return translate_sqlite(fault, address.display)
    return translate_postgres(fault, address.display, Exception)
