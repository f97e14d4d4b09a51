"""Operations of a client inside a transaction of the caller's on the system database."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from dbos.config import DatabaseAddress
from dbos.engine.engine import Runtime
from dbos.errors import DBOSInvalidInputError
from dbos.storage.faults import lacks_a_table, translate_postgres, translate_sqlite
from dbos.storage.protocol import Database
from dbos.transactions.adopted import AdoptedIo
from dbos.transactions.datasource import driven

R = TypeVar("R")


def run_within(
    conn_or_session: object,
    outer: Runtime,
    database: Database,
    operation: Callable[[Runtime], Coroutine[object, object, R]],
) -> R:
    """Make what an operation writes part of the caller's transaction; the caller commits."""
    address = outer.engine.settings.system_database
    try:
        connection = _connection_of(conn_or_session)
        _refuse_other_kind(connection, address)
        io = AdoptedIo(database, connection, outer.io)
        answer: R = driven(operation(Runtime(outer.engine, io)))
        io.ring_within()
    except DBAPIError as error:
        raise _translated(error.orig or error, address) from None
    return answer


def _connection_of(conn_or_session: object) -> Connection:
    if isinstance(conn_or_session, Session):
        return conn_or_session.connection()
    if isinstance(conn_or_session, Connection):
        return conn_or_session
    remedy = ""
    if isinstance(conn_or_session, AsyncConnection | AsyncSession):
        remedy = "; from async code: await connection.run_sync(...)"
    raise DBOSInvalidInputError(
        "conn_or_session must be a SQLAlchemy Connection or Session, not "
        f"{type(conn_or_session).__name__}{remedy}"
    )


def _refuse_other_kind(connection: Connection, address: DatabaseAddress) -> None:
    dialect = connection.dialect.name
    if {"postgresql": "postgres"}.get(dialect, dialect) != address.kind:
        raise _elsewhere(address)


def _translated(fault: BaseException, address: DatabaseAddress) -> BaseException:
    """Our error, without a word of the driver's; the driver may be any."""
    if lacks_a_table(fault):
        return _elsewhere(address)
    if address.kind == "sqlite":
        return translate_sqlite(fault, address.display)
    return translate_postgres(fault, address.display, Exception)


def _elsewhere(address: DatabaseAddress) -> DBOSInvalidInputError:
    return DBOSInvalidInputError(
        "conn_or_session is on another database: it must be on the system database of the client, "
        f"which is {address.display}"
    )
