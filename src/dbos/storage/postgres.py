"""PostgreSQL as the database: a connection for each write lane, a pool for readers."""

from __future__ import annotations

import selectors
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import TextLoader

from dbos.config import PoolSettings
from dbos.storage import postgres_schema
from dbos.storage.adopted import Adopted, AdoptedTx, NamedPostgresDialect
from dbos.storage.connections import ConnectionPool, Connector, LaneConnection
from dbos.storage.faults import (
    is_postgres_collision,
    is_transient_postgres,
    translate_postgres,
)
from dbos.storage.host_clock import host_boot_clock
from dbos.storage.migrate import check, missing_database
from dbos.storage.postgres_notify import Announcer, SessionListener
from dbos.storage.protocol import Row, Statement, Topic, Tx
from dbos.storage.statements import Compiler, PostgresDialect

Connection = psycopg.Connection[Row]

# Preparing at the second use spares one-off statements and costs the frequent ones nothing.
_PREPARE_THRESHOLD = 1
_PREPARED_MAX = 256
_CLOCK_PROBES = 3
_QUICK_PROBE_S = 0.002
"""A round trip this short tells the server's time well enough: no other is made."""
LANE_IDLE_S = 10.0
"""How long a write may idle amid its transaction, unless lease or configuration are shorter."""
_DEFAULTS: dict[str, str | int] = {
    "connect_timeout": 10,
    "client_encoding": "UTF8",
    "fallback_application_name": "perdure",
    # A peer that vanished without a word is noticed within half a minute, not within two hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
# Arguments of psycopg rather than of libpq: this module sets them as it needs them.
_OURS = frozenset({"autocommit", "context", "cursor_factory", "prepare_threshold", "row_factory"})
_NOW = b"SELECT (EXTRACT(epoch FROM clock_timestamp()) * 1000.0)::bigint"


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """Which database to open and how.

    `display` is the address for messages, without a password; `maintenance` is the address of a
    database on the same server from which `database` can be created.
    """

    conninfo: str
    database: str
    display: str
    maintenance: str | None = None
    schema: str = "dbos"
    use_listen_notify: bool = True
    pool: PoolSettings = field(default_factory=PoolSettings)
    idle_transaction_timeout_s: float | None = 60.0
    lease_s: float = 15.0


class PostgresTx:
    """One open transaction of a connection."""

    __slots__ = ("_compile", "_cursor")

    def __init__(self, connection: Connection, compile_: Compiler) -> None:
        self._cursor = connection.cursor()
        self._compile = compile_

    def one(self, statement: Statement, /, **params: object) -> Row | None:
        return self._execute(statement, params).fetchone()

    def all(self, statement: Statement, /, **params: object) -> list[Row]:
        return self._execute(statement, params).fetchall()

    def run(self, statement: Statement, /, **params: object) -> int:
        return self._execute(statement, params).rowcount

    def _execute(self, statement: Statement, params: dict[str, Any]) -> psycopg.Cursor[Row]:
        compiled = self._compile(statement)
        # The driver prepares what is used often, and the server then keeps a plan for it.
        prepare = False if statement.is_planned_anew else None
        return self._cursor.execute(compiled.encoded, compiled.bind(params), prepare=prepare)


class PostgresConnector:
    """Opens connections to one database, set up the way this module relies on."""

    def __init__(self, settings: PostgresSettings) -> None:
        self._conninfo = with_defaults(settings.conninfo, settings.pool)
        # None is how users of transaction poolers switch prepared statements off.
        self._prepare_threshold: int | None = settings.pool.connect_args.get(
            "prepare_threshold", _PREPARE_THRESHOLD
        )
        self._idle_transaction_timeout_s = settings.idle_transaction_timeout_s

    def connect(self) -> Connection:
        connection = psycopg.connect(
            self._conninfo, autocommit=True, prepare_threshold=self._prepare_threshold
        )
        try:
            set_up(connection, self._idle_transaction_timeout_s)
        except BaseException:
            connection.close()
            raise
        return connection

    def disconnect(self, connection: Connection) -> None:
        with suppress(psycopg.Error, OSError):
            connection.close()

    def is_alive(self, connection: Connection) -> bool:
        """An idle connection has nothing to read, unless the server said goodbye."""
        if connection.closed:
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(connection.pgconn.socket, selectors.EVENT_READ)
            return not selector.select(timeout=0)


class _LaneConnector:
    """Opens the connections of write lanes, whose transactions never idle by themselves.

    A process that is frozen amid one holds row locks. They are gone when its lease is, so that its
    peers take over what is locked as soon as the rest. Who allows idling for ever gets that.
    """

    def __init__(self, source: Connector[Connection], settings: PostgresSettings) -> None:
        self._source = source
        limit_s, lane_s = settings.idle_transaction_timeout_s, min(LANE_IDLE_S, settings.lease_s)
        # A connection of the source has the limit already.
        self._idle_s = None if limit_s is None or limit_s <= lane_s else lane_s
        self.disconnect = source.disconnect
        self.is_alive = source.is_alive

    def connect(self) -> Connection:
        connection = self._source.connect()
        if self._idle_s is None:
            return connection
        try:
            text = f"SET idle_in_transaction_session_timeout = {round(self._idle_s * 1000)}"
            connection.execute(text.encode(), prepare=False)
        except BaseException:
            self.disconnect(connection)
            raise
        return connection


class SourceConnector(PostgresConnector):
    """Sets up connections that somebody else opened for us."""

    def __init__(self, settings: PostgresSettings, source: Callable[[], Connection]) -> None:
        super().__init__(settings)
        self._source = source

    def connect(self) -> Connection:
        connection = self._source()
        try:
            connection.autocommit = True
            connection.prepare_threshold = self._prepare_threshold
            set_up(connection, self._idle_transaction_timeout_s)
        except BaseException:
            connection.close()
            raise
        return connection


class PostgresDatabase:
    """The storage seam over one schema of a database. Connections open when first needed."""

    lanes = 2

    def __init__(
        self, settings: PostgresSettings, *, connector: Connector[Connection] | None = None
    ) -> None:
        self._settings = settings
        self._display = settings.display
        self._compile = Compiler(PostgresDialect(settings.schema))
        self._compile_adopted = Compiler(NamedPostgresDialect(settings.schema))
        self._schema = postgres_schema.PostgresSchema(settings.schema, settings.display)
        self._is_address_ours = connector is None
        source = self._source = connector or PostgresConnector(settings)
        writing = _LaneConnector(source, settings)
        self._writers = [LaneConnection(writing) for _ in range(self.lanes + 1)]
        # Beside the lanes and the lease there are the listener and the announcer.
        self._readers = ConnectionPool(source, settings.pool, reserved=self.lanes + 3)
        self._elapsed_ms = host_boot_clock().elapsed_ms
        self._clock_offset_ms: int | None = None

    def write(self, lane: int = 0, *, single: bool = False) -> _Write:
        return _Write(self._writers[lane], self._compile, single)

    def read(self, *, single: bool = False) -> _Read:
        return _Read(self._readers, self._compile, single)

    rings_within = False
    writes_at_once = True

    @property
    def can_listen(self) -> bool:
        return self._settings.use_listen_notify

    def ring_within(self, tx: Tx, topics: Sequence[Topic]) -> None:
        """Nothing: NOTIFY takes a lock of the whole server at commit, so it comes afterwards."""

    def adopt(self, connection: Adopted) -> AdoptedTx:
        return AdoptedTx(connection, self._compile_adopted)

    def create_if_missing(self) -> None:
        """Make the database if it is missing; nothing in it."""
        self._source.disconnect(self._connect_or_create())

    def exists(self) -> bool:
        """Whether the server has the database; yes where it does not tell."""
        return self._exists() is not False

    def announcer(self) -> Announcer | None:
        return Announcer(self._source) if self._settings.use_listen_notify else None

    def listen(self) -> SessionListener:
        return SessionListener(self._source)

    def now_ms(self) -> int:
        if self._clock_offset_ms is None:
            self.refresh_clock()
        assert self._clock_offset_ms is not None, "refresh_clock sets the offset"
        return self._elapsed_ms() + self._clock_offset_ms

    def refresh_clock(self) -> None:
        """Measure the server's clock against ours; a quick round trip counts, or the best of a few.

        The lease's own connection is asked, which is not held up by a pool that is in use.
        """
        lane = self._writers[self.lanes]
        try:
            self._clock_offset_ms = _clock_offset_ms(lane.get())
        except BaseException:
            lane.discard()
            raise

    def migrate(self, *, goes_on: bool = False) -> None:
        """Bring the schema, and the database if it is missing, to our level."""
        try:
            connection = self._connect_or_create()
            with self._first_use(connection, goes_on=goes_on):
                self._schema.migrate(connection, use_listen_notify=self._settings.use_listen_notify)
        except psycopg.Error as error:
            raise self.translate(error) from None

    def verify(self, *, goes_on: bool = False) -> None:
        """Refuse a schema that is missing or not at our level; nothing is created or changed."""
        try:
            connection = self._connect_if_exists()
            if connection is None:
                raise missing_database(self._display)
            with self._first_use(connection, goes_on=goes_on):
                check(self._schema.look(connection), self._display)
        except psycopg.Error as error:
            raise self.translate(error) from None

    def reset(self, *, truncate: bool = False) -> None:
        """Remove our tables and functions, or with `truncate` our rows; everything else stays."""
        try:
            connection = self._connect_if_exists()
            if connection is None:
                return
            try:
                self._schema.reset(connection, truncate=truncate)
            finally:
                self._source.disconnect(connection)
        except psycopg.Error as error:
            raise self.translate(error) from None

    def grant(self, role: str) -> None:
        """Let an application role use the schema, now and after later migrations."""
        try:
            connection = self._source.connect()
            try:
                self._schema.grant(connection, role)
            finally:
                self._source.disconnect(connection)
        except psycopg.Error as error:
            raise self.translate(error) from None

    def is_transient(self, error: BaseException) -> bool:
        return is_transient_postgres(error, psycopg.Error)

    def is_collision(self, error: BaseException) -> bool:
        return is_postgres_collision(error)

    def translate(self, error: BaseException) -> BaseException:
        return translate_postgres(error, self._display, psycopg.Error)

    def close(self) -> None:
        self._readers.close()
        for writer in self._writers:
            writer.discard()

    @contextmanager
    def _first_use(self, connection: Connection, *, goes_on: bool) -> Generator[None, None, None]:
        """Ask for the time after the block, and leave the connection to readers if any follow."""
        try:
            yield
            self._clock_offset_ms = _clock_offset_ms(connection)
        except BaseException:
            self._source.disconnect(connection)
            raise
        if goes_on:
            self._readers.adopt(connection)
        else:
            self._source.disconnect(connection)

    def _connect_or_create(self) -> Connection:
        try:
            return self._source.connect()
        except psycopg.OperationalError:
            if self.exists():
                raise
        postgres_schema.create_database(self._maintenance(), self._settings.database, self._display)
        return self._source.connect()

    def _connect_if_exists(self) -> Connection | None:
        try:
            return self._source.connect()
        except psycopg.OperationalError:
            if self._exists() is not False:
                raise
        return None

    def _exists(self) -> bool | None:
        """Whether the server has the database, None if it does not tell.

        A refused connection has no SQLSTATE and its text depends on the server's language, so the
        catalogue is asked.
        """
        if self._settings.maintenance is None or not self._is_address_ours:
            return None
        try:
            return postgres_schema.database_exists(self._maintenance(), self._settings.database)
        except psycopg.Error:
            return None

    def _maintenance(self) -> str:
        assert self._settings.maintenance is not None, "asked only if there is such an address"
        return with_defaults(self._settings.maintenance, self._settings.pool)


def set_up(connection: Connection, idle_transaction_timeout_s: float | None) -> None:
    """Make a connection in autocommit mode what this module relies on, wherever it comes from."""
    connection.prepared_max = _PREPARED_MAX
    # Integers always go as bigint, so that a statement is prepared once; JSON comes back as text.
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_loader("json", TextLoader)
    connection.adapters.register_loader("jsonb", TextLoader)
    timeout_ms = round((idle_transaction_timeout_s or 0) * 1000)
    # Set by statements, not by start-up options: poolers refuse options they do not know.
    session = (
        f"SET idle_in_transaction_session_timeout = {timeout_ms};"
        " SET default_transaction_isolation = 'read committed';"
        # Our statements take a millisecond; compiling one that looks dear takes hundreds.
        " SET jit = off"
    )
    connection.execute(session.encode(), prepare=False)


def connect_for_users(conninfo: str, pool: PoolSettings) -> Connection:
    """A connection for the user's own statements: our ways to connect, the driver's own manners."""
    threshold: int | None = pool.connect_args.get("prepare_threshold", 5)
    return psycopg.connect(with_defaults(conninfo, pool), prepare_threshold=threshold)


def async_connector_for_users(
    conninfo: str, arguments: Mapping[str, Any]
) -> Callable[[], Awaitable[psycopg.AsyncConnection[Any]]]:
    """What opens such connections for an event loop; `arguments` are the user's, for psycopg."""
    pool = PoolSettings(connect_args=arguments)
    threshold: int | None = arguments.get("prepare_threshold", 5)

    async def connect() -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            with_defaults(conninfo, pool), prepare_threshold=threshold
        )

    return connect


