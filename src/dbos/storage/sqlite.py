"""SQLite as the database: one writer, a few readers, write-ahead log, every commit on disk."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from dbos.config import PoolSettings
from dbos.errors import DBOSDatabaseError
from dbos.storage import sqlite_outbox, sqlite_schema
from dbos.storage.adopted import Adopted, AdoptedTx, NamedSqliteDialect
from dbos.storage.connections import ConnectionPool, Connector, LaneConnection
from dbos.storage.faults import (
    breaks_sqlite_connection,
    is_transient_sqlite,
    translate_sqlite,
)
from dbos.storage.host_clock import BootClock, HostClock
from dbos.storage.migrate import check, missing_database
from dbos.storage.protocol import Row, Statement, Topic, Tx
from dbos.storage.sqlite_outbox import OutboxListener
from dbos.storage.statements import Compiled, Compiler, SqliteDialect

BUSY_TIMEOUT_S = 30.0
LANE_BUSY_TIMEOUT_S = 5.0
"""Nothing interrupts a wait for the file's lock; the committer tries again, and may give up."""
MAX_READERS = 8
BEGIN_WRITING = "BEGIN IMMEDIATE"
_CACHED_STATEMENTS = 256
_WAL_RETRY_S = 0.02

TRIM_EVERY = 500
"""Commits that ring between two trims of the outbox."""

_logger = logging.getLogger("dbos")


TOUCH_NOTHING = "DELETE FROM perdure_executors WHERE FALSE"


class SqliteTx:
    """One open transaction of a connection."""

    __slots__ = ("_compile", "_connection")

    def __init__(self, connection: sqlite3.Connection, compile_: Compiler) -> None:
        self._connection = connection
        self._compile = compile_

    def one(self, statement: Statement, /, **params: object) -> Row | None:
        # All rows are fetched: a statement that is left halfway commits only when it is dropped,
        # and an error of that commit would be lost.
        rows = self.all(statement, **params)
        return rows[0] if rows else None

    def all(self, statement: Statement, /, **params: object) -> list[Row]:
        return self._execute(self._compile(statement), params).fetchall()

    def run(self, statement: Statement, /, **params: object) -> int:
        cursor = self._execute(self._compile(statement), params)
        cursor.fetchall()
        if cursor.rowcount >= 0:
            return cursor.rowcount
        # The driver does not count for a statement that starts with WITH.
        changed: int = self._connection.execute("SELECT changes()").fetchone()[0]
        return changed

    def _execute(self, compiled: Compiled, params: dict[str, object]) -> sqlite3.Cursor:
        return self._connection.execute(compiled.sql, compiled.bind(params))


class SqliteReadTx(SqliteTx):
    """A transaction that only reads: one damaged text must not hide all other rows from it."""

    __slots__ = ()

    def all(self, statement: Statement, /, **params: object) -> list[Row]:
        try:
            return super().all(statement, **params)
        except sqlite3.OperationalError as error:
            if "decode to UTF-8" not in str(error):
                raise
        self._connection.text_factory = _with_bytes_spelled_out
        try:
            return super().all(statement, **params)
        finally:
            self._connection.text_factory = str


def _with_bytes_spelled_out(text: bytes) -> str:
    """Text that says what is wrong with it; as JSON it stays unreadable."""
    return text.decode(errors="backslashreplace")


