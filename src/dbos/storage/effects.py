"""Outcomes beside the user's own rows: what a transaction elsewhere came to, by run and step id.

A transaction that does not run on the system database records its outcome in a table of its own
database, in the same commit. The history is written afterwards; replay looks here first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbos.config import DatabaseAddress, PoolSettings
from dbos.errors import DBOSInitializationError
from dbos.storage.faults import lacks_a_table
from dbos.storage.open import OpenOptions, open_database
from dbos.storage.protocol import Statement, Tx, Write
from dbos.storage.statements import quote_identifier

_POSTGRES_NOW = "(EXTRACT(epoch FROM clock_timestamp()) * 1000.0)::bigint"
_SQLITE_NOW = "(CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER))"
_LOCK_KEY = 7_301_184_915_532


class Effect(NamedTuple):
    """A recorded outcome, as stored."""

    output: str | None
    error: str | None
    serialization: str | None


@dataclass(frozen=True, slots=True)
class EffectRow:
    """The outcome of a transaction that is about to commit."""

    workflow_uuid: str
    function_id: int
    function_name: str
    output: str | None
    serialization: str


@dataclass(frozen=True, slots=True)
class EffectTable:
    """One of the two tables, with its statements."""

    name: str
    find: Statement
    insert: Statement
    columns: tuple[str, ...]
    sqlite: tuple[Statement, ...]
    postgres: tuple[Statement, ...]


TRANSACTIONS: Final = EffectTable(
    "transaction_outputs",
    find=Statement(
        "SELECT output, error, serialization FROM {transaction_outputs}"
        " WHERE workflow_uuid = :workflow_id AND function_id = :step_id"
    ),
    insert=Statement(
        "INSERT INTO {transaction_outputs} (workflow_uuid, function_id, output, txn_id,"
        " txn_snapshot, function_name, serialization, created_at)"
        " VALUES (:workflow_id, :step_id, :output, '', '', :name, :serialization, {now_ms})"
        " ON CONFLICT (workflow_uuid, function_id) DO NOTHING"
    ),
    columns=("function_name", "serialization"),
    sqlite=(
        Statement(
            "CREATE TABLE IF NOT EXISTS {transaction_outputs} (workflow_uuid TEXT NOT NULL,"
            " function_id INTEGER NOT NULL, output TEXT, error TEXT, txn_id TEXT,"
            " txn_snapshot TEXT NOT NULL, executor_id TEXT, function_name TEXT NOT NULL DEFAULT '',"
            f" created_at BIGINT NOT NULL DEFAULT {_SQLITE_NOW}, serialization TEXT,"
            " PRIMARY KEY (workflow_uuid, function_id))"
        ),
        Statement(
            "CREATE INDEX IF NOT EXISTS transaction_outputs_created_at_index"
            " ON {transaction_outputs} (created_at)"
        ),
    ),
    postgres=(
        Statement(
            "CREATE TABLE IF NOT EXISTS {transaction_outputs} (workflow_uuid TEXT NOT NULL,"
            " function_id INTEGER NOT NULL, output TEXT, error TEXT, txn_id TEXT,"
            " txn_snapshot TEXT NOT NULL, executor_id TEXT, function_name TEXT NOT NULL DEFAULT '',"
            f" created_at BIGINT NOT NULL DEFAULT {_POSTGRES_NOW}, serialization TEXT,"
            " PRIMARY KEY (workflow_uuid, function_id))"
        ),
        Statement(
            "CREATE INDEX IF NOT EXISTS transaction_outputs_created_at_index"
            " ON {transaction_outputs} (created_at)"
        ),
    ),
)
DATASOURCES: Final = EffectTable(
    "datasource_outputs",
    find=Statement(
        "SELECT output, error, serialization FROM {datasource_outputs}"
        " WHERE workflow_id = :workflow_id AND step_id = :step_id"
    ),
    insert=Statement(
        "INSERT INTO {datasource_outputs}"
        " (workflow_id, step_id, output, serialization, created_at)"
        " VALUES (:workflow_id, :step_id, :output, :serialization, {now_ms})"
        " ON CONFLICT (workflow_id, step_id) DO NOTHING"
    ),
    columns=("serialization",),
    sqlite=(
        Statement(
            "CREATE TABLE IF NOT EXISTS {datasource_outputs} (workflow_id TEXT NOT NULL,"
            " step_id INTEGER NOT NULL, output TEXT, error TEXT, serialization TEXT,"
            f" created_at BIGINT NOT NULL DEFAULT {_SQLITE_NOW},"
            " PRIMARY KEY (workflow_id, step_id))"
        ),
    ),
    postgres=(
        Statement(
            "CREATE TABLE IF NOT EXISTS {datasource_outputs} (workflow_id TEXT NOT NULL,"
            " step_id INT NOT NULL, output TEXT, error TEXT, serialization TEXT,"
            f" created_at BIGINT NOT NULL DEFAULT {_POSTGRES_NOW},"
            " PRIMARY KEY (workflow_id, step_id))"
        ),
    ),
)

_SQLITE_COLUMNS = Statement("SELECT name FROM pragma_table_info(:table_name)")
_POSTGRES_COLUMNS = Statement(
    "SELECT column_name FROM information_schema.columns"
    " WHERE table_schema = :schema AND table_name = :table_name"
)
_HAS_SCHEMA = Statement("SELECT 1 FROM pg_namespace WHERE nspname = :schema")
_LOCK = Statement(f"SELECT 1 FROM pg_advisory_xact_lock({_LOCK_KEY})")


def find(tx: Tx, table: EffectTable, workflow_id: str, step_id: int) -> Effect | None:
    """The outcome that was committed beside the user's rows, if it was."""
    row = tx.one(table.find, workflow_id=workflow_id, step_id=step_id)
    return None if row is None else Effect(*row)


