"""The schema of a SQLite file: what is there, bringing it to our level, taking it away."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager

from dbos.storage.migrate import (
    KEPT_BY_TRUNCATE,
    OUR_TABLES,
    OUTPUT_TABLES,
    REFERENCE_TABLES,
    Found,
    plan,
    refuse_foreign_level,
    script,
)
from dbos.storage.statements import quote_identifier

_ALL_TABLES = (*REFERENCE_TABLES, *OUR_TABLES, *OUTPUT_TABLES)


def look(connection: sqlite3.Connection) -> Found:
    """What the file holds of ours; a level table of another shape counts as somebody else's."""
    # SQLite does not tell upper from lower case in names.
    names = {
        name.lower()
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        )
    }
    return Found(
        frozenset(names),
        _level(connection, "dbos_migrations", names),
        _level(connection, "perdure_migrations", names),
    )


def migrate(connection: sqlite3.Connection, display: str) -> None:
    """Run the missing migrations in one transaction; who comes second finds nothing to do."""
    if not plan(look(connection), display):
        return
    with _exclusively(connection):
        for name in plan(look(connection), display):
            for statement in _statements(script("sqlite", name)):
                connection.execute(statement)


def reset(connection: sqlite3.Connection, display: str, *, truncate: bool) -> None:
    """Drop our tables or, with `truncate`, empty them. Tables that only share a name stay."""
    found = look(connection)
    refuse_foreign_level(found, display)
    if found.reference_level is None:
        return
    with _exclusively(connection):
        for name in reversed(_ALL_TABLES):
            if name not in found.tables or (truncate and name in KEPT_BY_TRUNCATE):
                continue
            verb = "DELETE FROM" if truncate else "DROP TABLE"
            connection.execute(f"{verb} {quote_identifier(name)}")


@contextmanager
def _exclusively(connection: sqlite3.Connection) -> Generator[None]:
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _level(connection: sqlite3.Connection, table: str, names: set[str]) -> int | None:
    if table not in names:
        return None
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    if columns != ["version"]:
        return None
    (level,) = connection.execute(f"SELECT MAX(version) FROM {table}").fetchone()
    return int(level or 0)


def _statements(text: str) -> Iterator[str]:
    """The statements of a script; the driver would commit before running it whole."""
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if line.rstrip().endswith(";") and sqlite3.complete_statement(pending):
            yield pending
            pending = ""