class SqliteConnector:
    """Opens connections to one file; never makes the file."""

    def __init__(
        self,
        path: Path,
        display: str,
        clock: HostClock,
        *,
        busy_timeout_s: float,
        is_for_reading: bool = False,
        source: Callable[[], sqlite3.Connection] | None = None,
    ) -> None:
        """`source` makes the connections instead of us, which then set them up only."""
        self._source = source
        self.path = path
        self._display = display
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s
        self._is_for_reading = is_for_reading

    def connect(self) -> sqlite3.Connection:
        return self.open("rw")

    def open(self, mode: str) -> sqlite3.Connection:
        """A connection in autocommit mode; `rwc` makes a missing file."""
        self._refuse_impossible_paths()
        connection = self._source() if self._source is not None else self._connection(mode)
        try:
            # The pragmas below are answered from the file or commit to it in the default mode, so
            # a file that is not a database is noticed here.
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA schema_version").fetchone()
            if self._is_for_reading:
                connection.execute("PRAGMA query_only = ON")
            connection.create_function("perdure_now_ms", 0, self._clock.now_ms)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connection(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            self.uri_of(mode),
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=self._busy_timeout_s,
            cached_statements=_CACHED_STATEMENTS,
        )

    def uri_of(self, mode: str) -> str:
        return f"{self.path.absolute().as_uri()}?mode={mode}"

    def disconnect(self, connection: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):
            connection.close()

    def is_alive(self, connection: sqlite3.Connection) -> bool:
        return True

    def _refuse_impossible_paths(self) -> None:
        if str(self.path) in ("", ".", ":memory:"):
            raise DBOSDatabaseError(
                "A SQLite system database in memory would not survive the process; give a file in"
                " the URL, as in sqlite:///app.sqlite."
            )
        if not self.path.absolute().parent.is_dir():
            raise DBOSDatabaseError(
                f"The database {self._display} cannot be opened: its directory"
                f" {str(self.path.absolute().parent)!r} does not exist. Create it first."
            )


