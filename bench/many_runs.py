"""Fills a database with many finished runs, by SQL, and makes its statistics up to date."""

from __future__ import annotations

import sqlite3

import psycopg

from dbos import run_dbos_database_migrations

# A mix as a service has it: one workflow of twenty names, nine in ten succeeded, a third from
# queues, a fifth with a parent, one created each half second and finished a second later.
_COLUMNS = """workflow_uuid, status, name, authenticated_user, inputs, output, error,
    executor_id, created_at, updated_at, completed_at, started_at_epoch_ms, application_version,
    recovery_attempts, queue_name, parent_workflow_id, serialization, schedule_name, attributes,
    application_name"""
_VALUES = """'run-' || n,
    CASE WHEN n % 50 = 7 THEN 'ERROR' WHEN n % 97 = 3 THEN 'CANCELLED' ELSE 'SUCCESS' END,
    'workflow_' || (n / 50 % 20),
    CASE WHEN n % 4 = 0 THEN 'user_' || (n % 1000) END,
    '{"positionalArgs":[' || n || '],"namedArgs":{}}',
    CASE WHEN n % 50 <> 7 AND n % 97 <> 3 THEN '{"number":' || n || '}' END,
    NULL,
    'executor-' || (n % 8),
    1700000000000 + n * 500, 1700000001000 + n * 500, 1700000001000 + n * 500,
    CASE WHEN n % 3 = 0 THEN 1700000000100 + n * 500 END,
    'v' || (n / 100000),
    1,
    CASE WHEN n % 3 = 0 THEN 'queue_' || (n % 5) END,
    CASE WHEN n % 5 = 0 THEN 'run-' || (n / 5) END,
    'portable_json',
    CASE WHEN n % 200 = 0 THEN 'nightly' END,
    CASE WHEN n % 10 = 0 THEN {attributes} END,
    'bench'"""
_ATTRIBUTES = """'{"customer":' || (n % 5000) || ',"tier":"gold"}'"""

FIRST_MS = 1_700_000_000_000
PERIOD_MS = 500


def fill(url: str, runs: int) -> None:
    """Migrate the database and write the runs."""
    run_dbos_database_migrations(url)
    if url.startswith("sqlite"):
        _fill_sqlite(url.removeprefix("sqlite:///"), runs)
    else:
        _fill_postgres(url, runs)


def _fill_sqlite(path: str, runs: int) -> None:
    values = _values(_ATTRIBUTES)
    connection = sqlite3.connect(path)
    try:
        connection.execute(
            f"WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number"
            f" WHERE n < ?) INSERT INTO workflow_status ({_COLUMNS}) SELECT {values} FROM number",
            (runs,),
        )
        connection.execute("ANALYZE")
        connection.commit()
    finally:
        connection.close()


def _fill_postgres(url: str, runs: int) -> None:
    values = _values(f"({_ATTRIBUTES})::jsonb").replace("%", "%%")
    text = (
        f"INSERT INTO dbos.workflow_status ({_COLUMNS})"
        f" SELECT {values} FROM generate_series(1, %s) AS number (n)"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(text.encode(), (runs,))
        connection.execute("VACUUM ANALYZE dbos.workflow_status")


def _values(attributes: str) -> str:
    return _VALUES.replace("{attributes}", attributes)
