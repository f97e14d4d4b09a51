"""Queues as the user holds them: declared in this process, or registered in the database."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar, overload

from dbos.api.enqueueing import Placed, place_function
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.queue_members import (
    Change,
    ChangeAsync,
    Home,
    Housed,
    Read,
    ReadAsync,
    home_of,
    house,
)
from dbos.api.slot import SLOT
from dbos.engine.engine import Engine
from dbos.errors import DBOSException
from dbos.models import QueueRateLimit
from dbos.ops import queue_settings as settings
from dbos.ops.queue_settings import GivenSettings, checked
from dbos.storage.protocol import Topic
from dbos.storage.queues import QueueSettings

P = ParamSpec("P")
R = TypeVar("R")


class Queue(Housed):
    """A queue of workflows, declared in this process: at import, before or after launch.

    Limits hold strictly. Workflows start by priority, then in the order in which they were
    enqueued. Those enqueued under one partition key run one at a time and in order, unless the
    queue has `partition_*` limits.

    Declaring a queue makes it known to this process alone; see `DBOS.register_queue`. The settings
    of a declared queue are fixed. Those of a registered one are read from the database and written
    through, and running workers follow at once.

    Args:
        name: unique in the process; not beginning with `_dbos_`.
        concurrency: older name of `global_concurrency`; under `partition_queue` it holds per key.
        limiter: `{"limit": int, "period": seconds}`, the most starts in any window of that length,
            over all processes; a limit of 0 starts nothing.
        worker_concurrency: most workflows of this queue running at once in this process; 0 pauses.
        global_concurrency: the same over all processes.
        partition_concurrency: the same for each partition key.
        partition_worker_concurrency: the same for each partition key in this process.
        partition_limiter: a limiter for each partition key.
        polling_interval_sec: period of the fallback look, in seconds; not the latency of starts.
        priority_enabled: accepted, without effect: priorities always count.
        partition_queue: older form of a partitioned queue: `concurrency`, `worker_concurrency` and
            `limiter` hold for each key.

    Raises:
        DBOSInvalidInputError: a setting is out of range, or contradicts another.
        DBOSException: the name "has already been declared".
    """

    def __init__(
        self,
        name: str,
        concurrency: int | None = None,
        limiter: QueueRateLimit | None = None,
        *,
        worker_concurrency: int | None = None,
        global_concurrency: int | None = None,
        partition_concurrency: int | None = None,
        partition_worker_concurrency: int | None = None,
        partition_limiter: QueueRateLimit | None = None,
        polling_interval_sec: float = 1.0,
        priority_enabled: bool = False,
        partition_queue: bool = False,
    ) -> None:
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
        settings_now = checked(name, given)
        house(self, Home(settings_now, is_registered=False))
        SLOT.registry.declare_queue(settings_now.limits())
        launched = SLOT.instance and SLOT.instance.engine
        if launched:
            launched.engine.hub.publish((Topic("queue", name),))

    @property
    def application_name(self) -> str | None:
        """The application that owns a registered queue; None if unclaimed, and if declared."""
        return home_of(self).settings.application_name

    concurrency: Final = Read(settings.CONCURRENCY)
    get_concurrency_async: Final = ReadAsync(settings.CONCURRENCY)
    set_concurrency: Final = Change(settings.CONCURRENCY)
    set_concurrency_async: Final = ChangeAsync(settings.CONCURRENCY)

    global_concurrency: Final = Read(settings.GLOBAL_CONCURRENCY)
    get_global_concurrency_async: Final = ReadAsync(settings.GLOBAL_CONCURRENCY)
    set_global_concurrency: Final = Change(settings.GLOBAL_CONCURRENCY)
    set_global_concurrency_async: Final = ChangeAsync(settings.GLOBAL_CONCURRENCY)

    worker_concurrency: Final = Read(settings.WORKER_CONCURRENCY)
    get_worker_concurrency_async: Final = ReadAsync(settings.WORKER_CONCURRENCY)
    set_worker_concurrency: Final = Change(settings.WORKER_CONCURRENCY)
    set_worker_concurrency_async: Final = ChangeAsync(settings.WORKER_CONCURRENCY)

    limiter: Final = Read(settings.LIMITER)
    get_limiter_async: Final = ReadAsync(settings.LIMITER)
    set_limiter: Final = Change(settings.LIMITER)
    set_limiter_async: Final = ChangeAsync(settings.LIMITER)

    partition_concurrency: Final = Read(settings.PARTITION_CONCURRENCY)
    get_partition_concurrency_async: Final = ReadAsync(settings.PARTITION_CONCURRENCY)
    set_partition_concurrency: Final = Change(settings.PARTITION_CONCURRENCY)
    set_partition_concurrency_async: Final = ChangeAsync(settings.PARTITION_CONCURRENCY)

    partition_worker_concurrency: Final = Read(settings.PARTITION_WORKER_CONCURRENCY)
    get_partition_worker_concurrency_async: Final = ReadAsync(settings.PARTITION_WORKER_CONCURRENCY)
    set_partition_worker_concurrency: Final = Change(settings.PARTITION_WORKER_CONCURRENCY)
    set_partition_worker_concurrency_async: Final = ChangeAsync(
        settings.PARTITION_WORKER_CONCURRENCY
    )

    partition_limiter: Final = Read(settings.PARTITION_LIMITER)
    get_partition_limiter_async: Final = ReadAsync(settings.PARTITION_LIMITER)
    set_partition_limiter: Final = Change(settings.PARTITION_LIMITER)
    set_partition_limiter_async: Final = ChangeAsync(settings.PARTITION_LIMITER)

    polling_interval_sec: Final = Read(settings.POLLING_INTERVAL)
    get_polling_interval_sec_async: Final = ReadAsync(settings.POLLING_INTERVAL)
    set_polling_interval_sec: Final = Change(settings.POLLING_INTERVAL)
    set_polling_interval_sec_async: Final = ChangeAsync(settings.POLLING_INTERVAL)

    priority_enabled: Final = Read(settings.PRIORITY_ENABLED)
    get_priority_enabled_async: Final = ReadAsync(settings.PRIORITY_ENABLED)
    set_priority_enabled: Final = Change(settings.PRIORITY_ENABLED)
    set_priority_enabled_async: Final = ChangeAsync(settings.PRIORITY_ENABLED)

    partition_queue: Final = Read(settings.PARTITION_QUEUE)
    get_partition_queue_async: Final = ReadAsync(settings.PARTITION_QUEUE)
    set_partition_queue: Final = Change(settings.PARTITION_QUEUE)
    set_partition_queue_async: Final = ChangeAsync(settings.PARTITION_QUEUE)

    @overload
    def enqueue(
        self, func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    def enqueue(
        self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    def enqueue(
        self, func: Callable[..., Any], *args: Any, partition_key: str | None, **kwargs: Any
    ) -> WorkflowHandle[Any]: ...

    def enqueue(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Enqueue a workflow, step or transaction; durable when this returns.

        In workflow code this is one recorded step, and the enqueued workflow a child. An id that
        exists already is followed, whatever became of it. `partition_key=` is an option, unless the
        function takes an argument of that name.

        Raises:
            DBOSWorkflowFunctionNotFoundError: the function is not decorated.
            DBOSSerializationError: an argument cannot be stored; nothing was enqueued.
            DBOSQueueDeduplicatedError: the deduplication id is held.
            DBOSConflictingWorkflowError: the id belongs to another function.
            DBOSException: "without a partition key", on a partitioned queue; "client-bound".
            DBOSUsageError: called inside a step or transaction.
        """
        __tracebackhide__ = True
        return self._place(func, args, kwargs).now()

    @overload
    def enqueue_async(
        self, func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[R]]: ...

    @overload
    def enqueue_async(
        self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[R]]: ...

    @overload
    def enqueue_async(
        self, func: Callable[..., Any], *args: Any, partition_key: str | None, **kwargs: Any
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]: ...

    def enqueue_async(
        self, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As `enqueue`, awaited."""
        return self._place(func, args, kwargs).awaited()

    def _place(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Placed:
        if home_of(self).client is not None:
            raise DBOSException(
                f"Queue {self.name} is client-bound, and a client knows no functions: use "
                "DBOSClient.enqueue with the name of the workflow."
            )
        return place_function(self.name, func, args, kwargs, through_queue=True)

    def __repr__(self) -> str:
        return f"Queue(name={self.name!r})"


def registered_queue(stored: QueueSettings, client: Engine | None = None) -> Queue:
    """A queue that is kept in the database; of a client, if one looked it up."""
    queue = Queue.__new__(Queue)
    house(queue, Home(stored, is_registered=True, client=client))
    return queue
