"""Calls of a client that steer workflows, and those that look at them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from dbos import validation
from dbos.api.client_handles import ClientHandle, ClientHandleAsync
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.outside import OutsideCaller
from dbos.api.twins import awaitable, blocking
from dbos.engine.context import current_scope
from dbos.engine.engine import Runtime
from dbos.engine.site import NOWHERE
from dbos.ops import forks, inspection, management, renaming, retention, versions
from dbos.ops.forks import ForkCall, Placement


class ClientCommands(OutsideCaller):
    """Steering and listing workflows by their ids, through a client."""

    cancel_workflow: Final = blocking(management.cancel_workflow)
    cancel_workflow_async: Final = awaitable(management.cancel_workflow)
    cancel_workflows: Final = blocking(management.cancel_workflows)
    cancel_workflows_async: Final = awaitable(management.cancel_workflows)
    delete_workflow: Final = blocking(management.delete_workflow)
    delete_workflow_async: Final = awaitable(management.delete_workflow)
    delete_workflows: Final = blocking(management.delete_workflows)
    delete_workflows_async: Final = awaitable(management.delete_workflows)
    set_workflow_delay: Final = blocking(management.set_workflow_delay)
    set_workflow_delay_async: Final = awaitable(management.set_workflow_delay)
    update_workflow_attributes: Final = blocking(management.update_workflow_attributes)
    update_workflow_attributes_async: Final = awaitable(management.update_workflow_attributes)
    garbage_collect: Final = blocking(retention.garbage_collect)
    garbage_collect_async: Final = awaitable(retention.garbage_collect)
    global_timeout: Final = blocking(retention.global_timeout)
    global_timeout_async: Final = awaitable(retention.global_timeout)
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
    list_application_versions: Final = blocking(versions.list_application_versions)
    list_application_versions_async: Final = awaitable(versions.list_application_versions)
    get_latest_application_version: Final = blocking(versions.get_latest_application_version)
    get_latest_application_version_async: Final = awaitable(versions.get_latest_application_version)
    set_latest_application_version: Final = blocking(versions.set_latest_application_version)
    set_latest_application_version_async: Final = awaitable(versions.set_latest_application_version)

    rename_application: Final = blocking(renaming.rename_application)
    rename_application_async: Final = awaitable(renaming.rename_application)

    def resume_workflow(
        self, workflow_id: str, *, queue_name: str | None = None
    ) -> WorkflowHandle[Any]:
        """As `DBOS.resume_workflow`."""
        return self.resume_workflows([workflow_id], queue_name=queue_name)[0]

    def resume_workflow_async(
        self, workflow_id: str, *, queue_name: str | None = None
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As `DBOS.resume_workflow`, awaited."""

        async def resume(rt: Runtime) -> WorkflowHandleAsync[Any]:
            await management.resume(rt, NOWHERE, [workflow_id], queue_name)
            return ClientHandleAsync(self, workflow_id)

        return self.later(resume)

    def resume_workflows(
        self, workflow_ids: Sequence[str], *, queue_name: str | None = None
    ) -> list[WorkflowHandle[Any]]:
        """As `DBOS.resume_workflows`."""
        checked = validation.workflow_ids(workflow_ids)
        self.now("resume_workflows", lambda rt: management.resume(rt, NOWHERE, checked, queue_name))
        return [ClientHandle(self, workflow_id) for workflow_id in checked]

    def resume_workflows_async(
        self, workflow_ids: Sequence[str], *, queue_name: str | None = None
    ) -> Coroutine[Any, Any, list[WorkflowHandleAsync[Any]]]:
        """As `DBOS.resume_workflows`, awaited."""

        async def resume(rt: Runtime) -> list[WorkflowHandleAsync[Any]]:
            checked = validation.workflow_ids(workflow_ids)
            await management.resume(rt, NOWHERE, checked, queue_name)
            return [ClientHandleAsync(self, workflow_id) for workflow_id in checked]

        return self.later(resume)

    def fork_workflow(
        self,
        workflow_id: str,
        start_step: int,
        *,
        application_version: str | None = None,
        queue_name: str | None = None,
        queue_partition_key: str | None = None,
        replacement_children: dict[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> WorkflowHandle[Any]:
        """As `DBOS.fork_workflow`; the id of the fork is that of a `with SetWorkflowID` block."""
        placement = Placement(application_version, queue_name, queue_partition_key)
        fork = _fork(workflow_id, start_step, placement, replacement_children, timeout_seconds)
        return ClientHandle(self, self.now("fork_workflow", fork))

    def fork_workflow_async(
        self,
        workflow_id: str,
        start_step: int,
        *,
        application_version: str | None = None,
        queue_name: str | None = None,
        queue_partition_key: str | None = None,
        replacement_children: dict[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As `fork_workflow`, awaited."""
        placement = Placement(application_version, queue_name, queue_partition_key)
        fork = _fork(workflow_id, start_step, placement, replacement_children, timeout_seconds)

        async def forked(rt: Runtime) -> WorkflowHandleAsync[Any]:
            return ClientHandleAsync(self, await fork(rt))

        return self.later(forked)

    def rewind_workflow(
        self,
        workflow_id: str,
        *,
        start_step: int | None = None,
        application_version: str | None = None,
        queue_name: str | None = None,
        queue_partition_key: str | None = None,
    ) -> WorkflowHandle[Any]:
        """As `DBOS.rewind_workflow`."""
        placement = Placement(application_version, queue_name, queue_partition_key)
        self.now(
            "rewind_workflow",
            lambda rt: forks.rewind(rt, NOWHERE, workflow_id, start_step, placement),
        )
        return ClientHandle(self, workflow_id)

    def rewind_workflow_async(
        self,
        workflow_id: str,
        *,
        start_step: int | None = None,
        application_version: str | None = None,
        queue_name: str | None = None,
        queue_partition_key: str | None = None,
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As `DBOS.rewind_workflow`, awaited."""
        placement = Placement(application_version, queue_name, queue_partition_key)

        async def rewind(rt: Runtime) -> WorkflowHandleAsync[Any]:
            await forks.rewind(rt, NOWHERE, workflow_id, start_step, placement)
            return ClientHandleAsync(self, workflow_id)

        return self.later(rewind)


def _fork(
    workflow_id: str,
    start_step: int,
    placement: Placement,
    replacement_children: dict[str, str] | None,
    timeout_s: float | None,
) -> Callable[[Runtime], Coroutine[Any, Any, str]]:
    armed = forks.take_armed_id(current_scope())
    call = ForkCall(workflow_id, start_step, placement, replacement_children, timeout_s, armed)
    return lambda rt: forks.fork(rt, NOWHERE, call)
