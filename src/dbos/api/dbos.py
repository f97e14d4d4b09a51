"""The facade: one `DBOS` per process, over the default engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, ParamSpec, TypeVar, cast, overload

from dbos import validation
from dbos.api import decorators, facade, lifetime, migration, starting, waiting
from dbos.api.calls.classes import ClassCalls
from dbos.api.calls.commands import CommandCalls
from dbos.api.calls.forks import ForkCalls
from dbos.api.calls.listing import ListingCalls
from dbos.api.calls.patches import PatchCalls
from dbos.api.calls.queues import QueueCalls
from dbos.api.calls.schedules import ScheduleCalls
from dbos.api.calls.transactions import TransactionCalls
from dbos.api.facade import ClassProperty
from dbos.api.handles import AsyncHandle, SyncHandle, WorkflowHandle, WorkflowHandleAsync
from dbos.api.slot import around
from dbos.api.twins import awaitable, blocking, refuse_under_a_loop
from dbos.config import DBOSConfig
from dbos.engine.site import here
from dbos.models import StepOptions
from dbos.ops import events, messaging, results, streams
from dbos.ops.sleep import sleep as durable_sleep
from dbos.runtime.drive import drive

if TYPE_CHECKING:
    from fastapi import FastAPI
    from flask import Flask

P = ParamSpec("P")
R = TypeVar("R")


class DBOS(
    ClassCalls,
    CommandCalls,
    ForkCalls,
    ListingCalls,
    PatchCalls,
    QueueCalls,
    ScheduleCalls,
    TransactionCalls,
):
    """Durable workflows for this process.

    Construct it once with a configuration, decorate functions, then call `DBOS.launch()`. While an
    instance exists, constructing again returns it and ignores the arguments.

    Args:
        config: see `DBOSConfig`; checked here, not at launch.
        fastapi: an application to integrate with: `DBOS` is launched and destroyed with it, the
            header dbos-idempotency-key is the id of the first workflow that a handler calls, and
            a `DBOSException` is answered as JSON. Not started yet.
        flask: an application to integrate with: the same header; launch and destroy yourself.
        conductor_url: accepted, without effect.
        conductor_key: accepted, without effect.

    Raises:
        DBOSInitializationError: a value of the configuration cannot be used.
    """

    def __new__(
        cls,
        *,
        config: DBOSConfig,
        fastapi: FastAPI | None = None,
        flask: Flask | None = None,
        conductor_url: str | None = None,
        conductor_key: str | None = None,
    ) -> DBOS:
        if isinstance(config, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            conductor = {"conductor_url": conductor_url, "conductor_key": conductor_key}
            given = {key: value for key, value in conductor.items() if value is not None}
            config = cast("DBOSConfig", {**config, **given})
        facade_instance = lifetime.create(
            config, lambda: super(DBOS, cls).__new__(cls), {"fastapi": fastapi, "flask": flask}
        )
        assert isinstance(facade_instance, DBOS)
        return facade_instance

    logger: ClassVar[logging.Logger] = logging.getLogger("dbos")
    """The logger of the library."""

    launch: Final = staticmethod(lifetime.launch)
    destroy: Final = staticmethod(lifetime.destroy)
    alert_handler: Final = staticmethod(lifetime.alert_handler)
    migrate: Final = staticmethod(migration.migrate)
    reset_system_database: Final = staticmethod(lifetime.reset_system_database)

    application_version: ClassProperty[str] = ClassProperty(lifetime.application_version)
    executor_id: ClassProperty[str] = ClassProperty(lifetime.executor_id)
    incarnation_id: ClassProperty[str | None] = ClassProperty(lifetime.incarnation_id)
    workflow_id: ClassProperty[str | None] = ClassProperty(facade.workflow_id)
    step_id: ClassProperty[int | None] = ClassProperty(facade.step_id)
    step_status: Final = ClassProperty(facade.step_status)

    workflow: Final = staticmethod(decorators.workflow)
    step: Final = staticmethod(decorators.step)

    @overload
    @staticmethod
    def run_step(
        dbos_step_options: StepOptions | None,
        func: Callable[P, Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...

    @overload
    @staticmethod
    def run_step(
        dbos_step_options: StepOptions | None,
        func: Callable[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...

    @staticmethod
    def run_step(
        dbos_step_options: StepOptions | None, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Run any function as a step: its outcome is committed before this returns.

        An async function is run to its end, blocking. Outside a workflow this is a plain call.

        Args:
            dbos_step_options: the options of `@DBOS.step`, or None for the defaults.
            func: plain or decorated; its own step options are not used.

        Raises:
            DBOSEventLoopError: called while an event loop is running.
            DBOSInvalidInputError: an option is out of range.
        """
        __tracebackhide__ = True
        return starting.run_function_as_step(dbos_step_options, func, args, kwargs)

    @overload
    @staticmethod
    def run_step_async(
        dbos_step_options: StepOptions | None,
        func: Callable[P, Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    @staticmethod
    def run_step_async(
        dbos_step_options: StepOptions | None,
        func: Callable[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]: ...

    @staticmethod
    def run_step_async(
        dbos_step_options: StepOptions | None, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Any]:
        """As `run_step`, awaited; a sync function runs on a thread.

        Raises:
            DBOSEventLoopError: called while no event loop is running.
        """
        return starting.run_function_as_step_async(dbos_step_options, func, args, kwargs)

    @overload
    @staticmethod
    def start_workflow(
        func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    @staticmethod
    def start_workflow(
        func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @staticmethod
    def start_workflow(func: Callable[..., Any], *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Start a workflow, step or transaction in the background; durable when this returns.

        A sync function runs on a thread; an async one on the main loop, else on one of our own. In
        workflow code the start is one recorded step, and the started workflow a child.

        Raises:
            DBOSWorkflowFunctionNotFoundError: the function is not decorated.
            DBOSSerializationError: an argument cannot be stored; nothing was started.
            DBOSConflictingWorkflowError: the id belongs to another function.
            DBOSUsageError: called inside a step or transaction.
        """
        return starting.start(func, args, kwargs)

    @staticmethod
    def start_workflow_async(
        func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[R]]:
        """As `start_workflow`, awaited; the workflow runs as a task on the caller's loop."""
        return starting.start_async(func, args, kwargs)

    @staticmethod
    def retrieve_workflow(workflow_id: str, existing_workflow: bool = True) -> WorkflowHandle[Any]:
        """A handle for a workflow id.

        Args:
            workflow_id: the workflow's id.
            existing_workflow: look whether it exists, one recorded step in workflow code; with
            False the
                handle is made without a look, and its `get_result` waits for the workflow to
                appear.

        Raises:
            DBOSNonExistentWorkflowError: there is no such workflow.
        """
        refuse_under_a_loop("retrieve_workflow")
        if existing_workflow:
            drive(results.existing_status(around().blocking, here(1), workflow_id))
        return SyncHandle(validation.workflow_id(workflow_id))

    @staticmethod
    def retrieve_workflow_async(
        workflow_id: str, existing_workflow: bool = True
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As `retrieve_workflow`, awaited."""
        site = here(1 if existing_workflow else 0)
        engine = around()

        async def retrieve() -> WorkflowHandleAsync[Any]:
            if existing_workflow:
                await results.existing_status(engine.aio, site, workflow_id)
            return AsyncHandle(validation.workflow_id(workflow_id))

        return retrieve()

    get_result: Final = blocking(results.get_result)
    get_result_async: Final = awaitable(results.get_result)
    get_workflow_status: Final = blocking(results.get_workflow_status)
    get_workflow_status_async: Final = awaitable(results.get_workflow_status)
    wait_first: Final = staticmethod(waiting.wait_first)
    wait_first_async: Final = staticmethod(waiting.wait_first_async)
    asyncio_wait: Final = staticmethod(waiting.asyncio_wait)

    send: Final = blocking(messaging.send)
    send_async: Final = awaitable(messaging.send)
    send_bulk: Final = blocking(messaging.send_bulk)
    send_bulk_async: Final = awaitable(messaging.send_bulk)
    recv: Final = blocking(messaging.recv)
    recv_async: Final = awaitable(messaging.recv)
    set_event: Final = blocking(events.set_event)
    set_event_async: Final = awaitable(events.set_event)
    get_event: Final = blocking(events.get_event)
    get_event_async: Final = awaitable(events.get_event)
    get_all_events: Final = blocking(events.get_all_events)
    get_all_events_async: Final = awaitable(events.get_all_events)
    write_stream: Final = blocking(streams.write_stream)
    write_stream_async: Final = awaitable(streams.write_stream)
    close_stream: Final = blocking(streams.close_stream)
    close_stream_async: Final = awaitable(streams.close_stream)
    read_stream: Final = staticmethod(waiting.read_stream)
    read_stream_async: Final = staticmethod(waiting.read_stream_async)
    read_stream_offset: Final = blocking(streams.read_stream_offset)
    read_stream_offset_async: Final = awaitable(streams.read_stream_offset)

    sleep: Final = blocking(durable_sleep)
    sleep_async: Final = awaitable(durable_sleep)
