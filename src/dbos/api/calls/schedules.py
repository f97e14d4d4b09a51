"""Calls of `DBOS` that concern schedules: the decorator, and stored schedules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, ParamSpec, TypeVar

from dbos import cron, validation
from dbos.api.handles import SyncHandle, WorkflowHandle
from dbos.api.slot import SLOT, runtime
from dbos.api.twins import awaitable, blocking
from dbos.engine.registry import registration_of
from dbos.engine.site import here
from dbos.errors import DBOSInvalidInputError
from dbos.ops import schedules
from dbos.runtime.drive import drive
from dbos.storage.protocol import Topic

P = ParamSpec("P")
R = TypeVar("R")


class ScheduleCalls:
    """Work that starts by the clock."""

    @staticmethod
    def scheduled(cron: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Run a function at the ticks of a cron expression, in UTC, once over all processes.

        Stands above `@DBOS.workflow()`, `@DBOS.step()` or `@DBOS.transaction()`. The function takes
        `(scheduled_time, actual_time)`, both aware and in UTC. It starts at launch, or at once if
        DBOS is launched. An exception affects only its own run.

        Raises:
            DBOSInvalidInputError: "Invalid crontab", or the function is not decorated.
        """
        validation.parentheses(cron, '@DBOS.scheduled("0 2 * * *")')
        expression = validation.label(cron, "cron")
        _check(expression)

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            registration = registration_of(function)
            if registration is None:
                raise DBOSInvalidInputError(
                    "@DBOS.scheduled needs a decorated function: put it above @DBOS.workflow()"
                )
            SLOT.registry.scheduled[registration.name] = expression
            instance = SLOT.instance
            if instance is not None and instance.engine is not None:
                hub = instance.engine.engine.hub
                hub.publish([Topic("schedule", registration.name)])
            return function

        return decorate

    create_schedule: Final = blocking(schedules.create_schedule, under_a_loop=True)
    create_schedule_async: Final = awaitable(schedules.create_schedule)
    apply_schedules: Final = blocking(schedules.apply_schedules, under_a_loop=True)
    apply_schedules_async: Final = awaitable(schedules.apply_schedules)
    list_schedules: Final = blocking(schedules.list_schedules, under_a_loop=True)
    list_schedules_async: Final = awaitable(schedules.list_schedules)
    get_schedule: Final = blocking(schedules.get_schedule, under_a_loop=True)
    get_schedule_async: Final = awaitable(schedules.get_schedule)
    delete_schedule: Final = blocking(schedules.delete_schedule, under_a_loop=True)
    delete_schedule_async: Final = awaitable(schedules.delete_schedule)
    pause_schedule: Final = blocking(schedules.pause_schedule, under_a_loop=True)
    resume_schedule: Final = blocking(schedules.resume_schedule, under_a_loop=True)

    @staticmethod
    def backfill_schedule(
        schedule_name: str, start: datetime, end: datetime
    ) -> list[WorkflowHandle[Any]]:
        """Start a run for every tick strictly between two moments; durable when this returns.

        The ids are those of live ticks: a tick that has run is not run again, and its handle is
        among those returned. Naive datetimes are UTC.

        Raises:
            DBOSException: the schedule "does not exist", or called from workflow code. A step may
                call this, unrecorded.
        """
        made = drive(schedules.backfill(runtime(), here(0), schedule_name, start, end))
        return [SyncHandle(workflow_id) for workflow_id in made]

    @staticmethod
    def trigger_schedule(schedule_name: str) -> WorkflowHandle[Any]:
        """Start one run of a schedule at once, paused or not; durable when this returns.

        Raises:
            DBOSException: the schedule "does not exist", or called from workflow code. A step may
                call this, unrecorded.
        """
        return SyncHandle(drive(schedules.trigger(runtime(), here(0), schedule_name)))


def _check(expression: str) -> None:
    try:
        checked = cron.parse(expression, None, "")
    except cron.BadCron as error:
        raise DBOSInvalidInputError(
            f"Invalid crontab {validation.shown(expression)}: {error}"
        ) from None
    if not cron.has_a_date(checked, datetime.now(UTC)):
        raise DBOSInvalidInputError(
            f"Invalid crontab {validation.shown(expression)}: it has no future date"
        )
