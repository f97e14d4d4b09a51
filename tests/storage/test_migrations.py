"""Every rule about levels, on real databases, and the schema held against what was published."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbos.config import parse_database_url
from dbos.errors import DBOSDatabaseError, DBOSInitializationError
from dbos.storage.migrate import script
from dbos.storage.open import OpenOptions, open_database
from dbos.storage.postgres import PostgresDatabase
from dbos.storage.protocol import Statement
from dbos.storage.sqlite import SqliteDatabase
from tests.storage import introspection
from tests.storage.conftest import AnyDatabase
from tests.storage.expected_schema import (
    FOREIGN_KEYS,
    UNIQUE_COLUMNS,
    expected_indexes,
    expected_tables,
)

Outsider = psycopg.Connection[tuple[Any, ...]]

LEVELS = Statement(
    "SELECT (SELECT MAX(version) FROM {dbos_migrations}),"
    " (SELECT MAX(version) FROM {perdure_migrations}),"
    " (SELECT COUNT(*) FROM {dbos_migrations}) + (SELECT COUNT(*) FROM {perdure_migrations})"
)
MIGRATE_ON_SIGNAL = """
import sys
from dbos.config import parse_database_url
from dbos.storage.open import open_database
database = open_database(parse_database_url(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
database.migrate()
database.verify()
database.close()
"""


def opened(url: str, **options: Any) -> Any:
    return open_database(parse_database_url(url), OpenOptions(**options))


def run_script(database: AnyDatabase, url: str, *texts: str) -> None:
    """Prepare a database as somebody else would, outside of what is tested."""
    if isinstance(database, SqliteDatabase):
        with closing(sqlite3.connect(parse_database_url(url).path)) as connection:
            for text in texts:
                connection.executescript(text)
        return
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(b"CREATE SCHEMA IF NOT EXISTS dbos")
        for text in texts:
            connection.execute(text.replace("{schema}", "dbos").encode())


def tables_of(database: AnyDatabase, url: str) -> set[str]:
    if isinstance(database, SqliteDatabase):
        with closing(sqlite3.connect(parse_database_url(url).path)) as connection:
            return set(introspection.sqlite_tables(connection))
    with psycopg.connect(url) as connection:
        connection.execute(b"CREATE SCHEMA IF NOT EXISTS dbos")
        return set(introspection.postgres_tables(connection, "dbos"))


def reference_script(database: AnyDatabase) -> str:
    return script(
        "sqlite" if isinstance(database, SqliteDatabase) else "postgres", "0000_reference"
    )


def levels(database: AnyDatabase) -> tuple[Any, ...] | None:
    with database.read() as tx:
        return tx.one(LEVELS)


def test_a_fresh_sqlite_database_has_the_published_schema(sqlite_path: Path) -> None:
    SqliteDatabase(sqlite_path).migrate()

    with closing(sqlite3.connect(sqlite_path)) as connection:
        tables = introspection.sqlite_tables(connection)
        indexes = introspection.sqlite_indexes(connection)
        keys, unique = introspection.sqlite_constraints(connection)

    expected = expected_tables("sqlite")
    assert {name: sorted(columns, key=str) for name, columns in tables.items()} == {
        name: sorted(columns, key=str) for name, columns in expected.items()
    }
    assert indexes == expected_indexes("sqlite")
    assert (keys, unique) == (FOREIGN_KEYS, UNIQUE_COLUMNS)


@pytest.mark.parametrize("schema", ["dbos", 'Odd "one" \' 100% {schema}'])
def test_a_fresh_postgres_schema_is_the_published_one(
    postgres_url: str, outsider: Outsider, schema: str
) -> None:
    opened(postgres_url, schema=schema).migrate()

    quoted = '"' + schema.replace('"', '""') + '"'
    tables = introspection.postgres_tables(outsider, quoted)
    indexes = introspection.postgres_indexes(outsider, quoted)
    keys, unique = introspection.postgres_constraints(outsider, quoted)

    expected = expected_tables("postgres")
    assert {name: sorted(columns, key=str) for name, columns in tables.items()} == {
        name: sorted(columns, key=str) for name, columns in expected.items()
    }
    assert indexes == expected_indexes("postgres")
    assert (keys, unique) == (FOREIGN_KEYS, UNIQUE_COLUMNS)


def test_the_index_on_attributes_is_inverted(postgres_url: str, outsider: Outsider) -> None:
    opened(postgres_url).migrate()

    row = outsider.execute(
        b"SELECT indexdef FROM pg_indexes WHERE indexname = 'idx_workflow_status_attributes'"
    ).fetchone()

    assert row is not None
    assert "USING gin" in str(row[0])


def test_a_fresh_database_says_its_levels_and_migrating_again_changes_nothing(
    database: AnyDatabase,
) -> None:
    database.migrate()
    database.verify()

    assert levels(database) == (108, 1, 2)


def test_a_database_of_the_reference_only_gets_our_additions(
    empty_database: AnyDatabase, database_url: str
) -> None:
    schema = "dbos." if isinstance(empty_database, PostgresDatabase) else ""
    run_script(
        empty_database,
        database_url,
        reference_script(empty_database),
        f"INSERT INTO {schema}workflow_status (workflow_uuid, status) VALUES ('old', 'PENDING')",
    )
    columns = "workflow_uuid, claim_returns, incarnation_id"
    if schema:
        columns += ", enqueue_seq IS NULL"

    empty_database.migrate()
    with empty_database.read() as tx:
        rows = tx.all(Statement(f"SELECT {columns} FROM {{workflow_status}}"))

    assert rows == [("old", 0, None, True)[: 4 if schema else 3]]
    assert levels(empty_database) == (108, 1, 2)


@pytest.mark.parametrize(("level", "fragment"), [(107, "2.31.1 once"), (109, "3.x"), (0, "2.31.1")])
def test_another_level_of_the_reference_is_refused_and_left_alone(
    empty_database: AnyDatabase, database_url: str, level: int, fragment: str
) -> None:
    schema = "dbos." if isinstance(empty_database, PostgresDatabase) else ""
    run_script(
        empty_database,
        database_url,
        reference_script(empty_database),
        f"UPDATE {schema}dbos_migrations SET version = {level}",
    )
    before = tables_of(empty_database, database_url)

    for attempt in (empty_database.migrate, empty_database.verify):
        with pytest.raises(DBOSInitializationError, match=fragment) as raised:
            attempt()
        assert f"at level {level}" in str(raised.value)
        assert "108" in str(raised.value)

    assert tables_of(empty_database, database_url) == before


def test_a_later_level_of_ours_is_opened_as_it_is(database: AnyDatabase) -> None:
    with database.write() as tx:
        tx.run(Statement("UPDATE {perdure_migrations} SET version = 7"))

    database.migrate()
    database.verify()

    assert levels(database) == (108, 7, 2)


@pytest.mark.parametrize("name", ["queues", "Queues", "perdure_executors", "dbos_migrations"])
def test_a_table_of_the_users_under_our_name_is_named_and_nothing_changes(
    empty_database: AnyDatabase, database_url: str, name: str
) -> None:
    schema = "dbos." if isinstance(empty_database, PostgresDatabase) else ""
    run_script(
        empty_database,
        database_url,
        f"CREATE TABLE {schema}{name} (mine TEXT); INSERT INTO {schema}{name} VALUES ('kept')",
    )

    for attempt in (empty_database.migrate, empty_database.verify):
        with pytest.raises(
            DBOSInitializationError, match=f"table '{name.lower()}' that is not ours"
        ):
            attempt()

    assert {table.lower() for table in tables_of(empty_database, database_url)} == {name.lower()}
    with empty_database.read() as tx:
        assert tx.all(Statement(f"SELECT mine FROM {{{name.lower()}}}")) == [("kept",)]


def test_other_tables_of_the_users_are_no_obstacle(
    empty_database: AnyDatabase, database_url: str
) -> None:
    run_script(empty_database, database_url, "CREATE TABLE customers (name TEXT)")

    empty_database.migrate()

    assert levels(empty_database) == (108, 1, 2)


def test_verifying_an_empty_database_names_what_is_required_and_creates_nothing(
    empty_database: AnyDatabase, database_url: str
) -> None:
    with pytest.raises(DBOSInitializationError, match=r"required .* 108 .* found: no ") as raised:
        empty_database.verify()

    assert "dbos migrate" in str(raised.value)
    if isinstance(empty_database, SqliteDatabase):
        assert not Path(parse_database_url(database_url).path).exists()


def test_verifying_a_database_of_the_reference_misses_our_additions(
    empty_database: AnyDatabase, database_url: str
) -> None:
    run_script(empty_database, database_url, reference_script(empty_database))

    with pytest.raises(DBOSInitializationError, match="found: level 108 without"):
        empty_database.verify()


def test_eight_processes_start_on_an_empty_database_at_once(database_url: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE_ON_SIGNAL, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    complaints = [process.communicate(timeout=90)[1] for process in processes]

    assert [process.returncode for process in processes] == [0] * 8, complaints
    database = opened(database_url)
    assert levels(database) == (108, 1, 2)
    database.close()


def test_a_missing_postgres_database_is_created_by_migrating_only(postgres_url: str) -> None:
    name = parse_database_url(postgres_url).database + "_dbos_sys"
    url = postgres_url.rpartition("/")[0] + "/" + name
    database = opened(url)

    with pytest.raises(DBOSInitializationError, match="found: no database"):
        database.verify()
    database.reset()
    database.migrate()
    found = levels(database)
    database.close()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}"'.encode())

    assert found == (108, 1, 2)


@pytest.fixture
def role(outsider: Outsider) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"worker {outsider.info.dbname}"
    outsider.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'x'".encode())
    yield name
    outsider.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"'.encode())


def url_of(role: str, url: str, database: str | None = None) -> str:
    address = parse_database_url(url)
    user = role.replace(" ", "%20")
    return f"postgresql://{user}:x@127.0.0.1:{address.port}/{database or address.database}"


def test_a_missing_database_that_may_not_be_created_is_a_warning_and_an_error(
    postgres_url: str,
    role: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("dbos"), "propagate", True)
    database = opened(url_of(role, postgres_url, "does_not_exist"))

    with caplog.at_level(logging.WARNING, "dbos"), pytest.raises(DBOSDatabaseError):
        database.migrate()

    assert "could not be created" in caplog.text


def test_a_role_without_rights_to_create_launches_when_the_level_is_right(
    postgres_url: str, role: str
) -> None:
    owner = opened(postgres_url)
    owner.migrate()
    owner.grant(role)
    owner.close()

    database = opened(url_of(role, postgres_url))
    database.migrate()
    database.verify()
    with database.write() as tx:
        added = tx.run(Statement("INSERT INTO {workflow_status} (workflow_uuid) VALUES ('a')"))
        sent = tx.run(
            Statement("INSERT INTO {notifications} (destination_uuid, message) VALUES ('a', 'm')")
        )
    database.close()

    assert (added, sent) == (1, 1)


def test_a_role_without_rights_cannot_migrate_an_empty_database(
    postgres_url: str, role: str
) -> None:
    with pytest.raises(DBOSDatabaseError, match="lacks a permission") as raised:
        opened(url_of(role, postgres_url)).migrate()

    assert raised.value.sqlstate == "42501"


def functions_and_triggers(outsider: Outsider) -> set[str]:
    rows = outsider.execute(
        b"SELECT proname FROM pg_proc WHERE pronamespace = 'dbos'::regnamespace"
        b" UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    ).fetchall()
    return {str(row[0]) for row in rows}


def test_without_listen_neither_trigger_nor_its_function_is_made(
    postgres_url: str, outsider: Outsider
) -> None:
    opened(postgres_url, use_listen_notify=False).migrate()

    assert functions_and_triggers(outsider) == {"enqueue_workflow", "send_message"}


def test_the_trigger_is_made_up_for_by_the_first_launch_that_listens(
    postgres_url: str, outsider: Outsider
) -> None:
    opened(postgres_url, use_listen_notify=False).migrate()

    opened(postgres_url).migrate()

    assert "dbos_notifications_trigger" in functions_and_triggers(outsider)


@pytest.mark.parametrize("use_listen_notify", [True, False])
def test_the_references_trigger_function_is_replaced_in_place(
    postgres_url: str, outsider: Outsider, use_listen_notify: bool
) -> None:
    trigger = script("postgres", "0001_notify_trigger")
    database = opened(postgres_url, use_listen_notify=use_listen_notify)
    run_script(
        database,
        postgres_url,
        script("postgres", "0000_reference"),
        "CREATE FUNCTION dbos.notifications_function() RETURNS TRIGGER LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the old one'; END $$",
        trigger,
    )

    database.migrate()
    outsider.execute(b"INSERT INTO dbos.workflow_status (workflow_uuid) VALUES ('a')")
    outsider.execute(
        b"INSERT INTO dbos.notifications (destination_uuid, message) VALUES ('a', '1')"
    )

    assert "dbos_notifications_trigger" in functions_and_triggers(outsider)


def test_rows_of_others_get_their_defaults(database: AnyDatabase) -> None:
    before = database.now_ms()
    with database.write() as tx:
        for text in (
            "INSERT INTO {workflow_status} (workflow_uuid, status) VALUES ('a', 'ENQUEUED')",
            "INSERT INTO {operation_outputs} (workflow_uuid, function_id) VALUES ('a', 1)",
            "INSERT INTO {notifications} (destination_uuid, message) VALUES ('a', 'm')",
            "INSERT INTO {queues} (name) VALUES ('q')",
            "INSERT INTO {application_versions} (version_id, version_name) VALUES ('1', 'v')",
        ):
            tx.run(Statement(text))
        run = tx.one(
            Statement(
                "SELECT created_at, updated_at, recovery_attempts, priority, was_forked_from,"
                " rate_limited, is_debounced, claim_returns, serialization FROM {workflow_status}"
            )
        )
        step = tx.one(Statement("SELECT function_name, record_order FROM {operation_outputs}"))
        message = tx.one(
            Statement("SELECT created_at_epoch_ms, consumed, message_uuid FROM {notifications}")
        )
        queue = tx.one(
            Statement("SELECT created_at, polling_interval_sec, priority_enabled FROM {queues}")
        )
        version = tx.one(Statement("SELECT created_at FROM {application_versions}"))

    assert run is not None
    assert message is not None
    assert queue is not None
    assert version is not None
    times = [*run[:2], message[0], queue[0], version[0]]
    assert all(before - 1_000 <= time <= database.now_ms() + 1_000 for time in times)
    assert tuple(run[2:]) == (0, 0, False, False, False, 0, None)
    assert step == ("", None)
    assert message[1] == 0
    assert len(message[2]) in (32, 36)
    assert tuple(queue[1:]) == (1.0, False)


def test_sqlite_times_by_default_are_milliseconds_not_seconds(sqlite_path: Path) -> None:
    database = SqliteDatabase(sqlite_path)
    database.migrate()

    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as connection:
        for number in range(20):
            connection.execute("INSERT INTO workflow_status (workflow_uuid) VALUES (?)", (number,))
        times = connection.execute("SELECT created_at FROM workflow_status").fetchall()

    assert any(time % 1000 for (time,) in times)


def test_postgres_numbers_runs_and_messages_in_order(postgres_url: str, outsider: Outsider) -> None:
    opened(postgres_url).migrate()

    for name in "cab":
        outsider.execute(
            f"INSERT INTO dbos.workflow_status (workflow_uuid) VALUES ('{name}')".encode()
        )
        outsider.execute(b"SELECT dbos.send_message('c', '1')")
    runs = outsider.execute(
        b"SELECT workflow_uuid FROM dbos.workflow_status ORDER BY enqueue_seq"
    ).fetchall()
    messages = outsider.execute(b"SELECT message_seq FROM dbos.notifications").fetchall()

    assert runs == [("c",), ("a",), ("b",)]
    assert messages == [(1,), (2,), (3,)]
