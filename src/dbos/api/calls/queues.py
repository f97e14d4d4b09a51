"""Calls of `DBOS` on queues: register, look up, delete, listen, and enqueue by name."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar, overload

from dbos import validation
from dbos.api.enqueueing import place_function, place_options
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.queue import Queue, registered_queue
from dbos.api.slot import SLOT, runtime
from dbos.api.twins import refuse_under_a_loop
from dbos.engine.engine import Runtime
from dbos.errors import DBOSException, DBOSInvalidInputError
from dbos.models import EnqueueOptions, QueueRateLimit
from dbos.ops import queues
from dbos.ops.queue_settings import GivenSettings
from dbos.runtime.drive import drive
from dbos.validation import QueueConflictPolicy

P = ParamSpec("P")
R = TypeVar("R")


class QueueCalls:
    """Queues by their names."""

    @staticmethod
    def register_queue(
        name: str,
        *,
        worker_concurrency: int | None = None,
        global_concurrency: int | None = None,
        partition_concurrency: int | None = None,
        partition_worker_concurrency: int | None = None,
        partition_limiter: QueueRateLimit | None = None,
        limiter: QueueRateLimit | None = None,
        polling_interval_sec: float = 1.0,
        on_conflict: QueueConflictPolicy = "update_if_latest_version",
        concurrency: int | None = None,
        priority_enabled: bool = False,
        partition_queue: bool = False,
    ) -> Queue:
        """Register a queue in the database; durable when this returns, and served at once.

        All processes of the application serve it, and follow its settings. Not a step.

        Args:
            name: unique in the database; not beginning with `_dbos_`.
            on_conflict: what to do with a queue that is registered: `"update_if_latest_version"`
                gives it all of these settings if this version of the application is the latest,
                `"always_update"` in any case, `"never_update"` leaves it.

        The other arguments are those of `Queue`.

        Returns:
            The queue with the settings that are stored.

        Raises:
            DBOSInvalidInputError: a setting is out of range, or contradicts another.
            DBOSException: the name is "already registered by application" another.
            DBOSEventLoopError: called while an event loop is running.
        """
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
        rt = runtime()
        refuse_under_a_loop("register_queue")
        return drive(_register(rt, name, given, on_conflict))

    @staticmethod
    def register_queue_async(
        name: str,
        *,
        worker_concurrency: int | None = None,
        global_concurrency: int | None = None,
        partition_concurrency: int | None = None,
        partition_worker_concurrency: int | None = None,
        partition_limiter: QueueRateLimit | None = None,
        limiter: QueueRateLimit | None = None,
        polling_interval_sec: float = 1.0,
        on_conflict: QueueConflictPolicy = "update_if_latest_version",
        concurrency: int | None = None,
        priority_enabled: bool = False,
        partition_queue: bool = False,
    ) -> Coroutine[Any, Any, Queue]:
        """As `register_queue`, awaited."""
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
        return _register(runtime(is_async=True), name, given, on_conflict)

    @staticmethod
    def retrieve_queue(name: str) -> Queue | None:
        """A registered queue of any application; None if there is none of this name.

        Raises:
            DBOSEventLoopError: called while an event loop is running.
        """
        rt = runtime()
        refuse_under_a_loop("retrieve_queue")
        return drive(_retrieve(rt, name))

    @staticmethod
    def retrieve_queue_async(name: str) -> Coroutine[Any, Any, Queue | None]:
        """As `retrieve_queue`, awaited."""
        return _retrieve(runtime(is_async=True), name)

    @staticmethod
    def list_queues(*, application_name: str | list[str] | None = None) -> list[Queue]:
        """The registered queues of this application and unclaimed ones, by name.

        Args:
            application_name: of these applications instead, and unclaimed ones.

        Raises:
            DBOSEventLoopError: called while an event loop is running.
        """
        rt = runtime()
        refuse_under_a_loop("list_queues")
        return drive(_list(rt, application_name))

    @staticmethod
    def list_queues_async(
        *, application_name: str | list[str] | None = None
    ) -> Coroutine[Any, Any, list[Queue]]:
        """As `list_queues`, awaited."""
        return _list(runtime(is_async=True), application_name)

    @staticmethod
    def delete_queue(name: str) -> None:
        """Have no process serve a registered queue any more; without effect when unknown.

        What is enqueued stays, and runs when the name is served again.

        Raises:
            DBOSEventLoopError: called while an event loop is running.
        """
        rt = runtime()
        refuse_under_a_loop("delete_queue")
        drive(queues.delete(rt, name))

    @staticmethod
    def delete_queue_async(name: str) -> Coroutine[Any, Any, None]:
        """As `delete_queue`, awaited."""
        return queues.delete(runtime(is_async=True), name)

    @staticmethod
    def listen_queues(queues: Sequence[Queue | str]) -> None:
        """Have this process serve only these queues, and its internal ones. Once, before launch.

        Args:
            queues: queues or names, which may be declared or registered later; [] serves none.

        Raises:
            DBOSException: "called after DBOS is launched", or "more than once".
        """
        if isinstance(queues, str | Queue) or not isinstance(queues, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DBOSInvalidInputError(
                "queues must be a list of queues or names: put a single one in a list"
            )
        if SLOT.instance is not None and SLOT.instance.engine is not None:
            raise DBOSException(
                "listen_queues() was called after DBOS is launched: call it before DBOS.launch()."
            )
        if SLOT.registry.listened is not None:
            raise DBOSException(
                "listen_queues() was called more than once: name all queues in one call."
            )
        SLOT.registry.listened = frozenset(
            validation.identifier(queue.name if isinstance(queue, Queue) else queue, "queue name")
            for queue in queues
        )

    @overload
    @staticmethod
    def enqueue_workflow(
        queue_name: str,
        func: Callable[P, Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> WorkflowHandle[R]: ...

    @overload
    @staticmethod
    def enqueue_workflow(
        queue_name: str, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    @staticmethod
    def enqueue_workflow(
        queue_name: str,
        func: Callable[..., Any],
        *args: Any,
        partition_key: str | None,
        **kwargs: Any,
    ) -> WorkflowHandle[Any]: ...

    @staticmethod
    def enqueue_workflow(
        queue_name: str, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> WorkflowHandle[Any]:
        """Enqueue a workflow on a queue by its name; durable when this returns.

        As `Queue.enqueue`. The queue may be declared, registered, or not known yet: the workflow
        runs when a process serves it.
        """
        __tracebackhide__ = True
        return place_function(validation.queue_name(queue_name), func, args, kwargs).now()

    @overload
    @staticmethod
    def enqueue_workflow_async(
        queue_name: str,
        func: Callable[P, Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[R]]: ...

    @overload
    @staticmethod
    def enqueue_workflow_async(
        queue_name: str, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[R]]: ...

    @overload
    @staticmethod
    def enqueue_workflow_async(
        queue_name: str,
        func: Callable[..., Any],
        *args: Any,
        partition_key: str | None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]: ...

    @staticmethod
    def enqueue_workflow_async(
        queue_name: str, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As `enqueue_workflow`, awaited."""
        return place_function(validation.queue_name(queue_name), func, args, kwargs).awaited()

    @staticmethod
    def enqueue_workflow_with_options(
        options: EnqueueOptions, *args: Any, **kwargs: Any
    ) -> WorkflowHandle[Any]:
        """Enqueue a workflow by its name; durable when this returns.

        This process need not know the workflow. Without `app_version`, a process of the latest
        version runs it. What the options leave out is taken from the ambient `with` blocks.

        Raises:
            DBOSInvalidInputError: a required key is missing, or a value is out of range.
            DBOSSerializationError: an argument cannot be stored; nothing was enqueued.
            DBOSQueueDeduplicatedError: the deduplication id is held.
            DBOSWorkflowIDInUseError: the id is in use, and the reuse policy is "reject".
            DBOSConflictingWorkflowError: the id belongs to another workflow.
            DBOSUsageError: called inside a step or transaction.
        """
        __tracebackhide__ = True
        return place_options(options, args, kwargs).now()

    @staticmethod
    def enqueue_workflow_with_options_async(
        options: EnqueueOptions, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As `enqueue_workflow_with_options`, awaited."""
        return place_options(options, args, kwargs).awaited()


async def _register(
    rt: Runtime, name: str, given: GivenSettings, on_conflict: QueueConflictPolicy
) -> Queue:
    engine = rt.engine
    version, application = engine.identity.application_version, engine.settings.name
    stored = await queues.register(rt, name, given, on_conflict, version, application)
    return registered_queue(stored)


async def _retrieve(rt: Runtime, name: str) -> Queue | None:
    stored = await queues.find(rt, name)
    return None if stored is None else registered_queue(stored)


async def _list(rt: Runtime, application_name: object) -> list[Queue]:
    found = await queues.in_scope(rt, application_name, rt.engine.settings.name)
    return [registered_queue(stored) for stored in found]
