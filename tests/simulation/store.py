"""The database of a simulation: SQLite in memory, on the simulated clock, renewed for each seed."""

from __future__ import annotations

import sqlite3
import tempfile
from functools import cache
from pathlib import Path

from dbos.storage.sqlite import SqliteDatabase
from dbos.testing.sim_clock import SimClock

# What is recorded stays as it is, and so does an outcome. Whatever breaks this leaves a trace.
_TRIPWIRES = """
CREATE TABLE tripped (what TEXT NOT NULL);
CREATE TRIGGER step_changed BEFORE UPDATE ON operation_outputs BEGIN
    INSERT INTO tripped VALUES
        ('step ' || OLD.function_id || ' of ' || OLD.workflow_uuid || ' was changed');
END;
CREATE TRIGGER step_removed BEFORE DELETE ON operation_outputs BEGIN
    INSERT INTO tripped VALUES
        ('step ' || OLD.function_id || ' of ' || OLD.workflow_uuid || ' was removed');
END;
CREATE TRIGGER outcome_changed BEFORE UPDATE ON workflow_status
WHEN OLD.status IN ('SUCCESS', 'ERROR') AND (NEW.status IS NOT OLD.status
    OR NEW.output IS NOT OLD.output OR NEW.error IS NOT OLD.error) BEGIN
    INSERT INTO tripped VALUES ('the outcome of ' || OLD.workflow_uuid || ' was changed');
END;
CREATE TRIGGER run_removed BEFORE DELETE ON workflow_status BEGIN
    INSERT INTO tripped VALUES ('run ' || OLD.workflow_uuid || ' was removed');
END;
"""


class OneConnection:
    """Hands out the one connection of a database in memory. A simulation uses it step by step."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def connect(self) -> sqlite3.Connection:
        return self._connection

    def disconnect(self, connection: sqlite3.Connection) -> None:
        return None

    def is_alive(self, connection: sqlite3.Connection) -> bool:
        return True


def open_store(clock: SimClock) -> tuple[SqliteDatabase, sqlite3.Connection]:
    """A fresh, migrated database, and its connection for those who look behind the scenes."""
    connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)
    _template().backup(connection)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.create_function("perdure_now_ms", 0, clock.database_ms)
    return SqliteDatabase("simulated", connector=OneConnection(connection)), connection


@cache
def _template() -> sqlite3.Connection:
    """A migrated database with our tripwires."""
    template = sqlite3.connect(":memory:", check_same_thread=False)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "template.sqlite"
        SqliteDatabase(path).migrate()
        file = sqlite3.connect(path)
        file.backup(template)
        file.close()
    template.executescript(_TRIPWIRES)
    return template
