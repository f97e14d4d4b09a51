"""From a call that enqueues to its request: the target, the options and the ambient blocks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from dbos import validation
from dbos.api.handles import AsyncHandle, SyncHandle
from dbos.api.slot import around
from dbos.api.starting import startable, with_receiver
from dbos.engine import roles
from dbos.engine.context import (
    NOBODY,
    Authentication,
    EnqueueSettings,
    Scope,
    current_scope,
)
from dbos.engine.engine import Engine
from dbos.engine.registry import Registration
from dbos.engine.site import Site
from dbos.engine.starts import refuse_in_step, take_armed_id
from dbos.errors import DBOSException, DBOSInvalidInputError
from dbos.models import EnqueueOptions
from dbos.ops.enqueue import EnqueueRequest, enqueue, without_key
from dbos.runtime.drive import drive
from dbos.serialization.codec import WorkflowSerializationFormat, requested_format

PARTITION_KEY = "partition_key"


@dataclass(frozen=True, slots=True)
class Placed:
    """A call that enqueues, as it was made: its step id and all that it asks for are fixed."""

    engine: Engine
    site: Site
    request: EnqueueRequest

    def now(self) -> SyncHandle[Any]:
        """Enqueue, blocking."""
        return SyncHandle(drive(enqueue(self.engine.blocking, self.site, self.request)))

    def awaited(self) -> Coroutine[Any, Any, AsyncHandle[Any]]:
        """Enqueue once awaited."""

        async def enqueued() -> AsyncHandle[Any]:
            return AsyncHandle(await enqueue(self.engine.aio, self.site, self.request))

        return enqueued()


def place_function(
    queue_name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    through_queue: bool = False,
) -> Placed:
    """Enqueue a decorated function. Through its object, a queue knows whether it needs a key."""
    engine, target = around("Executor"), startable(function)
    args = with_receiver(function, args)
    receiver = target.classes.receiver(target, args)
    scope = current_scope()
    authentication = roles.assumed_at_start(scope.authentication, roles.required_by(target, args))
    settings = scope.options.enqueue or EnqueueSettings()
    if PARTITION_KEY in kwargs and not _accepts_partition_key(target):
        kwargs = dict(kwargs)
        key = validation.optional_identifier(kwargs.pop(PARTITION_KEY), PARTITION_KEY)
        settings = replace(settings, queue_partition_key=key)
    _refuse_combinations(settings)
    declared = engine.registry.queues.get(queue_name)
    needs_key = through_queue and settings.queue_partition_key is None
    if needs_key and declared is not None and declared.is_partitioned:
        raise without_key(queue_name)
    own_version = engine.identity.application_version
    version = settings.app_version or own_version
    request = EnqueueRequest(
        workflow_name=target.run_name,
        queue_name=queue_name,
        args=args if receiver is None else args[1:],
        kwargs=kwargs,
        class_name=None if receiver is None else receiver.class_name,
        config_name=None if receiver is None else receiver.config_name,
        serialization=target.serialization or WorkflowSerializationFormat.DEFAULT,
        application_name=engine.settings.name,
        application_version=version,
        # The hash would let this version run what is meant for another one.
        code_hash=engine.registry.code_hash(target) if version == own_version else None,
        authentication=authentication,
        attributes=validation.attributes(_plain(scope.options.attributes)),
        needs_key_if_partitioned=needs_key,
    )
    return _placed(engine, scope, _with_settings(request, settings))


def place_by_name(
    name: str,
    queue_name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    application_name: str | None,
) -> Placed:
    """Enqueue a workflow by its name, on this version if it is this application's."""
    engine, scope = around("Executor"), current_scope()
    target = engine.registry.find(name)
    settings = scope.options.enqueue or EnqueueSettings()
    own_version = engine.identity.application_version
    owner = validation.optional_identifier(application_name, "application_name")
    is_known = target is not None and owner in (None, engine.settings.name)
    version = settings.app_version or (own_version if is_known else None)
    is_own = is_known and version == own_version
    request = EnqueueRequest(
        workflow_name=validation.identifier(name, "workflow_name"),
        queue_name=queue_name,
        args=args,
        kwargs=kwargs,
        serialization=_format_of({}, target),
        application_name=owner or engine.settings.name,
        application_version=version,
        code_hash=engine.registry.code_hash(target) if target is not None and is_own else None,
        authentication=scope.authentication,
        attributes=validation.attributes(_plain(scope.options.attributes)),
    )
    return _placed(engine, scope, request)


