"""Driver errors judged: which are cured by waiting, and what a user is told about the others.

What a driver says may hold SQL, parameters, row values or a password, so nothing of its text is
passed on: a message is built from the class of the error, its SQLSTATE and the database's display
name (which has no password).
"""

from __future__ import annotations

import sqlite3

from dbos.errors import DBOSDatabaseError, DBOSInvalidInputError
from dbos.storage.connections import PoolExhausted

_PASSING_SQLITE_FAULTS = {
    sqlite3.SQLITE_BUSY: "a transaction, of this process or another, held its lock for too long",
    sqlite3.SQLITE_LOCKED: "it stayed locked by another connection",
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_IOERR: "reading or writing the file failed; check the disk",
    sqlite3.SQLITE_READONLY: "the file is read-only; make it and its directory writable",
    sqlite3.SQLITE_NOMEM: "memory ran out",
    sqlite3.SQLITE_PROTOCOL: "its locks are contended",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; check that its directory exists and may"
    " be written",
}
_LASTING_SQLITE_FAULTS = {
    sqlite3.SQLITE_CORRUPT: "the file is corrupt; restore it from a backup",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database; point the URL at another file",
    sqlite3.SQLITE_PERM: "access to the file is not permitted",
    sqlite3.SQLITE_AUTH: "access to the file is not permitted",
    sqlite3.SQLITE_CONSTRAINT: "a constraint of the database refused the change",
    sqlite3.SQLITE_TOOBIG: "a value is larger than the database can hold",
}
_BREAKING_SQLITE_FAULTS = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
)
_POSTGRES_FAULTS = (
    ("08", "the connection was lost; check that the server is up and can be reached"),
    ("28", "the server refused the login; check user and password"),
    ("3D", "the database does not exist; create it or correct the URL"),
    ("40", "concurrent transactions collided too often"),
    ("42501", "the role lacks a permission; grant it, or migrate with application_role"),
    ("42P01", "a table is missing; run the migrations"),
    ("42703", "a column is missing; run the migrations"),
    ("42883", "a function is missing; run the migrations"),
    ("3F", "the schema does not exist; run the migrations"),
    ("53", "the server is out of resources (disk, memory or connections)"),
    ("57P", "the server is shutting down or starting up"),
    ("57014", "the statement was cancelled or took longer than the server permits"),
    ("55P03", "a lock was not available in time"),
    ("25006", "the server accepts no writes; connect to the primary"),
    ("25P02", "an earlier statement of the transaction has failed; roll the transaction back"),
    ("25P03", "the connection was closed after idling in a transaction"),
    ("23", "a constraint of the database refused the change"),
    ("22", "a value cannot be stored by the database"),
)
# 25006 is what a former primary says during a failover, 25P03 what closed our own connection.
_COLLISIONS = ("40001", "40P01")
_TOO_LARGE_FOR_INDEX = "54000"
_TRANSIENT_STATES = ("08", "40001", "40P01", "40003", "53", "57P0", "58", "55P03", "25006", "25P03")


def is_transient_sqlite(error: BaseException) -> bool:
    """Whether the fault is contention, space, access or input and output, which may all pass."""
    if not isinstance(error, sqlite3.Error):
        return isinstance(error, PoolExhausted)
    return _primary_code(error) in _PASSING_SQLITE_FAULTS


def translate_sqlite(error: BaseException, display: str) -> BaseException:
    """Our error for a fault of the sqlite3 driver; any other error comes back as it is."""
    if not isinstance(error, sqlite3.Error):
        return _other(error, display)
    code = _primary_code(error)
    words = (
        _PASSING_SQLITE_FAULTS.get(code) or _LASTING_SQLITE_FAULTS.get(code) or _unexpected(error)
    )
    return DBOSDatabaseError(f"The database {display} cannot be used: {words}.")


def breaks_sqlite_connection(error: BaseException | None) -> bool:
    """Whether a connection is better opened anew: its file, or its view of it, went wrong."""
    return isinstance(error, sqlite3.Error) and _primary_code(error) in _BREAKING_SQLITE_FAULTS


def is_transient_postgres(error: BaseException, driver_error: type[BaseException]) -> bool:
    """Whether the fault is a lost connection, a collision, a shortage or a restart of the server.

    An operational error without a state comes from the client library: there is no connection.
    """
    if not isinstance(error, driver_error):
        return isinstance(error, PoolExhausted)
    state = _state(error)
    if state is not None:
        return state.startswith(_TRANSIENT_STATES)
    return _is_operational(error)


def is_postgres_collision(error: BaseException) -> bool:
    """Whether the server ended the transaction for the sake of another: a deadlock, say."""
    return _state(error) in _COLLISIONS


def is_transient_state(state: str) -> bool:
    """The same of a bare SQLSTATE."""
    return state.startswith(_TRANSIENT_STATES)


def translate_postgres(
    error: BaseException, display: str, driver_error: type[BaseException]
) -> BaseException:
    """Our error for a fault of the psycopg driver; any other error comes back as it is."""
    if not isinstance(error, driver_error):
        return _other(error, display)
    state = _state(error)
    if state is None:
        words = (
            "no connection could be made or it was lost; check that the server is up, that the"
            " address is right and that user and password are accepted"
            if _is_operational(error)
            else _unexpected(error)
        )
        return DBOSDatabaseError(f"The database {display} cannot be used: {words}.")
    if state == _TOO_LARGE_FOR_INDEX:
        return DBOSInvalidInputError(
            "An id, key, topic or name is longer than the database can index; shorten it to at"
            " most 2000 bytes."
        )
    words = _words_for_state(state) or _unexpected(error)
    return DBOSDatabaseError(f"The database {display} reported {state}: {words}.", state)


def _other(error: BaseException, display: str) -> BaseException:
    if isinstance(error, PoolExhausted):
        return DBOSDatabaseError(f"The database {display} cannot be used: {error}.")
    return error


def _words_for_state(state: str) -> str | None:
    fitting = [(prefix, words) for prefix, words in _POSTGRES_FAULTS if state.startswith(prefix)]
    return max(fitting, key=_prefix_length)[1] if fitting else None


def _prefix_length(entry: tuple[str, str]) -> int:
    return len(entry[0])


def _unexpected(error: BaseException) -> str:
    return f"an unexpected fault ({type(error).__name__})"


def lacks_a_table(error: BaseException) -> bool:
    """Whether there is no such table or schema, whatever the driver."""
    if isinstance(error, sqlite3.OperationalError):
        return str(error).startswith("no such table")
    return _state(error) in ("42P01", "3F000")


def _primary_code(error: sqlite3.Error) -> int:
    """The primary result code: the extended ones carry it in their low byte."""
    # Errors that the sqlite3 module raises by itself have no code.
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else -1


def _state(error: BaseException) -> str | None:
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


def _is_operational(error: BaseException) -> bool:
    """Whether the driver calls it operational, by name: this module does not load psycopg.

    asyncpg passes on what the system says of a connection.
    """
    return isinstance(error, OSError) or any(
        kind.__name__ == "OperationalError" for kind in type(error).__mro__
    )
