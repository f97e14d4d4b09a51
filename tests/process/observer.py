"""A look at the database from outside, through a connection of one's own."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from typing import Any

import psycopg

from tests.process.ledger import Snapshot

ACTIVE = ("PENDING", "ENQUEUED", "DELAYED")


class Observer:
    """Reads what is recorded, behind the back of the package."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._is_sqlite = database_url.startswith("sqlite")

    def snapshot(self) -> Snapshot:
        """The steps and runs recorded now; nothing if the schema is not there yet."""
        steps = self._rows("SELECT workflow_uuid, function_id FROM {operation_outputs}")
        runs = self._rows("SELECT workflow_uuid FROM {workflow_status}")
        recorded = frozenset((str(row[0]), int(row[1])) for row in steps)
        return Snapshot(time.monotonic_ns(), recorded, frozenset(str(row[0]) for row in runs))

    def statuses(self) -> dict[str, str]:
        """The status of every run, children included."""
        rows = self._rows("SELECT workflow_uuid, status FROM {workflow_status}")
        return {str(workflow_id): str(status) for workflow_id, status in rows}

    def claimed_again(self, prefix: str) -> list[str]:
        """The runs that were claimed more than once, by takeover or recovery."""
        rows = self._rows("SELECT workflow_uuid, recovery_attempts FROM {workflow_status}")
        again = [str(run) for run, attempts in rows if attempts > 1]
        return sorted(run for run in again if run.startswith(prefix))

    def active(self) -> list[str]:
        """The runs that have not ended."""
        return [run for run, status in self.statuses().items() if status in ACTIVE]

    def _rows(self, query: str) -> Iterable[tuple[Any, ...]]:
        return self._sqlite_rows(query) if self._is_sqlite else self._postgres_rows(query)

    def _sqlite_rows(self, query: str) -> list[tuple[Any, ...]]:
        path = self._database_url.removeprefix("sqlite:///")
        connection = sqlite3.connect(path, timeout=30)
        try:
            return connection.execute(query.replace("{", "").replace("}", "")).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
        finally:
            connection.close()

    def _postgres_rows(self, query: str) -> list[tuple[Any, ...]]:
        native = query.replace("{", "dbos.").replace("}", "")
        with psycopg.connect(self._database_url) as connection:
            try:
                return connection.execute(native.encode()).fetchall()
            except psycopg.errors.UndefinedTable:
                return []
