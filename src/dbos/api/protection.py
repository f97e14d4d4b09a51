"""Calls on behalf of a user: the guard of `@DBOS.required_roles`, and calls in an assumed role."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbos import validation
from dbos.engine.context import Authentication, current_scope, entered, on_behalf_of
from dbos.engine.registry import Registration
from dbos.engine.roles import Roles, authorize

GUARD = "__dbos_guard__"


@dataclass(frozen=True, slots=True)
class Guard:
    """What a guarded function was before, and what it requires."""

    wrapper: Callable[..., Any]
    function: Callable[..., Any]
    roles: Roles


def checked_roles(roles: object) -> Roles:
    """The roles that a function requires; none: anyone may call."""
    return tuple(validation.roles(roles) or ())


def guarded(function: Callable[..., Any], roles: Roles) -> Callable[..., Any]:
    """A function that checks its caller's roles. Registered, it is checked as a registered one."""
    name = getattr(function, "__qualname__", type(function).__name__)
    registration = Registration(name, "step", function, inspect.iscoroutinefunction(function))

    def check() -> Authentication:
        return authorize(current_scope().authentication, roles, name)

    @functools.wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        return await called_as(check(), registration, args, kwargs)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return called_as(check(), registration, args, kwargs)

    wrapper = call_async if registration.is_async else call
    setattr(wrapper, GUARD, Guard(wrapper, function, roles))
    return wrapper


def unguarded(function: Callable[..., Any]) -> tuple[Callable[..., Any], Roles | None]:
    """The function under a guard and what it requires: a registered function is guarded by us."""
    guard: Guard | None = getattr(function, GUARD, None)
    if guard is None:
        return function, None
    # Under another decorator the guard stays where it is, and that decorator's work is kept.
    return (guard.function if guard.wrapper is function else function), guard.roles


def called_as(
    caller: Authentication,
    target: Registration,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """Call a function as it is, for a caller who may have assumed a role for it."""
    scope = current_scope()
    if caller is scope.authentication:
        return target.function(*args, **kwargs)
    if target.is_async:
        return _called_as_async(caller, target.function, args, kwargs)
    with entered(on_behalf_of(scope, caller)):
        return target.function(*args, **kwargs)


async def _called_as_async(
    caller: Authentication,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    with entered(on_behalf_of(current_scope(), caller)):
        return await function(*args, **kwargs)
