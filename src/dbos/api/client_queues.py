"""Calls of a client on queues and schedules: stored ones, by name."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from dbos.api import client_verbs
from dbos.api.client_handles import ClientHandle
from dbos.api.handles import WorkflowHandle
from dbos.api.outside import OutsideCaller
from dbos.api.twins import awaitable, blocking
from dbos.engine.site import NOWHERE
from dbos.ops import schedules


class ClientQueues(OutsideCaller):
    """Queues and schedules in the database, through a client."""

    register_queue: Final = blocking(client_verbs.register_queue)
    register_queue_async: Final = awaitable(client_verbs.register_queue)
    retrieve_queue: Final = blocking(client_verbs.retrieve_queue)
    retrieve_queue_async: Final = awaitable(client_verbs.retrieve_queue)
    list_queues: Final = blocking(client_verbs.list_queues)
    list_queues_async: Final = awaitable(client_verbs.list_queues)
    delete_queue: Final = blocking(client_verbs.delete_queue)
    delete_queue_async: Final = awaitable(client_verbs.delete_queue)
    create_schedule: Final = blocking(client_verbs.create_schedule)
    create_schedule_async: Final = awaitable(client_verbs.create_schedule)
    apply_schedules: Final = blocking(client_verbs.apply_schedules)
    apply_schedules_async: Final = awaitable(client_verbs.apply_schedules)
    list_schedules: Final = blocking(schedules.list_schedules)
    list_schedules_async: Final = awaitable(schedules.list_schedules)
    get_schedule: Final = blocking(schedules.get_schedule)
    get_schedule_async: Final = awaitable(schedules.get_schedule)
    delete_schedule: Final = blocking(schedules.delete_schedule)
    delete_schedule_async: Final = awaitable(schedules.delete_schedule)
    pause_schedule: Final = blocking(schedules.pause_schedule)
    resume_schedule: Final = blocking(schedules.resume_schedule)

    def backfill_schedule(
        self, schedule_name: str, start: datetime, end: datetime
    ) -> list[WorkflowHandle[Any]]:
        """As `DBOS.backfill_schedule`."""
        made = self.now(
            "backfill_schedule",
            lambda rt: schedules.backfill(rt, NOWHERE, schedule_name, start, end),
        )
        return [ClientHandle(self, workflow_id) for workflow_id in made]

    def trigger_schedule(self, schedule_name: str) -> WorkflowHandle[Any]:
        """As `DBOS.trigger_schedule`."""
        made = self.now(
            "trigger_schedule", lambda rt: schedules.trigger(rt, NOWHERE, schedule_name)
        )
        return ClientHandle(self, made)
