"""Which migrations a database needs: the rules of levels, without a database.

A database has two levels: that of the reference's tables, in `dbos_migrations`, and that of what we
add to them, in `perdure_migrations`. `plan` says which scripts to run or why there are none to run;
the two schema modules look at their database, ask, and run the scripts in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dbos.errors import DBOSInitializationError

REFERENCE_LEVEL = 108
OUR_LEVEL = 1

REFERENCE_TABLES = (
    "workflow_status",
    "operation_outputs",
    "notifications",
    "workflow_events",
    "workflow_events_history",
    "streams",
    "workflow_schedules",
    "application_versions",
    "queues",
    "event_dispatch_kv",
    "dbos_migrations",
)
OUR_TABLES = (
    "perdure_executors",
    "perdure_starts",
    "perdure_wakeups",
    "perdure_host_clock",
    "perdure_migrations",
)
OUTPUT_TABLES = ("transaction_outputs", "datasource_outputs")
"""Tables of transactions and data sources, which the migrations of this module do not make."""
KEPT_BY_TRUNCATE = ("dbos_migrations", "perdure_migrations", "perdure_host_clock")

_SCRIPTS = Path(__file__).parent / "migrations"

Kind = Literal["sqlite", "postgres"]


@dataclass(frozen=True, slots=True)
class Found:
    """What is in a database: tables under our names, and the levels that the level tables name."""

    tables: frozenset[str]
    reference_level: int | None = None
    our_level: int | None = None


def plan(found: Found, display: str) -> tuple[str, ...]:
    """Names of the scripts to run, in order; refuses a database that we may not touch."""
    _refuse_strangers(found, display)
    if found.reference_level is None:
        return ("0000_reference", "0001_additions")
    _refuse_other_levels(found.reference_level, display)
    return ("0001_additions",) if found.our_level is None else ()


def check(found: Found, display: str) -> None:
    """Refuse a database that is not ready to use as it is."""
    _refuse_strangers(found, display)
    if found.reference_level is None:
        raise _not_ready(display, "no system tables")
    _refuse_other_levels(found.reference_level, display)
    if found.our_level is None:
        raise _not_ready(display, f"level {found.reference_level} without Perdure's additions")
    if found.our_level < OUR_LEVEL:
        raise _not_ready(display, f"level {found.reference_level}, additions {found.our_level}")


def missing_database(display: str) -> DBOSInitializationError:
    return _not_ready(display, "no database")


def refuse_foreign_level(found: Found, display: str) -> None:
    """Refuse a database of a later generation, whose tables are not all known to us."""
    if found.reference_level is not None and found.reference_level > REFERENCE_LEVEL:
        _refuse_other_levels(found.reference_level, display)


def script(kind: Kind, name: str) -> str:
    """The text of a migration."""
    return (_SCRIPTS / kind / f"{name}.sql").read_text(encoding="utf-8")


def _refuse_strangers(found: Found, display: str) -> None:
    """Tables under our names without the level that goes with them belong to somebody else."""
    strangers: list[str] = []
    if found.reference_level is None:
        strangers += [name for name in REFERENCE_TABLES if name in found.tables]
    if found.our_level is None or found.reference_level is None:
        strangers += [name for name in OUR_TABLES if name in found.tables]
    if strangers:
        raise DBOSInitializationError(
            f"The database {display} has a table {strangers[0]!r} that is not ours, and we need"
            " that name. Nothing was changed. Rename the table, or use another database."
        )


def _refuse_other_levels(level: int, display: str) -> None:
    if level < REFERENCE_LEVEL:
        raise DBOSInitializationError(
            f"The system tables in {display} are at level {level}, and level {REFERENCE_LEVEL} is"
            " required. Nothing was changed. Start DBOS Transact 2.31.1 once against this"
            " database, which brings it to that level."
        )
    if level > REFERENCE_LEVEL:
        raise DBOSInitializationError(
            f"The system tables in {display} are at level {level}, made by a later generation of"
            f" DBOS Transact (3.x) that stores payloads elsewhere; level {REFERENCE_LEVEL} is"
            " required. Nothing was changed. Use another database or schema."
        )


def _not_ready(display: str, found: str) -> DBOSInitializationError:
    return DBOSInitializationError(
        f"The system database {display} is not ready: required are the system tables at level"
        f" {REFERENCE_LEVEL} with Perdure's additions at level {OUR_LEVEL}; found: {found}."
        " Run `dbos migrate`, or set run_migrations to True."
    )
