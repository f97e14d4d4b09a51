"""Operations on queues and schedules that only a client has: workflows and queues are names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from dbos import validation
from dbos.api.queue import Queue, registered_queue
from dbos.engine.engine import Runtime
from dbos.engine.site import Site
from dbos.errors import DBOSException, DBOSInvalidInputError
from dbos.models import ClientScheduleInput, QueueRateLimit, WorkflowSchedule
from dbos.ops import queues
from dbos.ops.queue_settings import GivenSettings
from dbos.ops.schedules import Definition, apply, create
from dbos.ops.verb import verb
from dbos.validation import QueueConflictPolicy


@verb(step_ids=0)
async def register_queue(
    rt: Runtime,
    site: Site,
    name: str,
    *,
    global_concurrency: int | None = None,
    partition_concurrency: int | None = None,
    partition_worker_concurrency: int | None = None,
    partition_limiter: QueueRateLimit | None = None,
    limiter: QueueRateLimit | None = None,
    worker_concurrency: int | None = None,
    polling_interval_sec: float = 1.0,
    on_conflict: QueueConflictPolicy = "always_update",
    application_name: str | None = None,
    concurrency: int | None = None,
    priority_enabled: bool = False,
    partition_queue: bool = False,
) -> Queue:
    """Register a queue in the database; durable when this returns, and served at once.

    As `DBOS.register_queue`. The queue that is returned belongs to the client: its settings can be
    read and changed, and `DBOSClient.enqueue` enqueues on it.

    Args:
        on_conflict: not `"update_if_latest_version"`, for a client has no version.
        application_name: the owner; default: the client's.

    Raises:
        DBOSInvalidInputError: a setting is out of range, or contradicts another.
        DBOSException: the name is "already registered by application" another.
    """
    if on_conflict == "update_if_latest_version":
        raise DBOSException(
            "on_conflict 'update_if_latest_version' is not supported by DBOSClient, which has no "
            "version: use 'always_update' or 'never_update'."
        )
    given = GivenSettings(
        concurrency=concurrency,
        limiter=limiter,
        worker_concurrency=worker_concurrency,
        global_concurrency=global_concurrency,
        partition_concurrency=partition_concurrency,
        partition_worker_concurrency=partition_worker_concurrency,
        partition_limiter=partition_limiter,
        polling_interval_sec=polling_interval_sec,
        priority_enabled=priority_enabled,
        partition_queue=partition_queue,
    )
    owner = validation.optional_identifier(application_name, "application_name")
    owner = owner or rt.engine.settings.name or None
    stored = await queues.register(rt, name, given, on_conflict, None, owner)
    return registered_queue(stored, rt.engine)


@verb(step_ids=0)
async def retrieve_queue(rt: Runtime, site: Site, name: str) -> Queue | None:
    """A registered queue of any application; None if there is none of this name."""
    stored = await queues.find(rt, name)
    return None if stored is None else registered_queue(stored, rt.engine)


@verb(step_ids=0)
async def list_queues(
    rt: Runtime, site: Site, *, application_name: str | list[str] | None = None
) -> list[Queue]:
    """The registered queues of the client's application and unclaimed ones, by name.

    A client without a name lists all.

    Args:
        application_name: of these applications instead, and unclaimed ones.
    """
    found = await queues.in_scope(rt, application_name, rt.engine.settings.name or None)
    return [registered_queue(stored, rt.engine) for stored in found]


@verb(step_ids=0)
async def delete_queue(rt: Runtime, site: Site, name: str) -> None:
    """Have no process serve a registered queue any more; without effect when unknown."""
    await queues.delete(rt, name)


@verb(step_ids=0)
async def create_schedule(
    rt: Runtime,
    site: Site,
    *,
    schedule_name: str,
    workflow_name: str,
    schedule: str,
    context: Any = None,
    workflow_class_name: str | None = None,
    automatic_backfill: bool = False,
    cron_timezone: str | None = None,
    queue_name: str | None = None,
    application_name: str | None = None,
) -> None:
    """Create a schedule, active at once; durable when this returns.

    As `DBOS.create_schedule`. Workflow and queue are names, and need not be known.

    Raises:
        DBOSException: "Invalid cron schedule", "Invalid timezone", "already exists".
        DBOSSerializationError: the context cannot be stored.
    """
    definition = Definition(
        schedule_name,
        validation.identifier(workflow_name, "workflow_name"),
        schedule,
        context,
        validation.optional_identifier(workflow_class_name, "workflow_class_name"),
        automatic_backfill,
        cron_timezone,
        queue_name,
        validation.optional_identifier(application_name, "application_name"),
    )
    await create(rt, site, definition, needs_queue=False)


@verb(step_ids=0)
async def apply_schedules(
    rt: Runtime, site: Site, schedules: Sequence[ClientScheduleInput]
) -> None:
    """Create or update schedules by name, all or none; durable when this returns.

    An update keeps id, status and last firing. Schedules that are not listed are left alone.

    Raises:
        DBOSException: as `create_schedule`; "missing required field" with the entry's index.
    """
    if isinstance(schedules, str | bytes | Mapping) or not isinstance(schedules, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DBOSInvalidInputError("schedules must be a list of ClientScheduleInput")
    definitions = [_definition(entry, index) for index, entry in enumerate(schedules)]
    await apply(rt, definitions, needs_queue=False)


def _definition(entry: object, index: int) -> Definition:
    if not isinstance(entry, Mapping):
        raise DBOSInvalidInputError(f"schedules[{index}] must be a ClientScheduleInput")
    given = cast("Mapping[str, Any]", entry)
    for required in ("schedule_name", "workflow_name", "schedule"):
        if given.get(required) is None:
            raise DBOSException(f"schedules[{index}] is missing required field '{required}'")
    # An entry of a list may be given back as it is.
    validation.only_keys(
        given,
        ClientScheduleInput.__annotations__,
        f"schedules[{index}]",
        ignored=WorkflowSchedule.__annotations__,
    )
    return Definition(
        given["schedule_name"],
        validation.identifier(given["workflow_name"], "workflow_name"),
        given["schedule"],
        given.get("context"),
        validation.optional_identifier(given.get("workflow_class_name"), "workflow_class_name"),
        given.get("automatic_backfill") or False,
        given.get("cron_timezone"),
        given.get("queue_name"),
        validation.optional_identifier(given.get("application_name"), "application_name"),
    )
