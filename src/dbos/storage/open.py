"""Opening a system database: the right kind for an address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dbos.config import DatabaseAddress, PoolSettings
from dbos.errors import DBOSInvalidInputError
from dbos.storage.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from dbos.storage.postgres import PostgresDatabase


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How to use a database; SQLite heeds the pool only."""

    schema: str = "dbos"
    use_listen_notify: bool = True
    pool: PoolSettings = field(default_factory=PoolSettings)
    idle_transaction_timeout_s: float | None = 60.0
    lease_s: float = 15.0


def open_database(
    address: DatabaseAddress,
    options: OpenOptions | None = None,
    source: Callable[[], Any] | None = None,
) -> SqliteDatabase | PostgresDatabase:
    """The database at an address. Nothing is connected or created before it is used.

    `source` makes the driver's connections, where they come from an engine of the user.
    """
    options = options or OpenOptions()
    if address.kind == "sqlite":
        return SqliteDatabase(
            address.path, display=address.display, pool=options.pool, source=source
        )
    # Imported here so that a program on SQLite never pays for loading psycopg and libpq.
    from dbos.storage.postgres import PostgresDatabase, PostgresSettings, SourceConnector

    settings = PostgresSettings(
        conninfo=address.conninfo,
        database=address.database,
        display=address.display,
        maintenance=address.maintenance().conninfo,
        schema=options.schema,
        use_listen_notify=options.use_listen_notify,
        pool=options.pool,
        idle_transaction_timeout_s=options.idle_transaction_timeout_s,
        lease_s=options.lease_s,
    )
    return PostgresDatabase(
        settings, connector=None if source is None else SourceConnector(settings, source)
    )


def migrate(address: DatabaseAddress, *, schema: str = "dbos", role: str | None = None) -> None:
    """Bring the schema at an address to our level, and let an application's role work in it."""
    database = open_database(address, OpenOptions(schema=schema))
    try:
        if role is None:
            database.migrate()
        elif isinstance(database, SqliteDatabase):
            raise DBOSInvalidInputError("application_role needs PostgreSQL: SQLite has no roles")
        else:
            database.migrate()
            database.grant(role)
    finally:
        database.close()


def reset(address: DatabaseAddress, *, schema: str = "dbos", truncate: bool = False) -> None:
    """Remove everything we own at an address, or with `truncate` only our rows."""
    database = open_database(address, OpenOptions(schema=schema))
    try:
        database.reset(truncate=truncate)
    finally:
        database.close()
