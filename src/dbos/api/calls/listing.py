"""Calls of `DBOS` that look: at workflows, their steps, the processes that run them, versions."""

from __future__ import annotations

from typing import Final

from dbos.api.twins import awaitable, blocking
from dbos.ops import inspection, versions


class ListingCalls:
    """Looking at what the database holds, and at this process."""

    list_workflows: Final = blocking(inspection.list_workflows)
    list_workflows_async: Final = awaitable(inspection.list_workflows)
    list_queued_workflows: Final = blocking(inspection.list_queued_workflows)
    list_queued_workflows_async: Final = awaitable(inspection.list_queued_workflows)
    count_workflows: Final = blocking(inspection.count_workflows)
    count_workflows_async: Final = awaitable(inspection.count_workflows)
    list_workflow_steps: Final = blocking(inspection.list_workflow_steps)
    list_workflow_steps_async: Final = awaitable(inspection.list_workflow_steps)
    list_executors: Final = blocking(inspection.list_executors)
    list_executors_async: Final = awaitable(inspection.list_executors)
    health: Final = blocking(inspection.health)
    health_async: Final = awaitable(inspection.health)
    list_application_versions: Final = blocking(
        versions.list_application_versions, under_a_loop=True
    )
    list_application_versions_async: Final = awaitable(versions.list_application_versions)
    get_latest_application_version: Final = blocking(
        versions.get_latest_application_version, under_a_loop=True
    )
    get_latest_application_version_async: Final = awaitable(versions.get_latest_application_version)
    set_latest_application_version: Final = blocking(
        versions.set_latest_application_version, under_a_loop=True
    )
    set_latest_application_version_async: Final = awaitable(versions.set_latest_application_version)