def insert(tx: Tx, table: EffectTable, row: EffectRow) -> bool:
    """Add the outcome to the open transaction; False if another execution was first."""
    params: dict[str, object] = {
        "workflow_id": row.workflow_uuid,
        "step_id": row.function_id,
        "output": row.output,
        "serialization": row.serialization,
    }
    if table is TRANSACTIONS:
        params["name"] = row.function_name
    return tx.run(table.insert, **params) == 1


def _keep_nothing(tx: Tx, rows: Sequence[EffectRow]) -> list[bool]:
    raise AssertionError("an effect is recorded by the transaction that it belongs to")


keep: Final = Write("record_effect", _keep_nothing, rank=20)
"""Names the commit of a user's transaction elsewhere; it is never applied by a committer."""


FORGET = Statement(
    "DELETE FROM {transaction_outputs}"
    " WHERE workflow_uuid {any_of(workflow_ids)} AND function_id >= :start_step"
)


@dataclass(frozen=True, slots=True)
class Records:
    """The outcomes that `@DBOS.transaction` keeps for some runs, from one step on."""

    workflow_ids: tuple[str, ...]
    start_step: int


def forget_all(tx: Tx, wanted: Sequence[Records]) -> list[None]:
    """Remove outcomes of runs that are deleted or taken back; the effects stay."""
    for records in wanted:
        ids = list(records.workflow_ids)
        tx.run(FORGET, workflow_ids=ids, start_step=records.start_step)
    return [None] * len(wanted)


forget: Final = Write("forget_effects", forget_all, rank=21)
"""Committed in the application database, which has no committer of its own."""


def prepare(tx: Tx, table: EffectTable, schema: str | None) -> None:
    """Make the table, or add what it lacks. Without a schema the database is SQLite."""
    if _is_complete(_columns(tx, table, schema), table):
        return
    if schema is None:
        for statement in table.sqlite:
            tx.run(statement)
        present = _columns(tx, table, None)
    else:
        tx.all(_LOCK)
        if not tx.all(_HAS_SCHEMA, schema=schema):
            tx.run(Statement(f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(schema)}"))
        for statement in table.postgres:
            tx.run(statement)
        present = _columns(tx, table, schema)
    for column in table.columns:
        if column not in present:
            kind = "TEXT NOT NULL DEFAULT ''" if column == "function_name" else "TEXT"
            tx.run(Statement(f"ALTER TABLE {{{table.name}}} ADD COLUMN {column} {kind}"))


def verify(tx: Tx, table: EffectTable, schema: str | None, display: str) -> None:
    """Refuse a database without the table; nothing is changed."""
    if not _is_complete(_columns(tx, table, schema), table):
        raise DBOSInitializationError(
            f"The database {display} has no complete table {table.name}: run the migrations, or "
            "leave run_migrations on."
        )


def prepare_at(
    address: DatabaseAddress, schema: str, pool: PoolSettings, *, run_migrations: bool
) -> None:
    """Have an application database, and in it the table of `@DBOS.transaction`."""
    database = open_database(address, OpenOptions(schema=schema, pool=pool))
    place = schema if address.kind == "postgres" else None
    try:
        if run_migrations:
            database.create_if_missing()
        with database.write() as tx:
            if run_migrations:
                prepare(tx, TRANSACTIONS, place)
            else:
                verify(tx, TRANSACTIONS, place, address.display)
    except Exception as error:
        raise database.translate(error) from None
    finally:
        database.close()


def forget_at(address: DatabaseAddress, schema: str, pool: PoolSettings, records: Records) -> None:
    """Remove outcomes at an application database. One that is not there holds none."""
    database = open_database(address, OpenOptions(schema=schema, pool=pool))
    try:
        with database.write(single=True) as tx:
            forget_all(tx, [records])
    except Exception as error:
        if not lacks_a_table(error) and database.exists():
            raise database.translate(error) from None
    finally:
        database.close()


def migrate_datasource(address: DatabaseAddress, schema: str, role: str | None) -> None:
    """Have the table of the datasources at an address, and let a role use it."""
    database = open_database(address, OpenOptions(schema=schema))
    try:
        database.create_if_missing()
        with database.write() as tx:
            prepare(tx, DATASOURCES, schema if address.kind == "postgres" else None)
            if role is not None and address.kind == "postgres":
                to, place = quote_identifier(role), quote_identifier(schema)
                tx.run(Statement(f"GRANT USAGE ON SCHEMA {place} TO {to}"))
                tx.run(Statement(f"GRANT SELECT, INSERT ON {{datasource_outputs}} TO {to}"))
    except Exception as error:
        raise database.translate(error) from None
    finally:
        database.close()


def _columns(tx: Tx, table: EffectTable, schema: str | None) -> set[str]:
    if schema is None:
        return {str(row[0]) for row in tx.all(_SQLITE_COLUMNS, table_name=table.name)}
    return {str(r[0]) for r in tx.all(_POSTGRES_COLUMNS, schema=schema, table_name=table.name)}


def _is_complete(present: set[str], table: EffectTable) -> bool:
    return bool(present) and present.issuperset(table.columns)
