"""Calls of `DBOS` that steer workflows: cancel, resume, delete, delay, attributes, retention."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final

from dbos import validation
from dbos.api.handles import AsyncHandle, SyncHandle, WorkflowHandle, WorkflowHandleAsync
from dbos.api.slot import around
from dbos.api.twins import awaitable, blocking, refuse_under_a_loop
from dbos.engine.site import here
from dbos.ops import management, retention
from dbos.runtime.drive import drive


class CommandCalls:
    """Steering workflows by their ids."""

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

    @staticmethod
    def resume_workflow(workflow_id: str, *, queue_name: str | None = None) -> WorkflowHandle[Any]:
        """Queue a stopped workflow again with a fresh attempt budget; durable when this returns.

        Recorded steps are replayed and not run again. A finished workflow, and one that a live
        process is running, are left as they are. Deadline and deduplication id are dropped.

        Args:
            queue_name: where to queue it; default: the internal queue.

        Raises:
            DBOSNonExistentWorkflowError: there is no such workflow; nothing changed.
        """
        refuse_under_a_loop("resume_workflow")
        drive(management.resume(around().blocking, here(1), [workflow_id], queue_name))
        return SyncHandle(workflow_id)

    @staticmethod
    def resume_workflow_async(
        workflow_id: str, *, queue_name: str | None = None
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As `resume_workflow`, awaited."""
        engine, site = around(), here(1)

        async def resume() -> WorkflowHandleAsync[Any]:
            await management.resume(engine.aio, site, [workflow_id], queue_name)
            return AsyncHandle(workflow_id)

        return resume()

    @staticmethod
    def resume_workflows(
        workflow_ids: Sequence[str], *, queue_name: str | None = None
    ) -> list[WorkflowHandle[Any]]:
        """As `resume_workflow`, for all or none: one unknown id, and nothing changes."""
        refuse_under_a_loop("resume_workflows")
        engine, site = around(), here(1)
        checked = validation.workflow_ids(workflow_ids)
        drive(management.resume(engine.blocking, site, checked, queue_name))
        return [SyncHandle(workflow_id) for workflow_id in checked]

    @staticmethod
    def resume_workflows_async(
        workflow_ids: Sequence[str], *, queue_name: str | None = None
    ) -> Coroutine[Any, Any, list[WorkflowHandleAsync[Any]]]:
        """As `resume_workflows`, awaited."""
        engine, site = around(), here(1)

        async def resume() -> list[WorkflowHandleAsync[Any]]:
            checked = validation.workflow_ids(workflow_ids)
            await management.resume(engine.aio, site, checked, queue_name)
            return [AsyncHandle(workflow_id) for workflow_id in checked]

        return resume()
