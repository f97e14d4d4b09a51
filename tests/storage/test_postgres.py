"""PostgreSQL: connections that break, that are set up rightly, and what is said about faults."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from dbos.config import PoolSettings, parse_database_url
from dbos.errors import DBOSDatabaseError
from dbos.storage.open import OpenOptions, open_database
from dbos.storage.postgres import LANE_IDLE_S, PostgresDatabase, with_defaults
from dbos.storage.protocol import Statement, Tx

Outsider = psycopg.Connection[tuple[Any, ...]]

ADD = Statement("INSERT INTO {workflow_status} (workflow_uuid) VALUES (:id)")
COUNT = Statement("SELECT COUNT(*) FROM {workflow_status}")
PID = Statement("SELECT pg_backend_pid()")
SHOW = Statement("SELECT current_setting(:name)")


def opened(url: str, **options: Any) -> PostgresDatabase:
    database = open_database(parse_database_url(url), OpenOptions(**options))
    assert isinstance(database, PostgresDatabase)
    return database


@pytest.fixture
def database(postgres_url: str) -> Any:
    made = opened(postgres_url)
    made.migrate()
    yield made
    made.close()


def pid_of(tx: Tx) -> int:
    """The backend that serves a transaction."""
    row = tx.one(PID)
    assert row is not None
    return int(row[0])


def terminate(outsider: Outsider, pid: int) -> None:
    """Cut off a backend and wait until it is gone."""
    outsider.execute("SELECT pg_terminate_backend(%s, 30000)", (pid,))


def test_a_lane_cut_off_in_a_transaction_is_replaced(
    database: PostgresDatabase, outsider: Outsider
) -> None:
    def write() -> None:
        with database.write() as tx:
            tx.run(ADD, id="a")
            terminate(outsider, pid_of(tx))
            tx.run(ADD, id="b")

    with pytest.raises(psycopg.Error) as raised:
        write()

    with database.write() as tx:
        tx.run(ADD, id="c")
        count = tx.one(COUNT)

    assert database.is_transient(raised.value)
    assert count == (1,)


def test_a_lane_cut_off_before_its_commit_says_so(
    database: PostgresDatabase, outsider: Outsider
) -> None:
    def write() -> None:
        with database.write() as tx:
            tx.run(ADD, id="a")
            terminate(outsider, pid_of(tx))

    with pytest.raises(psycopg.Error) as raised:
        write()

    assert database.is_transient(raised.value)
    with database.write(single=True) as tx:
        assert tx.run(ADD, id="a") == 1


def test_idle_connections_that_died_are_replaced_unseen(
    database: PostgresDatabase, outsider: Outsider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbos.storage.connections.TRUSTED_IDLE_S", 0.0)
    with database.write() as tx:
        writer = pid_of(tx)
    with database.read() as tx:
        reader = pid_of(tx)

    terminate(outsider, writer)
    terminate(outsider, reader)
    with database.write() as tx:
        tx.run(ADD, id="a")
    with database.read() as tx:
        count = tx.one(COUNT)

    assert count == (1,)


def test_a_failed_statement_that_was_passed_over_is_never_taken_for_a_commit(
    database: PostgresDatabase,
) -> None:
    def write() -> None:
        with database.write() as tx:
            tx.run(ADD, id="a")
            with pytest.raises(psycopg.errors.UniqueViolation):
                tx.run(ADD, id="a")

    with pytest.raises(AssertionError, match="passed over"):
        write()

    with database.write() as tx:
        assert tx.one(COUNT) == (0,)


def test_sessions_are_set_up_as_we_need_them(postgres_url: str, outsider: Outsider) -> None:
    name = outsider.info.dbname
    outsider.execute(
        f'ALTER DATABASE "{name}" SET default_transaction_isolation = serializable'.encode()
    )
    database = opened(postgres_url, idle_transaction_timeout_s=7.5)
    names = ["idle_in_transaction_session_timeout", "transaction_isolation", "client_encoding"]

    with database.write() as tx:
        found = [tx.one(SHOW, name=name) for name in names]
    with database.read() as tx:
        reading = [tx.one(SHOW, name=f"transaction_{name}") for name in ("isolation", "read_only")]
    database.close()

    assert found == [("7500ms",), ("read committed",), ("UTF8",)]
    assert reading == [("repeatable read",), ("on",)]


@pytest.mark.parametrize(
    ("options", "writing", "reading"),
    [
        ({}, LANE_IDLE_S, 60.0),
        ({"lease_s": 3.0}, 3.0, 60.0),
        ({"lease_s": 3600.0}, LANE_IDLE_S, 60.0),
        ({"idle_transaction_timeout_s": 7.5}, 7.5, 7.5),
        ({"idle_transaction_timeout_s": 2.0, "lease_s": 3.0}, 2.0, 2.0),
        ({"idle_transaction_timeout_s": None}, 0.0, 0.0),
    ],
)
def test_a_write_that_idles_is_ended_before_peers_may_take_over_from_its_process(
    postgres_url: str, options: dict[str, Any], writing: float, reading: float
) -> None:
    database = opened(postgres_url, **options)
    show = Statement(
        "SELECT setting FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"
    )

    with database.write() as tx:
        found = [tx.one(show)]
    with database.read() as tx:
        found.append(tx.one(show))
    database.close()

    assert found == [(f"{limit_s * 1000:.0f}",) for limit_s in (writing, reading)]


def test_what_the_address_says_wins_over_our_defaults() -> None:
    pool = PoolSettings(connect_args={"sslmode": "require", "row_factory": object()})

    merged = psycopg.conninfo.conninfo_to_dict(
        with_defaults("host=h dbname=d connect_timeout=3 sslmode=disable", pool)
    )

    assert merged["connect_timeout"] == "3"
    assert merged["sslmode"] == "require"
    assert merged["keepalives_idle"] == "10"
    assert "row_factory" not in merged


def test_connections_open_when_they_are_needed(postgres_url: str, outsider: Outsider) -> None:
    count = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"

    def connections() -> int:
        row = outsider.execute(count.encode(), (outsider.info.dbname,)).fetchone()
        assert row is not None
        return int(row[0])

    database = opened(postgres_url)
    before = connections()
    with database.read() as tx:
        tx.one(PID)
        during = connections()
    database.close()

    assert (before, during) == (0, 1)


def test_the_clock_is_the_servers_to_some_milliseconds(database: PostgresDatabase) -> None:
    offsets: list[int] = []
    for _ in range(5):
        database.refresh_clock()
        with database.read(single=True) as tx:
            row = tx.one(Statement("SELECT {now_ms}"))
        assert row is not None
        offsets.append(abs(database.now_ms() - row[0]))

    assert min(offsets) <= 10


def test_the_clock_follows_elapsed_time_not_the_wall_clock(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = database.now_ms()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "time_ns", lambda: 0)

    assert 0 <= database.now_ms() - before < 10_000


def test_no_fault_tells_a_password_sql_or_a_value(postgres_url: str, outsider: Outsider) -> None:
    outsider.execute(b"CREATE ROLE stranger LOGIN PASSWORD 'right'")
    address = parse_database_url(postgres_url)
    secret = f"postgresql://stranger:hunter2@127.0.0.1:{address.port}/{address.database}"

    with pytest.raises(DBOSDatabaseError) as raised:
        opened(secret).migrate()
    outsider.execute(b"DROP ROLE stranger")

    assert "hunter2" not in str(raised.value)
    assert f"stranger@127.0.0.1:{address.port}/{address.database}" in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("sql", "state", "fragment"),
    [
        ("SELECT secret FROM {workflow_status}", "42703", "run the migrations"),
        ("SELECT CAST('secret' AS integer)", "22P02", "cannot be stored"),
        ("SELECT 1 FROM secret.table", "42P01", "run the migrations"),
    ],
)
def test_faults_of_statements_are_told_by_their_state(
    database: PostgresDatabase, sql: str, state: str, fragment: str
) -> None:
    with pytest.raises(psycopg.Error) as raised, database.read() as tx:
        tx.all(Statement(sql))

    told = database.translate(raised.value)

    assert isinstance(told, DBOSDatabaseError)
    assert told.sqlstate == state
    assert fragment in str(told)
    assert "secret" not in str(told)
    assert not database.is_transient(raised.value)


@pytest.mark.parametrize(
    ("error", "is_transient"),
    [
        (psycopg.errors.SerializationFailure, True),
        (psycopg.errors.DeadlockDetected, True),
        (psycopg.errors.DiskFull, True),
        (psycopg.errors.TooManyConnections, True),
        (psycopg.errors.AdminShutdown, True),
        (psycopg.errors.CannotConnectNow, True),
        (psycopg.errors.ConnectionFailure, True),
        (psycopg.errors.LockNotAvailable, True),
        (psycopg.errors.ReadOnlySqlTransaction, True),
        (psycopg.OperationalError, True),
        (psycopg.errors.UniqueViolation, False),
        (psycopg.errors.InsufficientPrivilege, False),
        (psycopg.errors.UndefinedTable, False),
        (psycopg.errors.QueryCanceled, False),
        (psycopg.ProgrammingError, False),
        (OSError, False),
    ],
)
def test_only_faults_that_waiting_cures_are_waited_out(
    postgres_url: str, error: type[Exception], is_transient: bool
) -> None:
    database = opened(postgres_url)

    assert database.is_transient(error("x")) is is_transient


def test_an_unreachable_server_fails_the_launch_with_our_error() -> None:
    database = opened("postgresql://someone:hunter2@127.0.0.1:1/nowhere")

    with pytest.raises(DBOSDatabaseError, match="no connection could be made") as raised:
        database.migrate()

    assert "hunter2" not in str(raised.value)


def test_notices_and_bell_settings_stay_within_their_transaction(
    database: PostgresDatabase,
) -> None:
    quiet = Statement("SELECT set_config('perdure.quiet', 'on', TRUE)")
    setting = Statement("SELECT COALESCE(current_setting('perdure.quiet', TRUE), '')")

    with database.write() as tx:
        tx.all(quiet)
        during = tx.one(setting)
    with database.write() as tx:
        after = tx.one(setting)

    assert (during, after) == (("on",), ("",))
