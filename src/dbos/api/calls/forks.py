"""Calls of `DBOS` that run a workflow again from a step, under a new id or under its own."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from dbos.api.handles import AsyncHandle, SyncHandle, WorkflowHandle, WorkflowHandleAsync
from dbos.api.slot import around
from dbos.api.twins import refuse_under_a_loop
from dbos.engine.site import here
from dbos.ops import forks
from dbos.ops.forks import ForkCall, Placement
from dbos.runtime.drive import drive


class ForkCalls:
    """Running a workflow again from one of its steps."""

    @staticmethod
    def fork_workflow(
        workflow_id: str,
        start_step: int,
        *,
        application_version: str | None = None,
        queue_name: str | None = None,
        queue_partition_key: str | None = None,
        replacement_children: dict[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> WorkflowHandle[Any]:
        """Start a new workflow with the history of another one below a step; durable on return.

        Its id is that of a `with SetWorkflowID` block, or generated. It has the inputs, user,
        roles and attributes of the original, which stays as it is. Copied with the steps are the
        events and stream entries that they wrote, but no messages. An id that already is a fork of
        the same workflow is returned as it stands.

        Args:
            workflow_id: the original, in whatever status.
            start_step: the first step to run anew. 0 and 1 copy none; beyond the history, all.
            application_version: the version that is to run it; default: the latest.
            queue_name: where to queue it; default: the internal queue.
            queue_partition_key: its partition, on a queue with partitions.
            replacement_children: new child ids for old ones in the copied steps.
            timeout_seconds: counted from the moment it begins to run.

        Raises:
            DBOSNonExistentWorkflowError: there is no such workflow.
            DBOSConflictingWorkflowError: the id of the fork belongs to another workflow.
            DBOSInvalidInputError: an argument is not valid.
        """
        refuse_under_a_loop("fork_workflow")
        placement = Placement(application_version, queue_name, queue_partition_key)
        engine, site = around(), here(2)
        call = ForkCall(
            workflow_id,
            start_step,
            placement,
            replacement_children,
            timeout_seconds,
            forks.take_armed_id(site.scope),
        )
        return SyncHandle(drive(forks.fork(engine.blocking, site, call)))

    @staticmethod
    def fork_workflow_async(
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
        engine, site = around(), here(2)
        call = ForkCall(
            workflow_id,
            start_step,
            placement,
            replacement_children,
            timeout_seconds,
            forks.take_armed_id(site.scope),
        )

        async def fork() -> WorkflowHandleAsync[Any]:
            return AsyncHandle(await forks.fork(engine.aio, site, call))

        return fork()

    @staticmethod
    def rewind_workflow(
        workflow_id: str,
        *,
        start_step: int | None = None,
        application_version: str | None = None,
        queue_name: str | None = None,
        queue_partition_key: str | None = None,
    ) -> WorkflowHandle[Any]:
        """Run a workflow that has ended again under its id, from a step; durable on return.

        Steps from there on are taken back, with the events and stream entries they wrote and the
        messages they received.

        Args:
            start_step: the first step to run anew; default: the first of all.
            application_version: the version that is to run it; default: the latest.
            queue_name: where to queue it; default: the internal queue.
            queue_partition_key: its partition, on a queue with partitions.

        Raises:
            DBOSNonExistentWorkflowError: there is no such workflow.
            DBOSException: it is active.
            DBOSInvalidInputError: an argument is not valid.
        """
        refuse_under_a_loop("rewind_workflow")
        placement = Placement(application_version, queue_name, queue_partition_key)
        site = here(1)
        drive(forks.rewind(around().blocking, site, workflow_id, start_step, placement))
        return SyncHandle(workflow_id)

    @staticmethod
    def rewind_workflow_async(
        workflow_id: str,
        *,
        start_step: int | None = None,
        application_version: str | None = None,
        queue_name: str | None = None,
        queue_partition_key: str | None = None,
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As `rewind_workflow`, awaited."""
        placement = Placement(application_version, queue_name, queue_partition_key)
        engine, site = around(), here(1)

        async def rewind() -> WorkflowHandleAsync[Any]:
            await forks.rewind(engine.aio, site, workflow_id, start_step, placement)
            return AsyncHandle(workflow_id)

        return rewind()
