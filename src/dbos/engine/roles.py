"""Who may call a function: the roles it requires, and the one that its caller assumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dbos.engine.classes import called_class
from dbos.engine.context import Authentication
from dbos.engine.registry import Registration
from dbos.errors import DBOSNotAuthorizedError

DEFAULT_ROLES = "__dbos_default_required_roles__"
"""The attribute of a class that says what its functions require by default."""

Roles = tuple[str, ...]


def required_by(target: Registration, args: Sequence[Any]) -> Roles:
    """The roles of which a caller needs one; none if anyone may call."""
    if target.roles is not None:
        return target.roles
    called_on = called_class(target, args)
    if called_on is not None:
        for kind in called_on.__mro__:
            found: Roles | None = vars(kind).get(DEFAULT_ROLES)
            if found is not None:
                return found
    return target.class_roles


def authorize(who: Authentication, required: Roles, name: str) -> Authentication:
    """The caller in the first of the required roles that it has.

    Raises:
        DBOSNotAuthorizedError: it has none of them.
    """
    if not required:
        return who
    if who.roles is None:
        raise DBOSNotAuthorizedError(
            f"Function {name} requires a role, but was called in a context without "
            "authentication information: set it with DBOS.set_authentication() or "
            "DBOSContextSetAuth"
        )
    assumed = _first_of(required, who)
    if assumed is None:
        raise DBOSNotAuthorizedError(
            f"Function {name} has required roles, but user is not authenticated for any of them"
        )
    return replace(who, assumed_role=assumed)


def assumed_at_start(who: Authentication, required: Roles) -> Authentication:
    """The caller as a run in the background records it: a refusal is for the run to meet."""
    assumed = _first_of(required, who)
    return who if assumed is None else replace(who, assumed_role=assumed)


def _first_of(required: Roles, who: Authentication) -> str | None:
    return next((role for role in required if role in (who.roles or ())), None)
