"""A fresh, migrated database for every run of a scenario, and a look into it from outside."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dbos.api.slot import SLOT
from dbos.clock import new_token
from dbos.config import DatabaseAddress, Settings, parse_database_url, settings_from
from dbos.storage import executors, snapshots
from dbos.storage.open import OpenOptions, open_database, reset
from dbos.storage.protocol import Database
from dbos.storage.snapshots import Snapshot

POLL_S = 0.002
CLAIM_LIMIT_S = 1.0
MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class WorkDatabase:
    """One database for one run of the scenario, with all its crashes."""

    settings: Settings
    _handle: Database

    def snapshot(self) -> Snapshot:
        """What is durable now."""
        with self._handle.read() as tx:
            return snapshots.take(tx)

    def is_idle(self) -> bool:
        """Whether every run has ended."""
        with self._handle.read() as tx:
            return snapshots.count_active(tx) == 0

    def bury(self, incarnation_id: str) -> None:
        """Make an incarnation count as dead: peers may take over its work at once."""
        with self._handle.write() as tx:
            executors.remove_rows(tx, [incarnation_id])

    def reopen(self) -> None:
        """Forget all outcomes and keep the histories."""
        with self._handle.write() as tx:
            snapshots.reopen(tx)

    def await_claims(self) -> None:
        """Wait until no run waits to be claimed, or until none is likely to be."""
        give_up_at = time.monotonic() + CLAIM_LIMIT_S
        while time.monotonic() < give_up_at:
            with self._handle.read() as tx:
                if snapshots.count_waiting(tx) == 0:
                    return
            time.sleep(POLL_S)


class SqliteFiles:
    """Copies of one migrated file, in memory where the machine allows it."""

    def __init__(self) -> None:
        home = MEMORY if MEMORY.is_dir() else None
        self._directory = tempfile.TemporaryDirectory(
            prefix="perdure-crash-", dir=home, ignore_cleanup_errors=True
        )
        self._template = Path(self._directory.name) / "template.sqlite"
        database = open_database(_sqlite(self._template))
        database.migrate()
        database.close()

    @contextmanager
    def fresh(self) -> Generator[WorkDatabase]:
        path = self._template.with_name(f"{new_token()}.sqlite")
        shutil.copyfile(self._template, path)
        settings = _settings(_sqlite(path), "dbos")
        handle = open_database(settings.system_database)
        try:
            yield WorkDatabase(settings, handle)
        finally:
            handle.close()
            for leftover in path.parent.glob(f"{path.name}*"):
                leftover.unlink(missing_ok=True)

    def close(self) -> None:
        self._directory.cleanup()


class PostgresSchema:
    """A schema of our own in the given database, emptied before each run and dropped at the end."""

    def __init__(self, address: DatabaseAddress) -> None:
        self._address = address
        self._schema = f"perdure_crash_{new_token()[:12].lower()}"
        self._handle = open_database(
            address, OpenOptions(schema=self._schema, use_listen_notify=False)
        )
        self._handle.migrate()

    @contextmanager
    def fresh(self) -> Generator[WorkDatabase]:
        self._handle.reset(truncate=True)
        yield WorkDatabase(_settings(self._address, self._schema), self._handle)

    def close(self) -> None:
        self._handle.close()
        reset(self._address, schema=self._schema)


Databases = SqliteFiles | PostgresSchema


def databases_at(database_url: str | None) -> Databases:
    """Fresh databases: SQLite files of our own, or a schema in the PostgreSQL database given."""
    if database_url is None:
        return SqliteFiles()
    address = parse_database_url(database_url, "database_url")
    return SqliteFiles() if address.kind == "sqlite" else PostgresSchema(address)


def _sqlite(path: Path) -> DatabaseAddress:
    return parse_database_url(f"sqlite:///{path}", "database_url")


def _settings(address: DatabaseAddress, schema: str) -> Settings:
    """The settings of the application under test, if it has made a DBOS; on another database."""
    made = SLOT.instance
    settings = settings_from({"name": "crash-explorer"}) if made is None else made.settings
    shares = settings.shares_database
    return replace(
        settings,
        system_database=address,
        application_database=address if shares else settings.application_database,
        system_engine=None,
        schema=schema,
        use_listen_notify=False,
        explicit_version=settings.explicit_version or "crash-explorer",
        admin_enabled=False,
    )
