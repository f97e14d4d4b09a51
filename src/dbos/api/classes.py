"""Classes whose methods are workflows and steps, their instances, and what roles they require."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from dbos import validation
from dbos.api.protection import checked_roles, guarded
from dbos.api.slot import SLOT
from dbos.engine.classes import registration_in
from dbos.engine.registry import registration_of
from dbos.engine.roles import DEFAULT_ROLES
from dbos.errors import DBOSException
from dbos.telemetry import log

C = TypeVar("C", bound=type)
F = TypeVar("F")
T = TypeVar("T")


class DBOSConfiguredInstance:
    """A base for classes whose instances run workflows: each has a name, stored with its runs.

    After a crash a run goes on with the instance that is registered under that name, so make the
    instances before `DBOS.launch()`, the same in every process. Attributes may be set before
    `super().__init__(config_name=...)`.

    Args:
        config_name: any text; one instance of a class for each.

    Raises:
        DBOSException: "Duplicate instance registration for class", or no name.
    """

    def __init__(self, config_name: str) -> None:
        self.config_name = config_name
        _register(self)


def dbos_class(class_name: str | None = None) -> Callable[[C], C]:
    """Make a class's class and instance methods callable as workflows.

    An undecorated subclass counts as its decorated base; a decorated one is a class of its own. A
    class that has only steps needs no decoration.

    Args:
        class_name: stored with its runs; default: the class's qualified name.

    Raises:
        DBOSException: "Duplicate type registration for class".
    """
    if class_name is not None:
        validation.parentheses(class_name, "@DBOS.dbos_class()")
        validation.identifier(class_name, "class_name")

    def decorate(kind: C) -> C:
        SLOT.registry.classes.add(kind, kind.__qualname__ if class_name is None else class_name)
        return kind

    return decorate


def register_instance(instance: T) -> T:
    """Register an object under its attribute `config_name`, as `DBOSConfiguredInstance` does.

    Returns:
        The object.

    Raises:
        DBOSException: it has no `config_name`, its class is not decorated, or another instance of
            the class has that name.
    """
    if not _register(instance):
        raise DBOSException(
            f"An object of {type(instance).__qualname__} appears to be a class instance, but is "
            "not properly registered: decorate its class with @DBOS.dbos_class() first."
        )
    return instance


def required_roles(roles: list[str]) -> Callable[[F], F]:
    """Let only callers who have one of these roles call a function; `[]`: anyone.

    Works above or below `@DBOS.workflow()`, `step` and `transaction`, and on plain functions. The
    first of the roles that the caller has is `DBOS.assumed_role` during the call. A refused direct
    call leaves no run; a refused run in the background ends with the error.

    Raises:
        DBOSNotAuthorizedError: by the decorated function; its `status_code` is 403.
    """
    validation.parentheses(roles, '@DBOS.required_roles(["admin"])')
    required = checked_roles(roles)

    def decorate(function: F) -> F:
        registration = registration_in(function) or registration_of(cast("Any", function))
        if registration is not None:
            registration.roles = required
            return function
        member = cast("Any", function)
        if isinstance(function, staticmethod | classmethod):
            return cast("F", type(member)(guarded(member.__func__, required)))
        return cast("F", guarded(member, required))

    return decorate


def default_required_roles(roles: list[str]) -> Callable[[C], C]:
    """What the workflows, steps and transactions of a class require, unless they say otherwise.

    As `required_roles`, which replaces it for a single function.
    """
    validation.parentheses(roles, '@DBOS.default_required_roles(["admin"])')
    required = checked_roles(roles)

    def decorate(kind: C) -> C:
        setattr(kind, DEFAULT_ROLES, required)
        for member in vars(kind).values():
            registration = registration_in(member)
            if registration is not None:
                registration.class_roles = required
        return kind

    return decorate


def _register(instance: object) -> bool:
    receiver = SLOT.registry.classes.add_instance(instance)
    if receiver is None:
        return False
    if SLOT.instance is not None and SLOT.instance.engine is not None:
        log.instance_registered_late(receiver.class_name, receiver.config_name or "")
    return True
