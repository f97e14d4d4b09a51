"""SQLite: how the file is opened, what is said when it cannot be, and its clock."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dbos.config import PoolSettings
from dbos.errors import DBOSDatabaseError
from dbos.storage.host_clock import BootClock, HostClock
from dbos.storage.protocol import Statement
from dbos.storage.sqlite import SqliteConnector, SqliteDatabase

ADD = Statement("INSERT INTO {workflow_status} (workflow_uuid) VALUES (:id)")

PRINT_CLOCK = """
import sys, time
read_wall_clock = time.time_ns
time.time_ns = lambda: read_wall_clock() + int(sys.argv[2]) * 1_000_000
from dbos.storage.sqlite import SqliteDatabase
database = SqliteDatabase(sys.argv[1])
database.migrate()
print(database.now_ms() - time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000)
"""


def pragma(path: Path, name: str) -> object:
    connector = SqliteConnector(path, "x", HostClock(), busy_timeout_s=30.0)
    connection = connector.connect()
    try:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        connector.disconnect(connection)


def test_every_commit_is_synced_and_foreign_keys_are_on(sqlite_path: Path) -> None:
    SqliteDatabase(sqlite_path).migrate()

    found = [pragma(sqlite_path, name) for name in ("journal_mode", "synchronous", "foreign_keys")]

    assert found == ["wal", 2, 1]
    assert pragma(sqlite_path, "busy_timeout") == 30_000


def test_opening_and_reading_nothing_makes_no_file(sqlite_path: Path) -> None:
    database = SqliteDatabase(sqlite_path)

    with pytest.raises(sqlite3.OperationalError), database.read():
        pass
    database.close()

    assert not sqlite_path.exists()


def test_a_path_with_special_characters_is_taken_literally(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=memory#%41é.sqlite"

    database = SqliteDatabase(path)
    database.migrate()
    with database.write() as tx:
        tx.run(ADD, id="a")
    database.close()

    assert path.exists()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "nowhere" / "system.sqlite")

    with pytest.raises(DBOSDatabaseError, match="nowhere' does not exist"):
        database.migrate()


def test_a_file_that_is_no_database_is_refused_and_kept(sqlite_path: Path) -> None:
    sqlite_path.write_text("I am a letter to my grandmother. " * 100)
    before = sqlite_path.read_bytes()

    with pytest.raises(DBOSDatabaseError, match="not a SQLite database") as raised:
        SqliteDatabase(sqlite_path).migrate()

    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    assert sqlite_path.read_bytes() == before


@pytest.mark.parametrize("path", [":memory:", ""])
def test_a_database_in_memory_is_refused(path: str) -> None:
    with pytest.raises(DBOSDatabaseError, match="in memory"):
        SqliteDatabase(path).migrate()


def test_a_rollback_journal_serves_where_the_log_cannot_be_used(
    sqlite_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SQLite refuses the log for a file opened by this VFS, as it does on some file systems.
    monkeypatch.setattr(
        SqliteConnector, "uri_of", lambda self, mode: f"file:{self.path}?mode={mode}&vfs=unix-none"
    )
    monkeypatch.setattr(logging.getLogger("dbos"), "propagate", True)
    database = SqliteDatabase(sqlite_path)

    with caplog.at_level(logging.WARNING, "dbos"):
        database.migrate()
    with database.write() as tx:
        tx.run(ADD, id="a")
    database.close()

    assert "rollback journal" in caplog.text


def test_a_locked_file_is_a_passing_fault(sqlite_path: Path) -> None:
    database = SqliteDatabase(sqlite_path, pool=PoolSettings(connect_args={"timeout": 0.01}))
    database.migrate()
    locker = sqlite3.connect(sqlite_path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")

    with pytest.raises(sqlite3.OperationalError) as raised, database.write():
        pass
    locker.close()
    with database.write() as tx:
        tx.run(ADD, id="a")
    database.close()

    assert database.is_transient(raised.value)
    assert "of this process or another, held its lock" in str(database.translate(raised.value))


def test_a_full_disk_is_a_passing_fault_and_leaves_nothing_behind(sqlite_path: Path) -> None:
    database = SqliteDatabase(sqlite_path)
    database.migrate()
    limit = Statement("PRAGMA max_page_count = 1")
    unlimited = Statement("PRAGMA max_page_count = 1000000")
    payload = Statement("INSERT INTO {workflow_status} (workflow_uuid, inputs) VALUES (:id, :text)")
    with database.write(single=True) as tx:
        tx.all(limit)

    with pytest.raises(sqlite3.OperationalError) as raised, database.write() as tx:
        tx.run(payload, id="a", text="x" * 2**20)
    with database.write(single=True) as tx:
        tx.all(unlimited)
    with database.write() as tx:
        tx.run(payload, id="b", text="x" * 2**20)
        rows = tx.all(Statement("SELECT workflow_uuid FROM {workflow_status}"))
    database.close()

    assert database.is_transient(raised.value)
    assert rows == [("b",)]


def test_a_file_that_becomes_read_only_is_a_passing_fault(sqlite_path: Path) -> None:
    SqliteDatabase(sqlite_path).migrate()
    mode = ["ro"]
    database = SqliteDatabase(
        sqlite_path,
        source=lambda: sqlite3.connect(
            f"{sqlite_path.as_uri()}?mode={mode[0]}", uri=True, isolation_level=None
        ),
    )

    with pytest.raises(sqlite3.OperationalError) as raised, database.write() as tx:
        tx.run(ADD, id="a")
    mode[0] = "rw"
    with database.write() as tx:
        tx.run(ADD, id="a")
    database.close()

    assert database.is_transient(raised.value)
    assert "read-only" in str(database.translate(raised.value))


def test_a_file_that_is_read_only_from_the_start_is_refused(sqlite_path: Path) -> None:
    SqliteDatabase(sqlite_path).migrate()
    where = f"{sqlite_path.as_uri()}?mode=ro"
    database = SqliteDatabase(
        sqlite_path, source=lambda: sqlite3.connect(where, uri=True, isolation_level=None)
    )

    with pytest.raises(DBOSDatabaseError, match="read-only"):
        database.migrate()
    database.close()


def test_faults_tell_neither_sql_nor_values(sqlite_path: Path) -> None:
    database = SqliteDatabase(sqlite_path)
    database.migrate()
    bad = Statement("SELECT secret_column FROM {workflow_status} WHERE name = :name")

    with pytest.raises(sqlite3.OperationalError) as raised, database.read() as tx:
        tx.all(bad, name="hunter2")
    told = database.translate(raised.value)
    database.close()

    assert isinstance(told, DBOSDatabaseError)
    assert str(sqlite_path) in str(told)
    assert "secret_column" not in str(told)
    assert "hunter2" not in str(told)


def test_other_errors_are_left_alone(sqlite_path: Path) -> None:
    database = SqliteDatabase(sqlite_path)
    error = ValueError("mine")

    assert database.translate(error) is error
    assert not database.is_transient(error)


class FakeBoot:
    """A host's time since boot, moved by the test."""

    def __init__(self, boot_id: str | None, elapsed_ms: int) -> None:
        self.elapsed_ms = elapsed_ms
        self.clock = BootClock(boot_id, lambda: self.elapsed_ms)


