"""Resetting removes what is ours and nothing else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbos.config import parse_database_url
from dbos.errors import DBOSInitializationError
from dbos.storage.migrate import KEPT_BY_TRUNCATE
from dbos.storage.open import OpenOptions, open_database, reset
from dbos.storage.protocol import Statement
from dbos.storage.sqlite import SqliteDatabase
from tests.storage import introspection
from tests.storage.conftest import AnyDatabase

Outsider = psycopg.Connection[tuple[Any, ...]]

ADD = Statement("INSERT INTO {workflow_status} (workflow_uuid) VALUES ('a')")
ADD_STEP = Statement("INSERT INTO {operation_outputs} (workflow_uuid, function_id) VALUES ('a', 1)")
ADD_MESSAGE = Statement("INSERT INTO {notifications} (destination_uuid, message) VALUES ('a', 'm')")


def execute(url: str, text: str) -> list[Any]:
    """Run SQL as somebody else."""
    address = parse_database_url(url)
    if address.kind == "sqlite":
        with closing(sqlite3.connect(address.path, isolation_level=None)) as connection:
            return connection.execute(text).fetchall()
    with psycopg.connect(url, autocommit=True) as other:
        cursor = other.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def tables(url: str) -> set[str]:
    address = parse_database_url(url)
    if address.kind == "sqlite":
        with closing(sqlite3.connect(address.path)) as connection:
            return set(introspection.sqlite_tables(connection))
    with psycopg.connect(url) as other:
        rows = other.execute(
            b"SELECT relname FROM pg_class WHERE relkind IN ('r', 'S')"
            b" AND relnamespace::regnamespace::text IN ('dbos', 'public')"
        )
        return {str(row[0]) for row in rows}


def test_reset_removes_our_tables_and_keeps_the_users(
    database: AnyDatabase, database_url: str
) -> None:
    execute(database_url, "CREATE TABLE customers (name TEXT)")
    with database.write() as tx:
        tx.run(ADD)
        tx.run(ADD_STEP)
    database.close()

    reset(parse_database_url(database_url))

    assert tables(database_url) == {"customers"}


def test_a_database_can_be_migrated_again_after_a_reset(database: AnyDatabase) -> None:
    database.reset()
    database.migrate()
    database.verify()

    with database.write() as tx:
        assert tx.run(ADD) == 1


def test_truncating_empties_our_tables_only(database: AnyDatabase, database_url: str) -> None:
    execute(database_url, "CREATE TABLE customers (name TEXT)")
    execute(database_url, "INSERT INTO customers VALUES ('kept')")
    with database.write() as tx:
        tx.run(ADD)
        tx.run(ADD_STEP)
        tx.run(ADD_MESSAGE)
    before = tables(database_url)

    database.reset(truncate=True)

    database.verify()
    assert tables(database_url) == before
    assert execute(database_url, "SELECT name FROM customers") == [("kept",)]
    ours = {name for name in before if name not in ("customers", *KEPT_BY_TRUNCATE)}
    schema = "" if isinstance(database, SqliteDatabase) else "dbos."
    counted = {
        name
        for name in ours
        if not name.endswith("_seq")
        and execute(database_url, f"SELECT COUNT(*) FROM {schema}{name}") != [(0,)]
    }
    assert counted == set()


def test_a_missing_sqlite_file_is_fine_and_stays_missing(tmp_path: Path) -> None:
    path = tmp_path / "missing.sqlite"

    reset(parse_database_url(f"sqlite:///{path}"))

    assert not path.exists()


def test_an_empty_database_is_fine(empty_database: AnyDatabase, database_url: str) -> None:
    execute(database_url, "CREATE TABLE customers (name TEXT)")

    empty_database.reset()
    empty_database.reset(truncate=True)

    assert tables(database_url) == {"customers"}


@pytest.mark.parametrize("truncate", [True, False])
def test_a_table_of_the_users_under_our_name_stays(
    empty_database: AnyDatabase, database_url: str, truncate: bool
) -> None:
    execute(database_url, "CREATE TABLE queues (name TEXT)")
    execute(database_url, "INSERT INTO queues VALUES ('kept')")

    reset(parse_database_url(database_url), schema="public", truncate=truncate)

    assert execute(database_url, "SELECT name FROM queues") == [("kept",)]


def test_a_database_of_a_later_generation_is_left_alone(
    database: AnyDatabase, database_url: str
) -> None:
    with database.write() as tx:
        tx.run(Statement("UPDATE {dbos_migrations} SET version = 120"))
    before = tables(database_url)

    with pytest.raises(DBOSInitializationError, match=r"3\.x"):
        database.reset()

    assert tables(database_url) == before


def test_our_schema_goes_unless_somebody_else_uses_it(
    postgres_url: str, outsider: Outsider
) -> None:
    address = parse_database_url(postgres_url)
    schemas = b"SELECT nspname FROM pg_namespace WHERE nspname LIKE 'dbos%' ORDER BY nspname"

    for schema in ("dbos", "dbos_shared"):
        open_database(address, OpenOptions(schema=schema)).migrate()
    outsider.execute(b"CREATE FUNCTION dbos_shared.mine() RETURNS INT LANGUAGE sql AS 'SELECT 1'")

    reset(address, schema="dbos")
    reset(address, schema="dbos_shared")

    assert outsider.execute(schemas).fetchall() == [("dbos_shared",)]
    assert outsider.execute(b"SELECT dbos_shared.mine()").fetchone() == (1,)