class SqliteDatabase:
    """The storage seam over one SQLite file. Connections open when first needed."""

    lanes = 1

    def __init__(
        self,
        path: str | Path,
        *,
        display: str | None = None,
        pool: PoolSettings | None = None,
        boot_clock: BootClock | None = None,
        connector: Connector[sqlite3.Connection] | None = None,
        source: Callable[[], sqlite3.Connection] | None = None,
    ) -> None:
        self._clock = HostClock(boot_clock)
        self._display = display or f"sqlite:///{path}"
        settings = pool or PoolSettings()
        # The one driver argument that fits this use; the others would change what we rely on.
        busy_timeout_s = float(settings.connect_args.get("timeout", BUSY_TIMEOUT_S))
        location = Path(path)
        self._file = SqliteConnector(
            location, self._display, self._clock, busy_timeout_s=busy_timeout_s, source=source
        )
        reading = SqliteConnector(
            location,
            self._display,
            self._clock,
            busy_timeout_s=busy_timeout_s,
            is_for_reading=True,
            source=source,
        )
        self._compile = Compiler(SqliteDialect())
        self._compile_adopted = Compiler(NamedSqliteDialect())
        writing = SqliteConnector(
            location,
            self._display,
            self._clock,
            busy_timeout_s=min(busy_timeout_s, LANE_BUSY_TIMEOUT_S),
            source=source,
        )
        self._writers = [LaneConnection(connector or writing) for _ in range(self.lanes + 1)]
        size = min(settings.size or MAX_READERS, MAX_READERS)
        few = replace(settings, size=size, max_overflow=0, pre_ping=False)
        self._listening = connector or reading
        self._rings = 0
        self._readers = ConnectionPool(connector or reading, few, reserved=0)

    def write(self, lane: int = 0, *, single: bool = False) -> _Write:
        return _Write(self._writers[lane], self._compile, single)

    def read(self, *, single: bool = False) -> _Read:
        return _Read(self._readers, self._compile, single)

    rings_within = True
    writes_at_once = False
    can_listen = True

    def ring_within(self, tx: Tx, topics: Sequence[Topic]) -> None:
        self._rings += 1
        if self._rings % TRIM_EVERY == 0:
            sqlite_outbox.trim(tx)
        sqlite_outbox.ring(tx, topics)

    def adopt(self, connection: Adopted) -> AdoptedTx:
        return AdoptedTx(connection, self._compile_adopted, self._clock.now_ms)

    def create_if_missing(self) -> None:
        """Make the file if it is missing; nothing in it."""
        self._file.open("rwc").close()

    def exists(self) -> bool:
        """Whether there is such a file."""
        return self._file.path.exists()

    def announcer(self) -> None:
        return None

    def listen(self) -> OutboxListener:
        return OutboxListener(self._listening)

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def refresh_clock(self) -> None:
        """Nothing to measure: the host's own clock is this database's."""

    def migrate(self, *, goes_on: bool = False) -> None:
        """Bring the file, made if it is missing, to our level; safe for many processes at once."""
        try:
            connection = self._file.open("rwc")
            try:
                self._use_write_ahead_log(connection)
                sqlite_schema.migrate(connection, self._display)
                # A file that is read-only from the start is a mistake; one that becomes so later
                # is waited for. A transaction tells only when it writes.
                connection.execute(TOUCH_NOTHING)
                self._clock.settle(connection)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self.translate(error) from None

    def verify(self, *, goes_on: bool = False) -> None:
        """Refuse a file that is missing or not at our level; nothing is created or changed."""
        if not self.exists():
            raise missing_database(self._display)
        try:
            connection = self._file.connect()
            try:
                check(sqlite_schema.look(connection), self._display)
                self._clock.settle(connection)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self.translate(error) from None

    def reset(self, *, truncate: bool = False) -> None:
        """Remove our tables, or with `truncate` their rows; the file and other tables stay."""
        if not self._file.path.exists():
            return
        try:
            connection = self._file.connect()
            try:
                sqlite_schema.reset(connection, self._display, truncate=truncate)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self.translate(error) from None

    def is_transient(self, error: BaseException) -> bool:
        return is_transient_sqlite(error)

    def is_collision(self, error: BaseException) -> bool:
        """Never: a write holds the lock of the file from its start."""
        return False

    def translate(self, error: BaseException) -> BaseException:
        return translate_sqlite(error, self._display)

    def close(self) -> None:
        self._readers.close()
        for writer in self._writers:
            writer.discard()

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        """Switch the file to the write-ahead log, which lasts; warn where it cannot be used.

        Without it everything works, but each commit costs more and readers hold up the writer.
        """
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        mode = _journal_mode(connection, "PRAGMA journal_mode")
        while mode != "wal":
            try:
                mode = _journal_mode(connection, "PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # SQLite does not wait by itself for other connections before this switch.
                if not is_transient_sqlite(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_WAL_RETRY_S)
                continue
            if mode != "wal":
                _logger.warning(
                    "The database %s cannot use a write-ahead log (is it on a network file"
                    " system?) and works with a rollback journal, which is slower.",
                    self._display,
                )
                return


@dataclass(slots=True)
class _Write:
    """A write transaction. It takes the write lock at its start, where waiting for it is safe."""

    _lane: LaneConnection[sqlite3.Connection]
    _compile: Compiler
    _single: bool
    _connection: sqlite3.Connection | None = None

    def __enter__(self) -> SqliteTx:
        connection = self._connection = self._lane.get()
        # A transaction that an interrupt left open must not swallow the next one.
        self._roll_back(connection)
        if not self._single:
            connection.execute(BEGIN_WRITING)
        return SqliteTx(connection, self._compile)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        connection = self._connection
        assert connection is not None, "a write is left after it was entered"
        if kind is None and connection.in_transaction:
            try:
                connection.execute("COMMIT")
            except BaseException:
                self._roll_back(connection)
                raise
        elif kind is not None:
            self._roll_back(connection)
            if breaks_sqlite_connection(error):
                self._lane.discard()

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        # Some faults, a full disk among them, have rolled back already.
        if not connection.in_transaction:
            return
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._lane.discard()


@dataclass(slots=True)
class _Read:
    """A read transaction on a pooled connection."""

    _pool: ConnectionPool[sqlite3.Connection]
    _compile: Compiler
    _single: bool
    _connection: sqlite3.Connection | None = None

    def __enter__(self) -> SqliteReadTx:
        connection = self._connection = self._pool.acquire()
        try:
            if not self._single:
                connection.execute("BEGIN")
        except BaseException:
            self._pool.release(connection, is_usable=False)
            raise
        return SqliteReadTx(connection, self._compile)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        connection = self._connection
        assert connection is not None, "a read is left after it was entered"
        is_usable = False
        try:
            if connection.in_transaction:
                connection.execute("COMMIT")
            is_usable = not breaks_sqlite_connection(error)
        finally:
            self._pool.release(connection, is_usable=is_usable)


def _journal_mode(connection: sqlite3.Connection, pragma: str) -> str:
    mode: str = connection.execute(pragma).fetchone()[0]
    return mode