def test_the_first_process_after_a_boot_sets_the_clock_for_all(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = FakeBoot("boot 1", 1_000)
    first = SqliteDatabase(sqlite_path, boot_clock=boot.clock)
    first.migrate()
    began = first.now_ms()
    boot.elapsed_ms += 5_000
    monkeypatch.setattr("time.time_ns", lambda: 0)

    second = SqliteDatabase(sqlite_path, boot_clock=boot.clock)
    second.verify()

    assert second.now_ms() == first.now_ms() == began + 5_000


def test_a_later_boot_sets_the_clock_anew(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqliteDatabase(sqlite_path, boot_clock=FakeBoot("boot 1", 1_000_000).clock).migrate()
    monkeypatch.setattr("time.time_ns", lambda: 42_000_000_000)

    database = SqliteDatabase(sqlite_path, boot_clock=FakeBoot("boot 2", 7).clock)
    database.verify()

    assert database.now_ms() == 42_000


def test_without_a_clock_of_the_host_nothing_is_agreed(sqlite_path: Path) -> None:
    database = SqliteDatabase(sqlite_path, boot_clock=FakeBoot(None, 5).clock)
    database.migrate()

    with database.read() as tx:
        assert tx.all(Statement("SELECT * FROM {perdure_host_clock}")) == []
    database.close()


def test_the_clock_in_sql_is_the_clock_in_python(sqlite_path: Path) -> None:
    boot = FakeBoot("boot", 10)
    database = SqliteDatabase(sqlite_path, boot_clock=boot.clock)
    database.migrate()
    boot.elapsed_ms += 1234

    with database.read() as tx:
        row = tx.one(Statement("SELECT {now_ms}"))
    database.close()

    assert row == (database.now_ms(),)


def test_two_processes_whose_wall_clocks_differ_have_one_clock(sqlite_path: Path) -> None:
    command = [sys.executable, "-c", PRINT_CLOCK, str(sqlite_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen([*command, shift], stdout=subprocess.PIPE, env=environment, text=True)
        for shift in ("0", "3600000")
    ]

    offsets = [int(process.communicate(timeout=60)[0]) for process in processes]

    assert abs(offsets[0] - offsets[1]) <= 2


def test_opening_sqlite_loads_no_postgres_driver() -> None:
    program = "import sys, dbos.storage.open; print('psycopg' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )

    assert done.stdout.strip() == "False"
