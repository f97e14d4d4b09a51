"""Stored schedules: created, changed, listed; and the runs that their ticks create."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from dbos.storage.protocol import SingleRead, Statement, Topic, Tx, Write
from dbos.storage.rows import Admitted, NewRun, Recorded, StepRow
from dbos.storage.steps import record_pending
from dbos.storage.workflows import admit_rows

ACTIVE = "ACTIVE"
PAUSED = "PAUSED"


class ScheduleRow(NamedTuple):
    """One stored schedule, its context in the format that the row names."""

    schedule_id: str
    schedule_name: str
    workflow_name: str
    workflow_class_name: str | None
    schedule: str
    status: str
    context: str
    last_fired_at: str | None
    automatic_backfill: bool
    cron_timezone: str | None
    queue_name: str | None
    application_name: str | None
    serialization: str | None


_COLUMNS = ", ".join(ScheduleRow._fields)
_VALUES = ", ".join(f":{column}" for column in ScheduleRow._fields)

# An existing row is given back as it is; whose id it has tells whether it is new.
CREATE = Statement(
    f"""
    INSERT INTO {{workflow_schedules}} ({_COLUMNS}) VALUES ({_VALUES})
    ON CONFLICT (schedule_name) DO UPDATE SET schedule_name = :schedule_name
    RETURNING schedule_id, application_name
    """
)

UPDATE = Statement(
    """
    UPDATE {workflow_schedules} SET workflow_name = :workflow_name,
        workflow_class_name = :workflow_class_name, schedule = :schedule, context = :context,
        serialization = :serialization, automatic_backfill = :automatic_backfill,
        cron_timezone = :cron_timezone, queue_name = :queue_name,
        application_name = COALESCE(application_name, :application_name)
    WHERE schedule_name = :schedule_name
    """
)

REMOVE = Statement("DELETE FROM {workflow_schedules} WHERE schedule_id = :schedule_id")
DELETE = Statement("DELETE FROM {workflow_schedules} WHERE schedule_name = :schedule_name")
SET_STATUS = Statement(
    "UPDATE {workflow_schedules} SET status = :status WHERE schedule_name = :schedule_name"
)
OWNER = Statement(
    "SELECT application_name FROM {workflow_schedules} WHERE schedule_name = :schedule_name"
)


class Changed(NamedTuple):
    """What became of a change: the record's fate in workflow code, or the row in the way."""

    recorded: Recorded | None
    taken: bool = False
    """Whether the name is in use; then nothing was changed."""
    owner: str | None = None
    taken_name: str | None = None


@dataclass(frozen=True, slots=True)
class Creation:
    """A schedule to create, with the caller's record if it is made in workflow code."""

    row: ScheduleRow
    record: StepRow | None = None


def create_all(tx: Tx, creations: Sequence[Creation]) -> list[Changed]:
    """Create schedules; a name in use is left alone."""
    return [_create(tx, creation) for creation in creations]


def _create(tx: Tx, creation: Creation) -> Changed:
    row = creation.row
    found = tx.one(CREATE, **row._asdict())
    assert found is not None
    if found[0] != row.schedule_id:
        return Changed(None, taken=True, owner=found[1], taken_name=row.schedule_name)
    recorded = _recorded(tx, creation.record)
    if recorded is not None and recorded.verdict != "kept":
        tx.run(REMOVE, schedule_id=row.schedule_id)
    return Changed(recorded)


def _recorded(tx: Tx, record: StepRow | None) -> Recorded | None:
    return record_pending(tx, [record])[0] if record is not None else None


def _created_topics(creation: Creation, _: Changed) -> Iterable[Topic]:
    yield Topic("schedule", creation.row.schedule_name)


create: Final = Write("create_schedule", create_all, _created_topics, rank=30)


def apply_all(tx: Tx, requests: Sequence[Sequence[ScheduleRow]]) -> list[Changed]:
    """Create or update schedules by name, all of a request or none."""
    return [_apply(tx, request) for request in requests]


def _apply(tx: Tx, rows: Sequence[ScheduleRow]) -> Changed:
    for row in rows:
        found = tx.one(OWNER, schedule_name=row.schedule_name)
        if found is not None and found[0] not in (None, row.application_name):
            return Changed(None, taken=True, owner=found[0], taken_name=row.schedule_name)
    for row in rows:
        found = tx.one(CREATE, **row._asdict())
        assert found is not None
        if found[0] != row.schedule_id:
            values = row._asdict()
            for kept in ("schedule_id", "status", "last_fired_at"):
                del values[kept]
            tx.run(UPDATE, **values)
    return Changed(None)


