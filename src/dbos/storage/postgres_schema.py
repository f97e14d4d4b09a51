"""The schema of a PostgreSQL database: what is there, bringing it to our level, taking it away."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any

import psycopg

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

Connection = psycopg.Connection[tuple[Any, ...]]

_MIGRATION_LOCK = 0x50657264757265
_ALL_TABLES = (*REFERENCE_TABLES, *OUR_TABLES, *OUTPUT_TABLES)
_FUNCTIONS = ("enqueue_workflow", "send_message", "notifications_function")

_RELATIONS = b"""
    SELECT c.relname FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = ANY(%(names)s)
"""
_LEVEL_COLUMNS = b"""
    SELECT a.attname FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attnum > 0 AND NOT a.attisdropped
"""
_SCHEMA_EXISTS = b"SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s"
_OUR_FUNCTIONS = b"""
    SELECT p.oid::regprocedure::text, p.proname FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = %(schema)s AND p.proname = ANY(%(names)s)
"""
_TRIGGER_EXISTS = b"""
    SELECT 1 FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = 'notifications'
        AND t.tgname = 'dbos_notifications_trigger'
"""
_DATABASE_EXISTS = b"SELECT 1 FROM pg_catalog.pg_database WHERE datname = %(name)s"

_PLACEHOLDER = re.compile(r"\{schema(?:_in_literal)?\}")

_logger = logging.getLogger("dbos")


@dataclass(frozen=True, slots=True)
class PostgresSchema:
    """Everything we own in one schema."""

    name: str
    display: str

    def look(self, connection: Connection) -> Found:
        """What the schema holds of ours; a level table of another shape is somebody else's."""
        params = {"schema": self.name, "names": list(_ALL_TABLES)}
        names = frozenset(row[0] for row in connection.execute(_RELATIONS, params))
        return Found(
            names,
            self._level(connection, "dbos_migrations", names),
            self._level(connection, "perdure_migrations", names),
        )

    def migrate(self, connection: Connection, *, use_listen_notify: bool) -> None:
        """Run the missing migrations in one transaction, one process at a time.

        The first look takes no lock and needs no right to change anything.
        """
        if plan(self.look(connection), self.display):
            with connection.transaction():
                connection.execute(
                    b"SELECT pg_catalog.pg_advisory_xact_lock(%(key)s::bigint)",
                    {"key": _MIGRATION_LOCK},
                )
                self._run_missing(connection, use_listen_notify=use_listen_notify)
        elif use_listen_notify:
            self._add_missing_trigger(connection)

    def reset(self, connection: Connection, *, truncate: bool) -> None:
        """Drop what is ours, and the schema if that empties it; `truncate` only empties tables."""
        found = self.look(connection)
        refuse_foreign_level(found, self.display)
        if found.reference_level is None:
            return
        with connection.transaction():
            present = [name for name in _ALL_TABLES if name in found.tables]
            if truncate:
                emptied = [self._of(name) for name in present if name not in KEPT_BY_TRUNCATE]
                self._run(connection, f"TRUNCATE {', '.join(emptied)}")
                return
            dropped = [self._of(name) for name in present]
            self._run(connection, f"DROP TABLE {', '.join(dropped)}")
            for signature, _ in self._functions(connection):
                self._run(connection, f"DROP FUNCTION {signature}")
        self._drop_schema_if_empty(connection)

    def grant(self, connection: Connection, role: str) -> None:
        """Let a role work in the schema, in its present and its future tables."""
        schema, grantee = quote_identifier(self.name), quote_identifier(role)
        with connection.transaction():
            self._run(connection, f"GRANT USAGE ON SCHEMA {schema} TO {grantee}")
            for right, kind in (("ALL", "TABLES"), ("ALL", "SEQUENCES"), ("EXECUTE", "FUNCTIONS")):
                present = f"GRANT {right} ON ALL {kind} IN SCHEMA {schema} TO {grantee}"
                future = f"GRANT {right} ON {kind} TO {grantee}"
                self._run(connection, present)
                self._run(connection, f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} {future}")

    def _run_missing(self, connection: Connection, *, use_listen_notify: bool) -> None:
        names = plan(self.look(connection), self.display)
        if not names:
            return
        # CREATE SCHEMA asks for the right to create even when the schema is there.
        if connection.execute(_SCHEMA_EXISTS, {"schema": self.name}).fetchone() is None:
            self._run(connection, f"CREATE SCHEMA {quote_identifier(self.name)}")
        for name in names:
            self._run_script(connection, name)
        has_function = any(
            name == "notifications_function" for _, name in self._functions(connection)
        )
        if use_listen_notify or has_function:
            self._run_script(connection, "0001_notify_function")
        if use_listen_notify and not self._has_trigger(connection):
            self._run_script(connection, "0001_notify_trigger")

    def _add_missing_trigger(self, connection: Connection) -> None:
        """Make up for a first launch that did without LISTEN, if we may."""
        if self._has_trigger(connection):
            return
        try:
            with connection.transaction():
                self._run_script(connection, "0001_notify_function")
                self._run_script(connection, "0001_notify_trigger")
        except psycopg.errors.DuplicateObject:
            return
        except psycopg.errors.InsufficientPrivilege:
            _logger.warning(
                "The trigger on messages is missing in %s and may not be created; messages from"
                " outside are noticed by polling. Run `dbos migrate` as the owner.",
                self.display,
            )

    def _drop_schema_if_empty(self, connection: Connection) -> None:
        """Without CASCADE the server refuses if anything of somebody else's is in it."""
        if self.name == "public":
            return
        try:
            self._run(connection, f"DROP SCHEMA {quote_identifier(self.name)} RESTRICT")
        except (
            psycopg.errors.DependentObjectsStillExist,
            psycopg.errors.InsufficientPrivilege,
            psycopg.errors.InvalidSchemaName,
        ):
            return

    def _level(self, connection: Connection, table: str, names: frozenset[str]) -> int | None:
        if table not in names:
            return None
        params = {"schema": self.name, "table": table}
        if connection.execute(_LEVEL_COLUMNS, params).fetchall() != [("version",)]:
            return None
        row = self._run(connection, f"SELECT MAX(version) FROM {self._of(table)}").fetchone()
        return int(row[0] or 0) if row is not None else 0

    def _functions(self, connection: Connection) -> list[tuple[str, str]]:
        params = {"schema": self.name, "names": list(_FUNCTIONS)}
        return [
            (signature, name)
            for signature, name in connection.execute(_OUR_FUNCTIONS, params).fetchall()
        ]

    def _has_trigger(self, connection: Connection) -> bool:
        return connection.execute(_TRIGGER_EXISTS, {"schema": self.name}).fetchone() is not None

    def _run_script(self, connection: Connection, name: str) -> None:
        quoted = quote_identifier(self.name)
        spellings = {"{schema}": quoted, "{schema_in_literal}": quoted.replace("'", "''")}
        text = _PLACEHOLDER.sub(lambda match: spellings[match[0]], script("postgres", name))
        self._run(connection, text)

    def _run(self, connection: Connection, text: str) -> psycopg.Cursor[tuple[Any, ...]]:
        """Execute text without parameters, which may hold several statements."""
        return connection.execute(text.encode(), prepare=False)

    def _of(self, table: str) -> str:
        return f"{quote_identifier(self.name)}.{table}"


def database_exists(maintenance: str, name: str) -> bool:
    """Ask the server's catalogue for a database."""
    with psycopg.connect(maintenance, autocommit=True) as connection:
        return connection.execute(_DATABASE_EXISTS, {"name": name}).fetchone() is not None


def create_database(maintenance: str, name: str, display: str) -> None:
    """Create a missing database, or warn that it may not be; another process may be first."""
    try:
        with psycopg.connect(maintenance, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {quote_identifier(name)}".encode())
    except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        return
    except psycopg.Error as error:
        _logger.warning(
            "The database %s does not exist and could not be created (%s); create it, or let the"
            " role create databases.",
            display,
            type(error).__name__,
        )
