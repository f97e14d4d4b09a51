"""Debouncers: calls for one key, close together, become one run with the last arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Generic, ParamSpec, TypeVar

from dbos import validation
from dbos.api.client import DBOSClient
from dbos.api.client_handles import ClientHandle, ClientHandleAsync
from dbos.api.enqueueing import client_request, given_options, place_by_name
from dbos.api.handles import AsyncHandle, SyncHandle, WorkflowHandle, WorkflowHandleAsync
from dbos.api.queue import Queue
from dbos.api.slot import around, runtime
from dbos.engine.context import EnqueueSettings, Options, current_scope
from dbos.engine.engine import Engine
from dbos.engine.registry import Registration, registration_of
from dbos.engine.site import NOWHERE, Site
from dbos.errors import DBOSException, DBOSTypeError, DBOSWorkflowFunctionNotFoundError
from dbos.models import EnqueueOptions
from dbos.ops.debounce import debounce, partitioned
from dbos.ops.enqueue import EnqueueRequest
from dbos.runtime.drive import drive
from dbos.storage.recovery import INTERNAL_QUEUE
from dbos.validation import shown

P = ParamSpec("P")
R = TypeVar("R")

REFUSED = ("deduplication_id", "delay_seconds", "priority", "queue_partition_key")
REUSE_REFUSED = "workflow_id_reuse_policy 'reject'"


class Debouncer(Generic[P, R]):
    """Delays a workflow until its calls for a key have paused, and runs it once.

    Args:
        workflow_name: the registered name of the workflow.
        debounce_timeout_sec: seconds after the first call by which it runs in any case.
        queue: a `Queue` or its name; default: the internal queue.
        application_name: whose workflow it is; default: this application's.
    """

    def __init__(
        self,
        workflow_name: str,
        *,
        debounce_timeout_sec: float | None = None,
        queue: Queue | str | None = None,
        application_name: str | None = None,
    ) -> None:
        self._workflow_name = workflow_name
        self._timeout_ms = _timeout_ms(debounce_timeout_sec)
        self._queue = queue
        self._application_name = application_name

    @staticmethod
    def create(
        workflow: Callable[P, R],
        *,
        debounce_timeout_sec: float | None = None,
        queue: Queue | str | None = None,
        application_name: str | None = None,
    ) -> Debouncer[P, R]:
        """A debouncer of a decorated workflow.

        Raises:
            DBOSTypeError: the workflow is a method; "not methods".
            DBOSWorkflowFunctionNotFoundError: the function is not decorated.
        """
        return Debouncer(
            _name_of(workflow),
            debounce_timeout_sec=debounce_timeout_sec,
            queue=queue,
            application_name=application_name,
        )

    @staticmethod
    def create_async(
        async_workflow: Callable[P, Coroutine[Any, Any, R]],
        *,
        debounce_timeout_sec: float | None = None,
        queue: Queue | str | None = None,
        application_name: str | None = None,
    ) -> Debouncer[P, R]:
        """As `create`, for an async workflow."""
        return Debouncer(
            _name_of(async_workflow),
            debounce_timeout_sec=debounce_timeout_sec,
            queue=queue,
            application_name=application_name,
        )

    def debounce(
        self, debounce_key: str, debounce_period_sec: float, *args: Any, **kwargs: Any
    ) -> WorkflowHandle[R]:
        """Run the workflow when its calls for this key have paused; durable when this returns.

        The arguments of the last call count. If they lack the workflow's first argument, the key is
        passed for it. In workflow code one recorded step, and a second one for a new run.

        Args:
            debounce_key: what belongs together.
            debounce_period_sec: the pause in seconds.

        Raises:
            DBOSException: the workflow is not registered here, nobody knows the queue or it is
                partitioned, or enqueue options are set that a debounced run cannot have.
            DBOSQueueDeduplicatedError: something else holds the key on this queue.
        """
        __tracebackhide__ = True
        site, request, period_ms = self._placed(debounce_key, debounce_period_sec, args, kwargs)
        made = drive(debounce(runtime(), site, request, period_ms, self._timeout_ms))
        return SyncHandle(made)

    def debounce_async(
        self, debounce_key: str, debounce_period_sec: float, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[R]]:
        """As `debounce`, awaited."""
        site, request, period_ms = self._placed(debounce_key, debounce_period_sec, args, kwargs)
        rt = runtime(is_async=True)

        async def debounced() -> WorkflowHandleAsync[R]:
            return AsyncHandle(await debounce(rt, site, request, period_ms, self._timeout_ms))

        return debounced()

    def _placed(
        self, key: str, period_s: float, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Site, EnqueueRequest, int]:
        """Everything that the call asks for, fixed at its moment."""
        name = self._workflow_name
        if not isinstance(name, str) or not name.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DBOSException("Invalid workflow name provided to debouncer: give its name as str")
        queue, registry = _queue_name(self._queue), around("Executor").registry
        target, declared = registry.find(name), registry.queues.get(queue)
        if target is None:
            raise DBOSException(
                f"Invalid workflow name provided to debouncer: {shown(name)} is not registered in "
                "this process; register it, or use a DebouncerClient."
            )
        if declared is not None and declared.is_partitioned:
            raise partitioned(queue)
        _refuse_ambient(current_scope().options)
        period_ms = _period_ms(period_s)
        args = _with_key(target, validation.identifier(key, "debounce_key"), args, kwargs)
        placed = place_by_name(name, queue, args, kwargs, self._application_name)
        request = replace(
            placed.request,
            deduplication_id=f"{name}-{key}",
            # A debounced run is nobody's child in time: it outlives whoever asked for it.
            deadline_ms=None,
            must_know_queue=True,
        )
        return placed.site, request, period_ms


class DebouncerClient:
    """A debouncer without an application in the process: through a client, by name.

    Args:
        client: reaches the database.
        workflow_options: the workflow, as for `DBOSClient.enqueue`.
        debounce_timeout_sec: seconds after the first call by which it runs in any case.
        queue: a `Queue` or its name; default: the `queue_name` of the options.
        application_name: whose workflow it is; default: that of the options or the client.
    """

    def __init__(
        self,
        client: DBOSClient,
        workflow_options: EnqueueOptions,
        *,
        debounce_timeout_sec: float | None = None,
        queue: Queue | str | None = None,
        application_name: str | None = None,
    ) -> None:
        self._client = client
        self._options = workflow_options
        self._timeout_ms = _timeout_ms(debounce_timeout_sec)
        self._queue = queue
        self._application_name = application_name

    def debounce(
        self, debounce_key: str, debounce_period_sec: float, *args: Any, **kwargs: Any
    ) -> WorkflowHandle[Any]:
        """As `Debouncer.debounce`; the key is never passed to the workflow."""
        __tracebackhide__ = True
        period_ms = _period_ms(debounce_period_sec)
        made = self._client.now(
            "debounce",
            lambda rt: debounce(
                rt,
                NOWHERE,
                self._request(rt.engine, debounce_key, args, kwargs),
                period_ms,
                self._timeout_ms,
            ),
        )
        return ClientHandle(self._client, made)

    def debounce_async(
        self, debounce_key: str, debounce_period_sec: float, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As `debounce`, awaited."""
        period_ms = _period_ms(debounce_period_sec)

        async def debounced() -> WorkflowHandleAsync[Any]:
            made = await self._client.later(
                lambda rt: debounce(
                    rt,
                    NOWHERE,
                    self._request(rt.engine, debounce_key, args, kwargs),
                    period_ms,
                    self._timeout_ms,
                )
            )
            return ClientHandleAsync(self._client, made)

        return debounced()

    def _request(
        self, engine: Engine, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> EnqueueRequest:
        options: Any = dict(self._options)
        if self._queue is not None:
            options["queue_name"] = _queue_name(self._queue)
        if self._application_name is not None:
            options["application_name"] = self._application_name
        given = given_options(options)
        refused = [name for name in REFUSED if name in given]
        if given.get("workflow_id_reuse_policy") == "reject":
            refused.append(REUSE_REFUSED)
        _refuse_what_cannot_be_debounced(refused, given.get("duplication_policy"))
        request = client_request(engine, options, args, kwargs)
        name = validation.identifier(key, "debounce_key")
        return replace(request, deduplication_id=f"{request.workflow_name}-{name}")


def _refuse_ambient(options: Options) -> None:
    settings = options.enqueue or EnqueueSettings()
    given = [
        name
        for name, value in (
            ("deduplication_id", settings.deduplication_id),
            ("delay_seconds", settings.delay_until_ms),
            ("priority", settings.priority),
            ("queue_partition_key", settings.queue_partition_key),
        )
        if value is not None
    ]
    if options.armed_id is not None and options.armed_id.reuse == "reject":
        given.append(REUSE_REFUSED)
    _refuse_what_cannot_be_debounced(given, settings.duplication_policy)


def _refuse_what_cannot_be_debounced(given: list[str], duplication_policy: str | None) -> None:
    """A debounced run has a key and a delay of its own, and no place in a line."""
    if duplication_policy == "return-existing":
        given = [*given, "duplication_policy 'return-existing'"]
    if given:
        raise DBOSException(
            f"Cannot debounce a workflow with {' and '.join(given)}: leave that out, or enqueue it "
            "without a debouncer"
        )


def _name_of(workflow: Callable[..., Any]) -> str:
    target = registration_of(workflow)
    if inspect.ismethod(workflow) or (target is not None and target.is_in_class):
        raise DBOSTypeError("Debouncers take functions, not methods: debounce a function instead")
    if target is None:
        name = getattr(workflow, "__qualname__", type(workflow).__qualname__)
        raise DBOSWorkflowFunctionNotFoundError(
            "not debounced", f"{name} is not registered: decorate it with @DBOS.workflow() first"
        )
    return target.run_name


def _queue_name(queue: Queue | str | None) -> str:
    if queue is None:
        return INTERNAL_QUEUE
    if isinstance(queue, Queue):
        return queue.name
    if not isinstance(queue, str) or not queue.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DBOSException("Invalid queue name provided to debouncer: give a Queue or its name")
    return validation.queue_name(queue)


def _timeout_ms(seconds: float | None) -> int | None:
    if seconds is None:
        return None
    return round(validation.duration(seconds, "debounce_timeout_sec") * 1000)


def _period_ms(seconds: float) -> int:
    return round(validation.duration(seconds, "debounce_period_sec") * 1000)


def _with_key(
    target: Registration, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, ...]:
    """The arguments, with the key in front if only then they fit the workflow."""
    signature = inspect.signature(target.function)
    if _binds(signature, args, kwargs) or not _binds(signature, (key, *args), kwargs):
        return args
    return (key, *args)


def _binds(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True
