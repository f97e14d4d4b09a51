"""Starting a function in the background, and running one as a step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from types import MethodType
from typing import Any

from dbos import validation
from dbos.api.decorators import (
    refuse_async_only,
    refuse_async_predicate,
    step_policy,
)
from dbos.api.handles import AsyncHandle, SyncHandle
from dbos.api.slot import around
from dbos.api.twins import refuse_under_a_loop
from dbos.engine import roles
from dbos.engine.admission import StartCall
from dbos.engine.context import Authentication, EnqueueSettings, current_scope
from dbos.engine.engine import Engine
from dbos.engine.execution import Execution
from dbos.engine.io import Call
from dbos.engine.registry import Registration, registration_of
from dbos.engine.starts import place_start, start_workflow
from dbos.engine.steps import StepCall, StepPolicy, place_call, run_step
from dbos.errors import (
    DBOSEventLoopError,
    DBOSException,
    DBOSInvalidInputError,
    DBOSWorkflowFunctionNotFoundError,
)
from dbos.models import StepOptions
from dbos.runtime.drive import drive
from dbos.runtime.loops import running_loop


def start(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> SyncHandle[Any]:
    """Start a decorated function in the background; durable when this returns."""
    engine = around("Executor")
    call = _start_call(function, args, kwargs)
    workflow_id, mine = drive(start_workflow(engine.blocking, call))
    return SyncHandle(workflow_id, mine)


def start_async(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Coroutine[Any, Any, AsyncHandle[Any]]:
    """Start a decorated async function as a task of the caller's loop; durable when awaited."""
    return _start_here(around("Executor"), _start_call(function, args, kwargs))


async def _start_here(engine: Engine, call: StartCall) -> AsyncHandle[Any]:
    workflow_id, mine = await start_workflow(engine.aio, call, on_callers_loop=True)
    return AsyncHandle(workflow_id, mine)


def _start_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> StartCall:
    target = startable(function)
    settings = current_scope().options.enqueue
    if settings is not None:
        _refuse_enqueue_settings(target.name, settings)
    call = Call(target.body, with_receiver(function, args), kwargs, target.is_async)
    start = place_start(target, call, step_ids=1)
    if settings is None:
        return start
    return replace(start, application_version=settings.app_version)


def startable(function: Callable[..., Any]) -> Registration:
    """What a decorated function is registered as, if it can be run by itself."""
    target = registration_of(function)
    if target is None:
        name = getattr(function, "__qualname__", type(function).__name__)
        raise DBOSWorkflowFunctionNotFoundError(
            "not started",
            f"{name} is not registered: decorate it with @DBOS.workflow() before starting it",
        )
    return target


def _refuse_enqueue_settings(name: str, settings: EnqueueSettings) -> None:
    """A workflow that is on no queue has no place, key or delay there."""
    given = [
        option
        for option, value in (
            ("deduplication_id", settings.deduplication_id),
            ("priority", settings.priority),
            ("queue_partition_key", settings.queue_partition_key),
            ("delay_seconds", settings.delay_until_ms),
        )
        if value is not None
    ]
    if given:
        raise DBOSException(
            f"Workflow {name} is not being enqueued, so {' and '.join(given)} of SetEnqueueOptions "
            "cannot apply: enqueue it, or start it outside the block."
        )
    if settings.duplication_policy == "return-existing":
        raise DBOSInvalidInputError(
            f"duplication_policy 'return-existing' requires a queue, and workflow {name} is "
            "started without one: enqueue it"
        )


def with_receiver(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a call, with what a bound method is bound to in front."""
    return (function.__self__, *args) if isinstance(function, MethodType) else args


def run_function_as_step(
    options: StepOptions | None,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run a function as a step, blocking; an async one is run to its end."""
    __tracebackhide__ = True
    engine = around()
    refuse_under_a_loop("run_step")
    step = prepared_step(options, function, args, kwargs, blocking=True)
    return drive(run_step(engine.blocking, step.place()))


def run_function_as_step_async(
    options: StepOptions | None,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Coroutine[Any, Any, Any]:
    """Run a function as a step, awaited; a sync one runs on a thread."""
    engine = around()
    if running_loop() is None:
        raise DBOSEventLoopError(
            "`run_step_async()` was called while no event loop is running: call it from a "
            "coroutine, or use `run_step()`."
        )
    return run_step(
        engine.aio, _step_call({} if options is None else options, function, args, kwargs).place()
    )


@dataclass(frozen=True, slots=True)
class FunctionAsStep:
    """What `run_step` was asked for, before it takes its step id."""

    name: str
    call: Call
    policy: StepPolicy
    caller: Authentication

    def place(self) -> StepCall:
        return place_call(self.name, self.call, self.policy, self.caller)

    def place_at(self, run: Execution, step_id: int) -> StepCall:
        return StepCall(self.name, self.call, self.policy, run, step_id, self.caller)


def prepared_step(
    options: StepOptions | None,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    blocking: bool,
) -> FunctionAsStep:
    """A function as a step that has no place yet."""
    step = _step_call({} if options is None else options, function, args, kwargs)
    if blocking:
        refuse_async_predicate(step.policy, step.name, step.call.is_async)
    return step


def _step_call(
    options: StepOptions,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> FunctionAsStep:
    caller = current_scope().authentication
    validation.function(function, "func")
    registration = registration_of(function)
    policy = step_policy(options)
    if registration is None:
        plain, is_async = function, inspect.iscoroutinefunction(function)
        default_name: str = getattr(function, "__qualname__", type(function).__name__)
    else:
        plain, is_async, default_name = (
            registration.function,
            registration.is_async,
            registration.name,
        )
        args = with_receiver(function, args)
        caller = roles.authorize(caller, roles.required_by(registration, args), default_name)
    refuse_async_only(policy, is_async)
    given = options.get("name")
    name = validation.step_name(default_name if given is None else given)
    return FunctionAsStep(name, Call(plain, args, kwargs, is_async), policy, caller)