def with_defaults(conninfo: str, pool: PoolSettings) -> str:
    """The address with the configured arguments, which win, and our defaults for what is open."""
    given = {name: value for name, value in pool.connect_args.items() if name not in _OURS}
    return make_conninfo("", **{**_DEFAULTS, **conninfo_to_dict(conninfo), **given})


@dataclass(slots=True)
class _Write:
    """A write transaction of a lane, or a single statement that commits by itself."""

    _lane: LaneConnection[Connection]
    _compile: Compiler
    _single: bool
    _connection: Connection | None = None

    def __enter__(self) -> PostgresTx:
        connection = self._connection = self._lane.get()
        if not self._single:
            try:
                connection.execute(b"BEGIN")
            except BaseException:
                self._lane.discard()
                raise
        return PostgresTx(connection, self._compile)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        connection = self._connection
        assert connection is not None, "a write is left after it was entered"
        is_usable = False
        try:
            is_usable = _finish(connection, commits=kind is None)
        finally:
            if not is_usable:
                self._lane.discard()


@dataclass(slots=True)
class _Read:
    """A read-only snapshot on a pooled connection, or a single statement with its own."""

    _pool: ConnectionPool[Connection]
    _compile: Compiler
    _single: bool
    _connection: Connection | None = None

    def __enter__(self) -> PostgresTx:
        connection = self._connection = self._pool.acquire()
        try:
            if not self._single:
                connection.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        except BaseException:
            self._pool.release(connection, is_usable=False)
            raise
        return PostgresTx(connection, self._compile)

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
            is_usable = _finish(connection, commits=kind is None)
        finally:
            self._pool.release(connection, is_usable=is_usable)


def _finish(connection: Connection, *, commits: bool) -> bool:
    """End the transaction, if one is open; False if the connection must not be used again."""
    status = connection.pgconn.transaction_status
    if status == pq.TransactionStatus.IDLE:
        return True
    if commits:
        # COMMIT of a failed transaction would roll back and call that a success.
        assert status != pq.TransactionStatus.INERROR, "a failed statement was passed over"
        connection.execute(b"COMMIT")
        return True
    if status not in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR):
        return False
    try:
        connection.execute(b"ROLLBACK")
    except psycopg.Error:
        # The server rolls back what a lost connection leaves behind; the block's error counts.
        return False
    return True


def _clock_offset_ms(connection: Connection) -> int:
    elapsed_ms = host_boot_clock().elapsed_ms
    probes: list[tuple[float, int]] = []
    while len(probes) < _CLOCK_PROBES and not (probes and min(probes)[0] <= _QUICK_PROBE_S):
        started, sent_ms = time.monotonic(), elapsed_ms()
        row = connection.execute(_NOW).fetchone()
        received_ms = elapsed_ms()
        assert row is not None, "SELECT without FROM gives a row"
        probes.append((time.monotonic() - started, int(row[0]) - (sent_ms + received_ms) // 2))
    return min(probes)[1]
