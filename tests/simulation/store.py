"""The database of a simulation: SQLite in memory, on the simulated clock, emptied for each seed."""

from __future__ import annotations

import sqlite3
import tempfile
from functools import cache
from pathlib import Path

from dbos.storage.sqlite import SqliteDatabase
from dbos.testing.sim_clock import SimClock

_TABLES = (
    "operation_outputs",
    "notifications",
    "workflow_events",
    "workflow_events_history",
    "streams",
    "workflow_status",
    "perdure_executors",
    "tripped",
)

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
WHEN OLD.status IN ('SUCCESS', 'ERROR', 'CANCELLED') AND (NEW.status IS NOT OLD.status
    OR NEW.output IS NOT OLD.output OR NEW.error IS NOT OLD.error) BEGIN
    INSERT INTO tripped VALUES ('the outcome of ' || OLD.workflow_uuid || ' was changed');
END;
CREATE TRIGGER event_went_back BEFORE UPDATE ON workflow_events
WHEN CAST(NEW.value AS INTEGER) < CAST(OLD.value AS INTEGER) BEGIN
    INSERT INTO tripped VALUES ('an event of ' || OLD.workflow_uuid || ' went back');
END;
CREATE TRIGGER entry_changed BEFORE UPDATE ON streams BEGIN
    INSERT INTO tripped VALUES ('a stream entry of ' || OLD.workflow_uuid || ' was changed');
END;
CREATE TRIGGER message_again BEFORE UPDATE ON notifications WHEN OLD.consumed
AND (NEW.consumed IS NOT OLD.consumed
    OR NEW.consumed_function_id IS NOT OLD.consumed_function_id) BEGIN
    INSERT INTO tripped VALUES ('a message to ' || OLD.destination_uuid || ' was consumed twice');
END;
CREATE TRIGGER run_removed BEFORE DELETE ON workflow_status BEGIN
    INSERT INTO tripped VALUES ('run ' || OLD.workflow_uuid || ' was removed');
END;
"""


class Store:
    """A migrated database in memory. One serves all seeds, so that statements stay compiled.

    It has a single connection, which is enough: a simulation does one thing at a time.
    """

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
        self.database = SqliteDatabase("simulated", connector=self)
        self._clock = SimClock()
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "template.sqlite"
            SqliteDatabase(path).migrate()
            file = sqlite3.connect(path)
            file.backup(self.connection)
            file.close()
        self.connection.executescript(_TRIPWIRES)
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.create_function("perdure_now_ms", 0, self._now_ms)

    def renew(self, clock: SimClock) -> None:
        """Forget all rows and go by another clock."""
        self._clock = clock
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        for table in _TABLES:
            self.connection.execute(f"DELETE FROM {table}")

    def connect(self) -> sqlite3.Connection:
        return self.connection

    def disconnect(self, connection: sqlite3.Connection) -> None:
        return None

    def is_alive(self, connection: sqlite3.Connection) -> bool:
        return True

    def _now_ms(self) -> int:
        return self._clock.database_ms()


@cache
def store() -> Store:
    """The store of this process."""
    return Store()
