"""Errors of a transaction judged through SQLAlchemy: which passing ones run the body again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import TypeVar

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import DBAPIError

from dbos.storage.faults import is_transient_sqlite, is_transient_state

E = TypeVar("E", bound=BaseException)

FAULTS = "dbos_faults"
"""The execution option that holds the faults of a connection's transaction."""


class Passing(Exception):
    """The transaction was rolled back, or its commit is in doubt, by a fault that may pass."""

    def __init__(self, fault: BaseException, *, in_doubt: bool) -> None:
        super().__init__()
        self.fault = fault
        self.in_doubt = in_doubt


def watch(engine: Engine) -> None:
    """Remember the faults of our transactions, and keep row values out of their texts."""
    # A second time does nothing. `event.contains` is not to be asked: it goes by the engine's `id`,
    # and takes a new engine for one that was there before at the same address.
    event.listen(engine, "handle_error", _on_error)


def is_passing(error: BaseException) -> bool:
    """Whether running the body again may help: a collision, a lost connection, a full disk."""
    for inner in _chain(error):
        if isinstance(inner, sqlite3.Error):
            return is_transient_sqlite(inner)
        if isinstance(inner, DBAPIError) and inner.connection_invalidated:
            return True
        state = _state(inner)
        if state is not None:
            # A lock that the user's own NOWAIT or lock_timeout gave up on is the user's to handle.
            return state != "55P03" and is_transient_state(state)
    return isinstance(error, DBAPIError) and _is_lost_connection(error)


def is_collision(error: BaseException) -> bool:
    """Whether it is everyday contention rather than an outage."""
    for inner in _chain(error):
        if isinstance(inner, sqlite3.Error):
            return (getattr(inner, "sqlite_errorcode", 0) & 0xFF) in (
                sqlite3.SQLITE_BUSY,
                sqlite3.SQLITE_LOCKED,
            )
        state = _state(inner)
        if state is not None:
            return state.startswith("40")
    return False


def without_values(error: E) -> E:
    """The error itself, with no values of rows or parameters in its text."""
    if isinstance(error, DBAPIError) and error.args:
        # PostgreSQL appends the values of the row in question as the detail.
        error.args = (str(error.args[0]).split("\nDETAIL:")[0], *error.args[1:])
        error.hide_parameters = True
    return error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and the driver's own below it."""
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        yield inner
        below = getattr(inner, "orig", None)
        inner = below if isinstance(below, BaseException) else inner.__cause__


def _state(error: BaseException) -> str | None:
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) and len(state) == 5 else None


def _is_lost_connection(error: DBAPIError) -> bool:
    """An operational error without a state comes from the client's side: no connection."""
    orig = error.orig
    return orig is not None and any(
        kind.__name__ in ("OperationalError", "InterfaceError", "ConnectionError")
        for kind in type(orig).__mro__
        if kind.__module__.split(".")[0] in ("psycopg", "asyncpg", "builtins")
    )


def _on_error(context: ExceptionContext) -> None:
    if context.sqlalchemy_exception is not None:
        without_values(context.sqlalchemy_exception)
    connection = context.connection
    if connection is not None:
        faults: list[BaseException] | None = connection.get_execution_options().get(FAULTS)
        if faults is not None:
            faults.append(context.original_exception)
