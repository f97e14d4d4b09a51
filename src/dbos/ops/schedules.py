"""Stored schedules: create, apply, list, change, and start their runs by hand."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, cast

from dbos import cron, validation
from dbos.engine import ticks
from dbos.engine.engine import Runtime
from dbos.engine.registry import Registration, registration_of
from dbos.engine.site import Site, recorded_operation
from dbos.engine.steps import Operation, commit_in_order, once, step_row
from dbos.errors import (
    DBOSException,
    DBOSInvalidInputError,
    DBOSWorkflowFunctionNotFoundError,
)
from dbos.models import ScheduleInput, WorkflowSchedule
from dbos.ops.verb import verb
from dbos.storage import schedules
from dbos.storage.rows import Recorded
from dbos.storage.schedules import (
    ACTIVE,
    PAUSED,
    Alteration,
    Changed,
    Creation,
    Firing,
    ScheduleRow,
)

CREATE = "DBOS.createSchedule"
LIST = "DBOS.listSchedules"
GET = "DBOS.getSchedule"
DELETE = "DBOS.deleteSchedule"
PAUSE = "DBOS.pauseSchedule"
RESUME = "DBOS.resumeSchedule"
BATCH = 500
"""Runs of a backfill that are created in one transaction."""
REQUIRED = ("schedule_name", "workflow_fn", "schedule")


@dataclass(frozen=True, slots=True)
class Definition:
    """A schedule as it is asked for: the workflow is given by name."""

    schedule_name: str
    workflow_name: str
    schedule: str
    context: Any = None
    workflow_class_name: str | None = None
    automatic_backfill: bool = False
    cron_timezone: str | None = None
    queue_name: str | None = None
    application_name: str | None = None
    """Its owner; default: our application."""


@verb(step_ids=1)
async def create_schedule(
    rt: Runtime,
    site: Site,
    *,
    schedule_name: str,
    workflow_fn: Callable[..., Any],
    schedule: str,
    context: Any = None,
    automatic_backfill: bool = False,
    cron_timezone: str | None = None,
    queue_name: str | None = None,
) -> None:
    """Create a schedule, active at once; durable when this returns.

    At each tick the workflow is started with `(scheduled_at, context)`, once over all processes.
    From workflow code the call is one step.

    Args:
        schedule_name: unique in the database.
        schedule: a cron expression of 5, 6 (seconds first) or 7 (years last) fields.
        context: any value that can be stored.
        automatic_backfill: make up for the ticks that passed while no process ran.
        cron_timezone: IANA name; default: UTC.
        queue_name: a declared queue; default: the internal one.

    Raises:
        DBOSException: "Invalid cron schedule", "Invalid timezone", "already exists", the queue "is
        not declared", or the workflow is an instance's method.
        DBOSWorkflowFunctionNotFoundError: "is not a registered workflow function".
        DBOSSerializationError: the context cannot be stored.
    """
    target = _target(workflow_fn)
    definition = Definition(
        schedule_name,
        target.name,
        schedule,
        context,
        _class_name(rt, workflow_fn),
        automatic_backfill,
        cron_timezone,
        queue_name,
    )
    await create(rt, site, definition, needs_queue=True)


async def create(rt: Runtime, site: Site, definition: Definition, *, needs_queue: bool) -> None:
    """Create a schedule whose workflow is given by name."""
    row = _row(rt, definition)

    async def commit(operation: Operation | None) -> None:
        if needs_queue:
            await _check_queue(rt, row.queue_name)
        run = site.run
        if run is None or operation is None:
            created = await rt.io.commit(schedules.create, Creation(row), row.schedule_name)
            _check(created, row)
            return
        record = step_row(rt, run, operation, output=None, error=None)
        creation = Creation(row, record)
        _check(await commit_in_order(rt, run, schedules.create, creation, _verdict), row)

    if site.run is None:
        await commit(None)
    else:
        await once(rt, site.run, site.step_id, CREATE, commit)


@verb(step_ids=0)
async def apply_schedules(rt: Runtime, site: Site, schedules: Sequence[ScheduleInput]) -> None:
    """Create or update schedules by name, all or none; durable when this returns.

    An update keeps id, status and last firing. Schedules that are not listed are left alone.

    Raises:
        DBOSException: as `create_schedule`; "missing required field" with the entry's index; or
        called from within a workflow.
    """
    _not_in_workflow(site, "apply_schedules")
    if isinstance(schedules, str | bytes | Mapping) or not isinstance(schedules, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DBOSInvalidInputError("schedules must be a list of ScheduleInput")
    await apply(rt, [_definition(rt, entry, at) for at, entry in enumerate(schedules)], True)


async def apply(rt: Runtime, definitions: Sequence[Definition], needs_queue: bool) -> None:
    """Create or update schedules whose workflows are given by name."""
    rows = [_row(rt, definition) for definition in definitions]
    if needs_queue:
        for row in rows:
            await _check_queue(rt, row.queue_name)
    if rows:
        _check(await rt.io.commit(schedules.apply, rows, rows[0].schedule_name), *rows)


@verb(step_ids=1)
async def list_schedules(
    rt: Runtime,
    site: Site,
    *,
    status: str | list[str] | None = None,
    workflow_name: str | list[str] | None = None,
    schedule_name_prefix: str | list[str] | None = None,
    application_name: str | list[str] | None = None,
) -> list[WorkflowSchedule]:
    """Stored schedules by name: our application's and unclaimed ones. Each filter takes a list.

    Args:
        application_name: these applications' instead of ours, and unclaimed ones.
    """
    statuses = validation.filter_values(status, "status")
    names = validation.filter_values(workflow_name, "workflow_name")
    prefixes = validation.filter_values(schedule_name_prefix, "schedule_name_prefix")
    owners = validation.filter_values(application_name, "application_name")
    if owners is None and rt.engine.settings.name:
        owners = [rt.engine.settings.name]

    def is_wanted(row: ScheduleRow) -> bool:
        return (
            (statuses is None or row.status in statuses)
            and (names is None or row.workflow_name in names)
            and (prefixes is None or row.schedule_name.startswith(tuple(prefixes)))
            and (owners is None or row.application_name is None or row.application_name in owners)
        )

    async def look() -> list[WorkflowSchedule]:
        rows = await rt.io.read(schedules.all_schedules)
        return [_shown(rt, row) for row in rows if is_wanted(row)]

    return await recorded_operation(rt, site, LIST, look)


@verb(step_ids=1)
async def get_schedule(rt: Runtime, site: Site, name: str) -> WorkflowSchedule | None:
    """The schedule of this name, whichever application owns it; None if there is none."""
    validation.identifier(name, "name")

    async def look() -> WorkflowSchedule | None:
        row = await rt.io.read(schedules.one_schedule, name)
        return None if row is None else _shown(rt, row)

    return await recorded_operation(rt, site, GET, look)


@verb(step_ids=1)
async def delete_schedule(rt: Runtime, site: Site, name: str) -> None:
    """Delete a schedule; its runs stay. Durable when this returns; no effect if it is unknown."""
    await _alter(rt, site, DELETE, Alteration(validation.identifier(name, "name"), None))


@verb(step_ids=1)
async def pause_schedule(rt: Runtime, site: Site, name: str) -> None:
    """Stop a schedule from firing; durable when this returns. No effect if it is unknown."""
    await _alter(rt, site, PAUSE, Alteration(validation.identifier(name, "name"), PAUSED))


@verb(step_ids=1)
async def resume_schedule(rt: Runtime, site: Site, name: str) -> None:
    """Have a paused schedule fire again; durable when this returns. No effect if it is unknown."""
    await _alter(rt, site, RESUME, Alteration(validation.identifier(name, "name"), ACTIVE))


async def backfill(
    rt: Runtime, site: Site, schedule_name: str, start: datetime, end: datetime
) -> list[str]:
    """Start a run for every tick strictly between two moments that has none; all their ids."""
    _not_in_workflow(site, "backfill_schedule")
    validation.identifier(schedule_name, "schedule_name")
    first, last = _moment(start, "start"), _moment(end, "end")
    row = await _existing(rt, schedule_name)
    context, made = ticks.context_of(rt.engine, row), list[str]()
    due = _cron(row.schedule, row.cron_timezone, schedule_name).between(first, last)
    while batch := list(islice(due, BATCH)):
        runs = ticks.scheduled_runs(rt.engine, row, batch, context)
        await rt.io.commit(schedules.fire, Firing(runs), schedule_name)
        made += [run.workflow_uuid for run in runs]
    return made


async def trigger(rt: Runtime, site: Site, schedule_name: str) -> str:
    """Start one run of a schedule at once, paused or not; its id."""
    _not_in_workflow(site, "trigger_schedule")
    validation.identifier(schedule_name, "schedule_name")
    row = await _existing(rt, schedule_name)
    context, now_ms = ticks.context_of(rt.engine, row), rt.io.now_ms()
    while True:
        now = ticks.instant(now_ms)
        run = ticks.stored_run(rt.engine, row, ticks.trigger_id(schedule_name, now), now, context)
        admitted = await rt.io.commit(schedules.fire, Firing((run,)), schedule_name)
        assert admitted is not None
        if admitted[0].claim == run.owner_xid or admitted[0].status != "ENQUEUED":
            return run.workflow_uuid
        # Another trigger of the same millisecond has the id.
        now_ms += 1


def _definition(rt: Runtime, entry: Any, index: int) -> Definition:
    if not isinstance(entry, Mapping):
        raise DBOSInvalidInputError(f"schedules[{index}] must be a ScheduleInput")
    given = cast("Mapping[str, Any]", entry)
    for required in REQUIRED:
        if given.get(required) is None:
            raise DBOSException(f"schedules[{index}] is missing required field '{required}'")
    # An entry of a list may be given back as it is.
    validation.only_keys(
        given,
        ScheduleInput.__annotations__,
        f"schedules[{index}]",
        ignored=WorkflowSchedule.__annotations__,
    )
    target = _target(given["workflow_fn"])
    return Definition(
        given["schedule_name"],
        target.name,
        given["schedule"],
        given.get("context"),
        _class_name(rt, given["workflow_fn"]),
        given.get("automatic_backfill") or False,
        given.get("cron_timezone"),
        given.get("queue_name"),
    )


def _class_name(rt: Runtime, function: Callable[..., Any]) -> str | None:
    """The registered name of the class that a class method is called on; else None."""
    subject = getattr(function, "__self__", None)
    return rt.engine.registry.classes.name_of(subject) if isinstance(subject, type) else None


def _target(function: Callable[..., Any]) -> Registration:
    found = registration_of(function)
    if found is None or found.kind != "workflow":
        name = getattr(function, "__qualname__", type(function).__qualname__)
        raise DBOSWorkflowFunctionNotFoundError(
            "not scheduled", f"{validation.shown(name)} is not a registered workflow function"
        )
    if _needs_an_instance(function, found):
        raise DBOSException(
            "Configured instance methods cannot be used as scheduled workflows: schedule a "
            "function, a class method or a static method."
        )
    return found


def _needs_an_instance(function: Callable[..., Any], target: Registration) -> bool:
    if inspect.ismethod(function):
        return not isinstance(function.__self__, type)
    # A method that was taken from its class instead of an instance asks for one more argument.
    return target.is_in_class and not _takes(function, 2) and _takes(function, 3)


def _takes(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    return True


def _row(rt: Runtime, definition: Definition) -> ScheduleRow:
    """The checked row of a definition."""
    name = validation.identifier(definition.schedule_name, "schedule_name")
    zone = definition.cron_timezone
    if not isinstance(definition.automatic_backfill, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DBOSInvalidInputError("automatic_backfill must be True or False")
    checked = _cron(definition.schedule, zone, name)
    if not cron.has_a_date(checked, ticks.instant(rt.io.now_ms())):
        raise DBOSException(
            f"Invalid cron schedule {validation.shown(definition.schedule)}: it has no future date"
        )
    queue = definition.queue_name
    codec = rt.engine.codec
    return ScheduleRow(
        schedule_id=rt.engine.new_id(),
        schedule_name=name,
        workflow_name=definition.workflow_name,
        workflow_class_name=definition.workflow_class_name,
        schedule=definition.schedule,
        status=ACTIVE,
        context=codec.dump(definition.context, "context", codec.native),
        last_fired_at=None,
        automatic_backfill=definition.automatic_backfill,
        cron_timezone=zone,
        queue_name=None if queue is None else validation.queue_name(queue),
        application_name=definition.application_name or rt.engine.settings.name or None,
        serialization=codec.native,
    )


def _cron(expression: object, zone: object, name: str) -> cron.Cron:
    text = validation.label(expression, "schedule")
    zone_name = validation.optional_label(zone, "cron_timezone")
    try:
        return cron.parse(text, zone_name, name)
    except cron.BadCron as error:
        raise DBOSException(f"Invalid cron schedule {validation.shown(text)}: {error}") from None
    except cron.BadZone as error:
        raise DBOSException(f"Invalid timezone {validation.shown(str(zone))}: {error}") from None


async def _check_queue(rt: Runtime, name: str | None) -> None:
    if name is None or name in rt.engine.registry.queues:
        return
    if not await rt.io.read(schedules.queue_is_registered, name):
        raise DBOSException(
            f"Queue {validation.shown(name)} is not declared: create or register it first."
        )


def _check(changed: Changed, *rows: ScheduleRow) -> None:
    if not changed.taken:
        return
    name = validation.shown(changed.taken_name or "")
    if changed.owner is not None and all(changed.owner != row.application_name for row in rows):
        owner = validation.shown(changed.owner or "")
        raise DBOSException(f"Schedule {name} is already registered by application {owner}")
    raise DBOSException(f"Schedule {name} already exists: apply_schedules() would update it")


async def _alter(rt: Runtime, site: Site, name: str, alteration: Alteration) -> None:
    run = site.run
    if run is None:
        await rt.io.commit(schedules.alter, alteration, alteration.schedule_name)
        return

    async def perform(operation: Operation) -> None:
        row = step_row(rt, run, operation, output=None, error=None)
        recorded = Alteration(alteration.schedule_name, alteration.status, row)
        await commit_in_order(rt, run, schedules.alter, recorded, _verdict)

    await once(rt, run, site.step_id, name, perform)


async def _existing(rt: Runtime, name: str) -> ScheduleRow:
    row = await rt.io.read(schedules.one_schedule, name)
    if row is None:
        raise DBOSException(f"Schedule {validation.shown(name)} does not exist")
    return row


def _shown(rt: Runtime, row: ScheduleRow) -> WorkflowSchedule:
    """A row as callers see it; a context that cannot be decoded appears as its stored text."""
    faults: dict[str, str] = {}
    context: Any = row.context
    try:
        context = ticks.context_of(rt.engine, row)
    except Exception as error:
        faults["context"] = f"cannot be decoded: {type(error).__name__}"
    fields: dict[str, Any] = {**row._asdict(), "context": context}
    del fields["serialization"]
    if faults:
        fields["payload_errors"] = faults
    return cast("WorkflowSchedule", fields)


def _moment(value: object, name: str) -> datetime:
    if not isinstance(value, datetime):
        raise DBOSInvalidInputError(f"{name} must be a datetime, not {type(value).__name__}")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _not_in_workflow(site: Site, call: str) -> None:
    if site.run is not None:
        raise DBOSException(f"{call}() cannot be called from within a workflow")


def _verdict(changed: Changed) -> Recorded | None:
    # A name in use is the caller's error and leaves the run as it is.
    return changed.recorded
