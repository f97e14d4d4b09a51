"""Class-level properties: attributes of the facade that are read without an instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from dbos.api.options import authentication
from dbos.engine.context import Scope, current_scope
from dbos.errors import DBOSUsageError
from dbos.models import StepStatus

T = TypeVar("T")


class ClassProperty(Generic[T]):
    """A property of the class itself."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self.__doc__ = read.__doc__

    def __get__(self, instance: object, owner: type) -> T:
        return self._read()


def workflow_id() -> str | None:
    """The id of the workflow that this code runs in; None outside."""
    run = current_scope().run
    return None if run is None else run.workflow_id


def step_id() -> int | None:
    """The id of the step or transaction that this code runs in; None outside."""
    step = current_scope().step
    return None if step is None else step.step_id


def authenticated_user() -> str | None:
    """The user that this code runs for; `DBOSUsageError` where there is no DBOS context."""
    return _context().authentication.user


def authenticated_roles() -> list[str] | None:
    """What the user may act as; `DBOSUsageError` where there is no DBOS context."""
    roles = _context().authentication.roles
    return None if roles is None else list(roles)


def assumed_role() -> str | None:
    """The required role that the user has here; `DBOSUsageError` where there is no DBOS context."""
    return _context().authentication.assumed_role


def set_authentication(
    authenticated_user: str | None, authenticated_roles: list[str] | None
) -> None:
    """Say whom this context works for, until it ends: a web request, a workflow, a `with` block.

    Workflows that are called, started or enqueued from here record and inherit the user and roles.

    Args:
        authenticated_user: the user's name, or None.
        authenticated_roles: what the user may act as; None: nothing is known of it.

    Raises:
        DBOSUsageError: "No DBOS context found"; use `with DBOSContextSetAuth(user, roles)`.
        DBOSInvalidInputError: the user is no str, or the roles are no list of str.
    """
    _context().session.authentication = authentication(authenticated_user, authenticated_roles)


def step_status() -> StepStatus | None:
    """Where the step stands that this code runs in: its id and attempt; None outside."""
    step = current_scope().step
    return None if step is None else StepStatus(step.step_id, step.attempt, step.max_attempts)


def _context() -> Scope:
    scope = current_scope()
    if not scope.is_context:
        raise DBOSUsageError(
            "No DBOS context found: make the call in a workflow, in a request of an integrated "
            "web framework, or within DBOSContextEnsure() or DBOSContextSetAuth()."
        )
    return scope
