"""Operations of a client inside a transaction of the caller's on the system database."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from dbos.engine.engine import Runtime
from dbos.errors import DBOSInvalidInputError
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
    if isinstance(conn_or_session, Session):
        connection = conn_or_session.connection()
    elif isinstance(conn_or_session, Connection):
        connection = conn_or_session
    else:
        raise DBOSInvalidInputError(
            "conn_or_session must be a SQLAlchemy Connection or Session, not "
            f"{type(conn_or_session).__name__}"
        )
    io = AdoptedIo(database, connection, outer.io)
    try:
        answer: R = driven(operation(Runtime(outer.engine, io)))
        io.ring_within()
    except DBAPIError as error:
        raise database.translate(error.orig or error) from None
    return answer
