"""Making the tables from code, ahead of the processes that use them."""

from __future__ import annotations

from dbos import validation
from dbos.config import parse_database_url, settings_from
from dbos.storage import open as storage


def run_dbos_database_migrations(
    system_database_url: str,
    *,
    app_database_url: str | None = None,
    schema: str = "dbos",
    application_role: str | None = None,
) -> None:
    """Create or upgrade our tables; nothing changes if they are current. Safe from many processes.

    Processes may then run with `run_migrations=False`, as a role that may not change tables.

    Args:
        system_database_url: where workflows are recorded; on PostgreSQL made if it is missing.
        app_database_url: where transactions run, if that is another database.
        schema: the PostgreSQL schema of our tables; SQLite has none.
        application_role: PostgreSQL only: a role that exists, which is granted what running needs.

    Raises:
        DBOSInitializationError: a URL cannot be used, or the tables there are not ours.
        DBOSInvalidInputError: an argument cannot be used.
        DBOSDatabaseError: the database cannot be reached, or refuses us.
    """
    if app_database_url is not None:
        parse_database_url(validation.identifier(app_database_url, "app_database_url"))
    migrate(system_database_url, schema=schema, application_role=application_role)


def migrate(
    system_database_url: str, *, schema: str = "dbos", application_role: str | None = None
) -> None:
    """Create or upgrade our tables in a system database, as `run_dbos_database_migrations`."""
    settings = settings_from(
        {
            "name": "migration",
            "system_database_url": validation.identifier(
                system_database_url, "system_database_url"
            ),
            "dbos_system_schema": validation.identifier(schema, "schema"),
        }
    )
    role = validation.optional_identifier(application_role, "application_role")
    storage.migrate(settings.system_database, schema=settings.schema, role=role)
