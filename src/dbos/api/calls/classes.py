"""Calls of `DBOS` about classes, their instances, and the user that calls are made for."""

from __future__ import annotations

from typing import Final

from dbos.api import classes, facade
from dbos.api.facade import ClassProperty


class ClassCalls:
    """Classes, roles and authentication."""

    dbos_class: Final = staticmethod(classes.dbos_class)
    register_instance: Final = staticmethod(classes.register_instance)
    required_roles: Final = staticmethod(classes.required_roles)
    default_required_roles: Final = staticmethod(classes.default_required_roles)

    authenticated_user: ClassProperty[str | None] = ClassProperty(facade.authenticated_user)
    authenticated_roles: ClassProperty[list[str] | None] = ClassProperty(facade.authenticated_roles)
    assumed_role: ClassProperty[str | None] = ClassProperty(facade.assumed_role)
    set_authentication: Final = staticmethod(facade.set_authentication)
