"""The decorators, and the wrappers that stand for the decorated functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, cast

from dbos import validation
from dbos.api.protection import called_as, unguarded
from dbos.api.slot import SLOT, around
from dbos.engine import roles
from dbos.engine.async_function import AsyncFunction
from dbos.engine.classes import REGISTRATION
from dbos.engine.context import current_scope
from dbos.engine.engine import Engine
from dbos.engine.io import Call
from dbos.engine.registry import Kind, Registration
from dbos.engine.starts import call_workflow, place_start
from dbos.engine.steps import StepPolicy, place_call, run_step
from dbos.engine.transactions import IsolationLevel, place_transaction
from dbos.errors import DBOSException, DBOSInvalidInputError, DBOSUsageError
from dbos.models import StepOptions
from dbos.runtime.drive import drive
from dbos.runtime.loops import running_loop
from dbos.serialization.codec import WorkflowSerializationFormat, requested_format
from dbos.telemetry import log

P = ParamSpec("P")
R = TypeVar("R")

ArgumentsValidator = Callable[
    [tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]
]

NO_DATABASE = (
    "Transactions can only be used if DBOS is configured with an application_database_url: leave "
    "the key out to run them on the system database, or give a URL."
)


def workflow(
    bare: None = None,
    /,
    *,
    name: str | None = None,
    max_recovery_attempts: int | None = 100,
    serialization_type: WorkflowSerializationFormat | None = None,
    validate_args: ArgumentsValidator | None = None,
    auto_upgrade: bool | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a durable workflow.

    Every call, start or enqueue is recorded before the body runs; so is its outcome before it is
    returned. When the process dies, the workflow goes on from its last recorded step, in any
    process that may run it.

    Args:
        name: registered name; default: the function's qualified name. Stored, so renaming breaks
        replay. max_recovery_attempts: how often it is recovered before it is dead-lettered; None:
        without limit. serialization_type: format of its inputs, result, events, messages and
        streams. validate_args: `(args, kwargs) -> (args, kwargs)`, run when a queued or recovered
        run begins. auto_upgrade: True: a run that another version began may go on with this
        function, as under the `version_policy` "any".

    Raises:
        DBOSConflictingRegistrationError: the name belongs to a step or transaction.
    """
    validation.only_keywords(bare, "@DBOS.workflow()")
    if auto_upgrade is not None:
        validation.flag(auto_upgrade, "auto_upgrade")
    if max_recovery_attempts is not None:
        validation.whole_number(max_recovery_attempts, "max_recovery_attempts", 0)
    if serialization_type is not None:
        requested_format(serialization_type)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        registration = _register(
            function,
            "workflow",
            name,
            max_recovery_attempts=max_recovery_attempts,
            serialization=serialization_type,
            validate_args=validate_args,
            any_version=auto_upgrade is True,
        )

        def run(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            engine = _engine_around(registration.name)
            required = roles.required_by(registration, args)
            roles.authorize(current_scope().authentication, required, registration.name)
            start = place_start(
                registration,
                Call(registration.function, args, kwargs, registration.is_async),
                step_ids=2,
            )
            if registration.is_async:
                return call_workflow(engine.aio, start)
            return drive(call_workflow(engine.blocking, start))

        return _wrapped(function, registration, run)

    return decorate


def step(
    bare: None = None,
    /,
    *,
    name: str | None = None,
    retries_allowed: bool = False,
    interval_seconds: float = 1.0,
    max_attempts: int = 3,
    backoff_rate: float = 2.0,
    should_retry: Callable[[BaseException], bool | Awaitable[bool]] | None = None,
    preemptible: bool = False,
    timeout_seconds: float | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a step: in a workflow its outcome is committed before the call returns.

    A committed step never runs again; one whose outcome was not yet committed may run again after a
    crash. Outside a workflow the decorated function is the plain function.

    Args:
        name: recorded name; default: the function's qualified name.
        retries_allowed: attempt up to `max_attempts` times in all.
        interval_seconds: wait after the first failed attempt, at most 3600 s.
        backoff_rate: by this the wait is multiplied after each further one.
        should_retry: asked after each failure; False gives up. Async for async steps only.
        preemptible: async steps only: stop the step when its workflow is cancelled.
        timeout_seconds: async steps only: limit of one attempt.

    Raises:
        DBOSInvalidInputError: an option is out of range.
        DBOSException: "only supported for async steps", or the name begins with `DBOS.`.
        DBOSConflictingRegistrationError: the name belongs to a workflow or transaction.
    """
    validation.only_keywords(bare, "@DBOS.step()")
    policy = step_policy(
        StepOptions(
            retries_allowed=retries_allowed,
            interval_seconds=interval_seconds,
            max_attempts=max_attempts,
            backoff_rate=backoff_rate,
            should_retry=should_retry,
            preemptible=preemptible,
            timeout_seconds=timeout_seconds,
        )
    )

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        registration = _register(function, "step", name, options=policy)
        refuse_async_only(policy, registration.is_async)
        is_odd = policy.should_retry is not None

        def run(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            scope = current_scope()
            caller, run = scope.authentication, scope.workflow
            if required := roles.required_by(registration, args):
                caller = roles.authorize(caller, required, registration.name)
            if run is None:
                return called_as(caller, registration, args, kwargs)
            if is_odd:
                refuse_async_predicate(policy, registration.name, registration.is_async)
            body = Call(registration.function, args, kwargs, registration.is_async)
            call = place_call(registration.name, body, policy, caller)
            if registration.is_async:
                return run_step(run.engine.aio, call)
            return drive(run_step(run.engine.blocking, call))

        return _wrapped(function, registration, run)

    return decorate


def transaction(
    isolation_level: IsolationLevel = "SERIALIZABLE", *, name: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a transaction: its writes and its outcome are committed together, once.

    The body runs in one database transaction, with `DBOS.sql_session` as its session. Collisions
    and lost connections roll back and run the whole body again; any other error rolls back, is
    recorded and raised. Called outside a workflow it runs as a workflow of its own. Sync functions
    only.

    Args:
        isolation_level: of the database transaction; SQLite is always serializable.
        name: recorded name; default: the function's qualified name.

    Raises:
        DBOSException: "is a coroutine function", or the name begins with `DBOS.`.
        DBOSInvalidInputError: no such isolation level, or the parentheses are missing.
        DBOSConflictingRegistrationError: the name belongs to a workflow or step.
    """
    isolation = validation.isolation_level(isolation_level)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(function):
            raise DBOSException(
                f"Function {function.__qualname__} is a coroutine function: transactions must be "
                "plain functions; for async code use AsyncSQLAlchemyDatasource."
            )
        registration = _register(function, "transaction", name)

        def run(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            engine = _engine_around(registration.name)
            required = roles.required_by(registration, args)
            caller = roles.authorize(current_scope().authentication, required, registration.name)
            call = Call(registration.function, args, kwargs, False)
            placed = place_transaction(registration.name, call, isolation, caller)
            if engine.transactor is None:
                raise DBOSUsageError(NO_DATABASE)
            if running_loop() is not None:
                log.transaction_under_a_loop(registration.name)
            if placed is not None:
                return drive(engine.transactor.run(engine.blocking, placed))
            body = Call(registration.body, args, kwargs, False)
            return drive(call_workflow(engine.blocking, place_start(registration, body, 2)))

        return _wrapped(function, registration, run)

    return decorate


def step_policy(options: StepOptions) -> StepPolicy:
    """The checked policy of a step's options."""
    validation.mapping(options, "Step options")
    if (predicate := options.get("should_retry")) is not None:
        validation.function(predicate, "should_retry")
    max_attempts, interval_s, backoff_rate = validation.retry_options(
        options.get("max_attempts", 3),
        options.get("interval_seconds", 1.0),
        options.get("backoff_rate", 2.0),
    )
    return StepPolicy(
        retries_allowed=bool(options.get("retries_allowed", False)),
        interval_s=interval_s,
        max_attempts=max_attempts,
        backoff_rate=backoff_rate,
        should_retry=options.get("should_retry"),
        preemptible=bool(options.get("preemptible", False)),
        timeout_s=validation.step_timeout(options.get("timeout_seconds")),
    )


def refuse_async_only(policy: StepPolicy, is_async: bool) -> None:
    """Preemption and time limits stop a task; a sync step has none."""
    for option, value in (
        ("preemptible", policy.preemptible),
        ("timeout_seconds", policy.timeout_s is not None),
    ):
        if value and not is_async:
            raise DBOSException(
                f"{option} is only supported for async steps: make it an `async def`."
            )


def refuse_async_predicate(policy: StepPolicy, name: str, is_async: bool) -> None:
    """An async predicate can only be awaited by an async step."""
    if not is_async and inspect.iscoroutinefunction(policy.should_retry):
        raise DBOSException(
            f"Step {name} is sync but should_retry is async: make the predicate a plain function."
        )


def _register(
    function: Callable[..., Any], kind: Kind, name: str | None, **options: Any
) -> Registration:
    if not hasattr(function, "__qualname__") and (name is None or not callable(function)):
        raise DBOSInvalidInputError(
            f"@DBOS.{kind}() needs a function, not {type(function).__name__}: put it above a "
            "`def`, or give a callable object a name"
        )
    function, required = unguarded(function)
    registered_name = function.__qualname__ if name is None else validation.identifier(name, "name")
    if kind != "workflow":
        validation.step_name(registered_name)
    registration = Registration(
        registered_name, kind, function, inspect.iscoroutinefunction(function), **options
    )
    registration.roles = required
    SLOT.registry.add(registration)
    return registration


def _wrapped(
    function: Callable[P, R], registration: Registration, call: Callable[..., Any]
) -> Callable[P, R]:
    wrapper: Any = (
        AsyncFunction(function, call) if registration.is_async else functools.wraps(function)(call)
    )
    setattr(wrapper, REGISTRATION, registration)
    if registration.kind != "workflow":
        registration.body = wrapper
    return cast("Callable[P, R]", wrapper)


def _engine_around(name: str) -> Engine:
    if current_scope().run is None and SLOT.instance is None:
        raise DBOSException(
            f"Workflow {name} invoked before DBOS initialized: call DBOS(config=...) and "
            "DBOS.launch() first."
        )
    return around()