def place_options(
    options: EnqueueOptions, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Placed:
    """Enqueue a workflow by its name. What the options leave out, the ambient blocks say."""
    engine, scope = around("Executor"), current_scope()
    given = given_options(options)
    name = validation.identifier(given["workflow_name"], "workflow_name")
    queue_name = validation.queue_name(given["queue_name"])
    settings = _settings_of(engine, given, scope.options.enqueue or EnqueueSettings())
    _refuse_combinations(settings)
    target = engine.registry.find(name)
    version = settings.app_version
    is_own = target is not None and version == engine.identity.application_version
    attributes = _combined(scope.options.attributes, given.get("attributes"))
    request = EnqueueRequest(
        workflow_name=name,
        queue_name=queue_name,
        args=args,
        kwargs=kwargs,
        class_name=validation.optional_identifier(given.get("class_name"), "class_name"),
        config_name=validation.optional_identifier(given.get("instance_name"), "instance_name"),
        serialization=_format_of(given, target),
        application_name=validation.identifier(
            given.get("application_name", engine.settings.name), "application_name"
        ),
        application_version=version,
        code_hash=engine.registry.code_hash(target) if target and is_own else None,
        authentication=_authentication_of(given, scope.authentication),
        attributes=validation.attributes(attributes),
    )
    request = _with_settings(request, settings)
    own_id = given.get("workflow_id")
    reuse = given.get("workflow_id_reuse_policy")
    timeout = given.get("workflow_timeout")
    workflow_id = None if own_id is None else validation.workflow_id(own_id)
    policy = None if reuse is None else validation.workflow_id_reuse_policy(reuse)
    seconds = None if timeout is None else validation.positive_timeout(timeout, "workflow_timeout")
    placed = _placed(engine, scope, request, workflow_id)
    changes: dict[str, Any] = {}
    if policy is not None:
        changes["reuse"] = policy
    if seconds is not None:
        changes |= {"timeout_ms": round(seconds * 1000), "deadline_ms": None}
    return replace(placed, request=replace(placed.request, **changes)) if changes else placed


def client_request(
    engine: Engine, options: EnqueueOptions, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> EnqueueRequest:
    """What a client asks for: the options alone count, and no ambient block."""
    given = given_options(options)
    name = validation.identifier(given["workflow_name"], "workflow_name")
    queue_name = validation.queue_name(given["queue_name"])
    settings = _settings_of(engine, given, EnqueueSettings())
    _refuse_following_without_key(settings)
    owner = given.get("application_name", engine.settings.name or None)
    own_id, timeout = given.get("workflow_id"), given.get("workflow_timeout")
    seconds = None if timeout is None else validation.positive_timeout(timeout, "workflow_timeout")
    reuse = given.get("workflow_id_reuse_policy", "return-existing")
    request = EnqueueRequest(
        workflow_name=name,
        queue_name=queue_name,
        args=args,
        kwargs=kwargs,
        class_name=validation.optional_identifier(given.get("class_name"), "class_name"),
        config_name=validation.optional_identifier(given.get("instance_name"), "instance_name"),
        workflow_id=None if own_id is None else validation.workflow_id(own_id),
        reuse=validation.workflow_id_reuse_policy(reuse),
        serialization=_format_of(given, None),
        application_name=validation.optional_identifier(owner, "application_name"),
        application_version=settings.app_version,
        authentication=_authentication_of(given, NOBODY),
        timeout_ms=None if seconds is None else round(seconds * 1000),
        attributes=validation.attributes(given.get("attributes")),
    )
    return _with_settings(request, settings)


def given_options(options: EnqueueOptions) -> dict[str, Any]:
    """The options that are set, the required ones among them."""
    if not isinstance(options, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DBOSInvalidInputError(f"options must be a dict, not {type(options).__name__}")
    given = {
        key: value for key, value in cast("Mapping[str, Any]", options).items() if value is not None
    }
    for required in ("workflow_name", "queue_name"):
        if required not in given:
            raise DBOSInvalidInputError(f"options must have the key '{required}'")
    validation.only_keys(options, EnqueueOptions.__annotations__, "options")
    return given


def _placed(
    engine: Engine, scope: Scope, request: EnqueueRequest, workflow_id: str | None = None
) -> Placed:
    """Take the step id and the ambient id, timeout and deadline, at the moment of the call."""
    refuse_in_step(scope, request.workflow_name)
    parent, armed = scope.run, scope.options.armed_id
    reuse = request.reuse
    if workflow_id is None:
        workflow_id = take_armed_id(scope)
        if workflow_id is not None and armed is not None:
            reuse = armed.reuse
    explicit = scope.options.timeout
    timeout_ms = deadline_ms = None
    if explicit is None:
        deadline_ms = parent.deadline_ms if parent else None
    elif explicit.seconds is not None:
        timeout_ms = round(explicit.seconds * 1000)
    request = replace(
        request,
        workflow_id=workflow_id,
        reuse=reuse,
        timeout_ms=timeout_ms,
        deadline_ms=deadline_ms,
        executor_id=engine.identity.executor_id,
        application_id=engine.settings.app_id,
        is_declared=request.queue_name in engine.registry.queues,
    )
    return Placed(engine, Site(scope, parent, parent.take_step_ids(1) if parent else 0), request)


def _with_settings(request: EnqueueRequest, settings: EnqueueSettings) -> EnqueueRequest:
    return replace(
        request,
        deduplication_id=settings.deduplication_id,
        on_duplicate=validation.duplication_policy(settings.duplication_policy),
        priority=settings.priority,
        partition_key=settings.queue_partition_key,
        delay_until_ms=settings.delay_until_ms,
    )


def _refuse_combinations(settings: EnqueueSettings) -> None:
    """What no way to enqueue through the facade allows."""
    if settings.deduplication_id is not None and settings.queue_partition_key is not None:
        raise DBOSException(
            "Deduplication is not supported for partitioned queues: give a deduplication ID or a "
            "partition key, not both."
        )
    _refuse_following_without_key(settings)


def _refuse_following_without_key(settings: EnqueueSettings) -> None:
    if settings.duplication_policy == "return-existing" and settings.deduplication_id is None:
        raise DBOSInvalidInputError(
            "duplication_policy 'return-existing' requires a deduplication_id"
        )


def _settings_of(
    engine: Engine, given: Mapping[str, Any], ambient: EnqueueSettings
) -> EnqueueSettings:
    """The options of the queue, each with the ambient one as its default."""
    changes: dict[str, Any] = {
        key: validation.identifier(given[key], key)
        for key in ("deduplication_id", "app_version", "queue_partition_key")
        if key in given
    }
    if "priority" in given:
        changes["priority"] = validation.priority(given["priority"])
    if "duplication_policy" in given:
        changes["duplication_policy"] = validation.duplication_policy(given["duplication_policy"])
    if "delay_seconds" in given:
        delay_s = validation.duration(given["delay_seconds"], "delay_seconds")
        changes["delay_until_ms"] = engine.blocking.io.now_ms() + round(delay_s * 1000)
    return replace(ambient, **changes)


def _format_of(
    given: Mapping[str, Any], target: Registration | None
) -> WorkflowSerializationFormat:
    asked = given.get("serialization_type")
    if asked is None:
        known = None if target is None else target.serialization
        return known or WorkflowSerializationFormat.DEFAULT
    return requested_format(asked)


def _authentication_of(given: Mapping[str, Any], ambient: Authentication) -> Authentication:
    changes: dict[str, Any] = {}
    if "authenticated_user" in given:
        changes["user"] = validation.label(given["authenticated_user"], "authenticated_user")
    if "authenticated_roles" in given:
        roles = validation.roles(given["authenticated_roles"], "authenticated_roles")
        changes["roles"] = None if roles is None else tuple(roles)
    return replace(ambient, **changes)


def _combined(ambient: Mapping[str, Any] | None, given: object) -> object:
    """Both sets of attributes; for a key in both, the option counts."""
    if given is None:
        return _plain(ambient)
    if not isinstance(given, Mapping):
        return given
    return {**(ambient or {}), **cast("Mapping[str, Any]", given)}


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if attributes is None else dict(attributes)


def _accepts_partition_key(target: Registration) -> bool:
    """Whether the function itself takes an argument of that name."""
    parameters = inspect.signature(target.function).parameters
    return PARTITION_KEY in parameters or any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
    )
