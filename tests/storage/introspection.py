"""What a real database says of its tables, in the terms of `expected_schema`."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

import psycopg

from tests.storage.expected_schema import Column, Index

_POSTGRES_COLUMNS = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        COALESCE(a.attnum = ANY(i.indkey), FALSE), pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
    LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
    WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'r' AND a.attnum > 0
    ORDER BY c.relname, a.attnum
"""
_POSTGRES_INDEXES = """
    SELECT i.relname, t.relname, x.indisunique, pg_get_expr(x.indpred, x.indrelid),
        ARRAY(SELECT a.attname::text FROM unnest(x.indkey) WITH ORDINALITY AS k(num, position)
            JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = k.num ORDER BY k.position)
    FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid
    JOIN pg_class AS t ON t.oid = x.indrelid
    WHERE t.relnamespace = %s::regnamespace
        AND NOT EXISTS (SELECT 1 FROM pg_constraint AS c WHERE c.conindid = i.oid)
"""
_POSTGRES_CONSTRAINTS = """
    SELECT c.contype, t.relname, a.attname, c.confrelid::regclass::text, c.confupdtype,
        c.confdeltype
    FROM pg_constraint AS c JOIN pg_class AS t ON t.oid = c.conrelid
    JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = c.conkey[1]
    WHERE c.connamespace = %s::regnamespace AND array_length(c.conkey, 1) = 1
"""
_POSTGRES_TYPES = {"character varying(255)": "VARCHAR(255)", "double precision": "DOUBLE"}

Postgres = psycopg.Connection[tuple[Any, ...]]


def postgres_tables(connection: Postgres, schema: str) -> dict[str, list[Column]]:
    tables: dict[str, list[Column]] = {}
    rows = connection.execute(_POSTGRES_COLUMNS.encode(), (schema,))
    for table, name, type_, is_required, is_key, default in rows:
        short = _POSTGRES_TYPES.get(type_, type_.upper())
        tables.setdefault(table, []).append(
            Column(name, short, is_required, is_key, _default_in_words(default))
        )
    return tables


def sqlite_tables(connection: sqlite3.Connection) -> dict[str, list[Column]]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {
        name: [
            Column(column, type_, bool(required), bool(key), _default_in_words(default))
            for _, column, type_, required, default, key in connection.execute(
                f"PRAGMA table_info({name})"
            )
        ]
        for (name,) in names
        if not name.startswith("sqlite_")
    }


def postgres_indexes(connection: Postgres, schema: str) -> set[Index]:
    return {
        Index(name, table, tuple(columns), is_unique, _plain(predicate or ""))
        for name, table, is_unique, predicate, columns in connection.execute(
            _POSTGRES_INDEXES.encode(), (schema,)
        )
    }


def sqlite_indexes(connection: sqlite3.Connection) -> set[Index]:
    rows = connection.execute(
        "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall()
    indexes: set[Index] = set()
    for name, table, sql in rows:
        columns = [row[2] for row in connection.execute(f"PRAGMA index_info({name})")]
        _, _, predicate = sql.partition("WHERE ")
        is_unique = sql.startswith("CREATE UNIQUE")
        indexes.add(Index(name, table, tuple(columns), is_unique, _plain(predicate)))
    return indexes


def postgres_constraints(
    connection: Postgres, schema: str
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The columns with a cascading key to a run, and those that are unique by themselves."""
    rows = connection.execute(_POSTGRES_CONSTRAINTS.encode(), (schema,)).fetchall()
    cascading = {
        (table, column)
        for kind, table, column, target, on_update, on_delete in rows
        if kind == "f" and target.endswith("workflow_status") and (on_update + on_delete) == "cc"
    }
    return cascading, {(table, column) for kind, table, column, *_ in rows if kind == "u"}


def sqlite_constraints(
    connection: sqlite3.Connection,
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The columns with a cascading key to a run, and those that are unique by themselves."""
    cascading: set[tuple[str, str]] = set()
    unique: set[tuple[str, str]] = set()
    for table in sqlite_tables(connection):
        for key in connection.execute(f"PRAGMA foreign_key_list({table})"):
            if (key[2], *key[5:7]) == ("workflow_status", "CASCADE", "CASCADE"):
                cascading.add((table, key[3]))
        for index in connection.execute(f"PRAGMA index_list({table})").fetchall():
            if index[3] == "u":
                (info,) = connection.execute(f"PRAGMA index_info({index[1]})")
                unique.add((table, info[2]))
    return cascading, unique


def _default_in_words(default: str | None) -> str | None:
    if default is None or default.startswith("NULL"):
        return None
    for sign, word in (
        ("epoch", "NOW_MS"),
        ("julianday", "NOW_MS"),
        ("gen_random_uuid", "UUID"),
        ("randomblob", "UUID"),
        ("nextval", "SEQUENCE"),
    ):
        if sign in default:
            return word
    plain = default.removesuffix("::text")
    return plain.upper() if plain == "false" else plain


def _plain(predicate: str) -> str:
    """A predicate without what the two databases write around the same words."""
    text = re.sub(r"::text|[()\[\]]", "", predicate)
    text = text.replace("= ANY ARRAY", "IN ").replace("= true", "= TRUE")
    return " ".join(text.split())
