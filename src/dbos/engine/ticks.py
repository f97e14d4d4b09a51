"""From a tick of a schedule to the row of its run: pure decisions, nothing is written."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dbos import cron
from dbos.errors import DBOSSerializationError
from dbos.serialization.codec import Stored, WorkflowSerializationFormat
from dbos.storage.recovery import INTERNAL_QUEUE
from dbos.storage.rows import NewRun
from dbos.storage.schedules import ScheduleRow

if TYPE_CHECKING:
    from dbos.engine.engine import Engine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TYPED_FORMATS = frozenset({"json", "py_pickle"})
"""Formats that give a datetime back as one."""


def instant(now_ms: int) -> datetime:
    """The database's clock as a moment in UTC."""
    return EPOCH + timedelta(milliseconds=now_ms)


def run_id(name: str, tick: datetime) -> str:
    """The id that makes a tick run once, whoever fires it."""
    return f"sched-{name}-{tick.isoformat()}"


def trigger_id(name: str, now: datetime) -> str:
    return f"sched-{name}-trigger-{now.isoformat()}"


def cron_of(row: ScheduleRow) -> cron.Cron:
    """The checked expression of a stored schedule; raises `BadCron` or `BadZone`."""
    return cron.parse(row.schedule, row.cron_timezone, row.schedule_name)


def context_of(engine: Engine, row: ScheduleRow) -> Any:
    """The decoded context of a schedule; raises `DBOSStoredDataError`."""
    where = Stored(f"schedule {row.schedule_name}", None, "context")
    return engine.codec.load(row.context, row.serialization, where)


def scheduled_runs(
    engine: Engine, row: ScheduleRow, ticks: Iterable[datetime], context: Any
) -> tuple[NewRun, ...]:
    """The runs of some ticks of a stored schedule."""
    return tuple(
        stored_run(engine, row, run_id(row.schedule_name, tick), tick, context) for tick in ticks
    )


def stored_run(
    engine: Engine, row: ScheduleRow, workflow_id: str, scheduled_at: datetime, context: Any
) -> NewRun:
    """One run of a stored schedule, waiting on its queue for the owner's latest version."""
    inputs, format = _inputs(engine, row.workflow_name, (scheduled_at, context))
    return NewRun(
        workflow_uuid=workflow_id,
        status="ENQUEUED",
        name=row.workflow_name,
        class_name=row.workflow_class_name,
        inputs=inputs,
        serialization=format,
        owner_xid=engine.new_token(),
        application_name=row.application_name or engine.settings.name or None,
        # The claim gives a run without a version to the latest one.
        application_version=None,
        queue_name=row.queue_name or INTERNAL_QUEUE,
        schedule_name=row.schedule_name,
    )


def decorated_run(engine: Engine, function_name: str, tick: datetime, now: datetime) -> NewRun:
    """One run of a function under `@DBOS.scheduled`."""
    registration = engine.registry.named(function_name)
    assert registration is not None, "only registered functions are scheduled"
    inputs, format = _inputs(engine, registration.run_name, (tick, now))
    return NewRun(
        workflow_uuid=run_id(function_name, tick),
        status="ENQUEUED",
        name=registration.run_name,
        class_name=engine.registry.classes.class_names(registration)[0],
        inputs=inputs,
        serialization=format,
        owner_xid=engine.new_token(),
        application_name=engine.settings.name,
        application_version=None,
        queue_name=INTERNAL_QUEUE,
        schedule_name=function_name,
    )


def _inputs(engine: Engine, run_name: str, args: tuple[Any, ...]) -> tuple[str, str]:
    """Stored arguments and their format: the function must get the time as a datetime."""
    registration = engine.registry.find(run_name)
    requested = registration.serialization if registration is not None else None
    codec = engine.codec
    format = codec.format_for(requested or WorkflowSerializationFormat.DEFAULT, None)
    if format not in TYPED_FORMATS:
        try:
            return codec.dump_arguments(args, {}, "json"), "json"
        except DBOSSerializationError:
            pass
    return codec.dump_arguments(args, {}, format), format