def _applied_topics(rows: Sequence[ScheduleRow], _: Changed) -> Iterable[Topic]:
    return (Topic("schedule", row.schedule_name) for row in rows)


apply: Final = Write("apply_schedules", apply_all, _applied_topics, rank=30)


@dataclass(frozen=True, slots=True)
class Alteration:
    """A schedule to delete, or to give another status."""

    schedule_name: str
    status: str | None
    """None deletes it."""
    record: StepRow | None = None


def alter_all(tx: Tx, alterations: Sequence[Alteration]) -> list[Changed]:
    """Delete, pause or resume schedules; unknown names are ignored."""
    return [_alter(tx, alteration) for alteration in alterations]


def _alter(tx: Tx, alteration: Alteration) -> Changed:
    recorded = _recorded(tx, alteration.record)
    if recorded is not None and recorded.verdict != "kept":
        return Changed(recorded)
    if alteration.status is None:
        tx.run(DELETE, schedule_name=alteration.schedule_name)
    else:
        tx.run(SET_STATUS, schedule_name=alteration.schedule_name, status=alteration.status)
    return Changed(recorded)


def _altered_topics(alteration: Alteration, _: Changed) -> Iterable[Topic]:
    yield Topic("schedule", alteration.schedule_name)


alter: Final = Write("alter_schedule", alter_all, _altered_topics, rank=31)

# An update that changes nothing: until the end of the transaction no other process may fire.
HOLD = Statement(
    """
    UPDATE {workflow_schedules} SET status = status
    WHERE schedule_id = :schedule_id AND status = 'ACTIVE'
    RETURNING last_fired_at
    """
)
FIRED = Statement(
    """
    UPDATE {workflow_schedules} SET last_fired_at = :last_fired_at
    WHERE schedule_id = :schedule_id
    """
)


@dataclass(frozen=True, slots=True)
class Firing:
    """Runs for some ticks of one schedule; a live firing also moves `last_fired_at` forward."""

    runs: tuple[NewRun, ...]
    schedule_id: str | None = None
    last_fired_at: str | None = None


def fire_all(tx: Tx, firings: Sequence[Firing]) -> list[list[Admitted] | None]:
    """Create the runs that do not exist yet; None if the schedule was paused or deleted."""
    return [_fire(tx, firing) for firing in firings]


def _fire(tx: Tx, firing: Firing) -> list[Admitted] | None:
    if firing.schedule_id is not None:
        held = tx.one(HOLD, schedule_id=firing.schedule_id)
        if held is None:
            return None
        # A process that lags behind the others does not set it back.
        if firing.last_fired_at is not None and _is_later(firing.last_fired_at, held[0]):
            tx.run(FIRED, schedule_id=firing.schedule_id, last_fired_at=firing.last_fired_at)
    return admit_rows(tx, firing.runs)


def _is_later(tick: str, than: str | None) -> bool:
    """Whether a tick comes after another one, or after what is no tick at all."""
    try:
        return than is None or datetime.fromisoformat(tick) > datetime.fromisoformat(than)
    except (ValueError, TypeError):
        return True


def _fired_topics(firing: Firing, admitted: list[Admitted] | None) -> Iterable[Topic]:
    if admitted is None:
        return ()
    return {Topic("queue", run.queue_name) for run in firing.runs if run.queue_name is not None}


fire: Final = Write("fire_schedule", fire_all, _fired_topics, rank=12)

ALL = Statement(f"SELECT {_COLUMNS} FROM {{workflow_schedules}} ORDER BY schedule_name")
ONE = Statement(
    f"SELECT {_COLUMNS} FROM {{workflow_schedules}} WHERE schedule_name = :schedule_name"
)
QUEUE = Statement("SELECT name FROM {queues} WHERE name = :name")


@SingleRead
def all_schedules(tx: Tx) -> list[ScheduleRow]:
    """Every stored schedule, by name."""
    return [_row(row) for row in tx.all(ALL)]


@SingleRead
def one_schedule(tx: Tx, schedule_name: str) -> ScheduleRow | None:
    """The schedule of a name, whichever application owns it."""
    row = tx.one(ONE, schedule_name=schedule_name)
    return None if row is None else _row(row)


@SingleRead
def queue_is_registered(tx: Tx, name: str) -> bool:
    """Whether a queue of this name is in the database."""
    return tx.one(QUEUE, name=name) is not None


def _row(row: tuple[object, ...]) -> ScheduleRow:
    found = ScheduleRow(*row)  # type: ignore[arg-type]
    return found._replace(automatic_backfill=bool(found.automatic_backfill))
