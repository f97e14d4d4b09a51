"""Classes by their stored name, found and looked at without importing or running anything.

Nothing here calls or compares what a stored text names. Modules and classes are read through the
builtin descriptors of their attribute dictionaries, because a module's `__getattr__` and a
metaclass's properties are code.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

from dbos.serialization.refusals import type_name
from dbos.serialization.tree import ClassUnavailable

_HEAP_TYPE = 1 << 9
"""`Py_TPFLAGS_HEAPTYPE`: the class was made at run time and not in C."""

_class_attributes = type.__dict__["__dict__"]
_class_order = type.__dict__["__mro__"]
_class_base = type.__dict__["__base__"]
_class_flags = type.__dict__["__flags__"]
_class_module = type.__dict__["__module__"]
_class_qualname = type.__dict__["__qualname__"]
_MISSING = object()


def stored_name(cls: type) -> str:
    """The name under which `find_class` finds a class."""
    return f"{_class_module.__get__(cls)}:{_class_qualname.__get__(cls)}"


def shown_name(name: str) -> str:
    """A stored name as `module.QualName`."""
    return name.replace(":", ".")


def find_class(name: str) -> type:
    """Return the class of that stored name, or raise `ClassUnavailable`."""
    module_name, _, qualname = name.rpartition(":")
    module = sys.modules.get(module_name)
    if module is None or ModuleType not in class_order(type(module)):
        raise ClassUnavailable(
            shown_name(name), "is in a module that this process has not imported"
        )
    found: object = None
    scope: Mapping[str, object] = object.__getattribute__(module, "__dict__")
    for part in qualname.split("."):
        found = scope.get(part)
        if type not in class_order(type(found)):
            raise ClassUnavailable(shown_name(name), "is not a class of its module in this process")
        scope = own_attributes(found)  # type: ignore[arg-type]
    return found  # type: ignore[return-value]


def is_findable(cls: type) -> bool:
    """Whether a reader finds this very class by its stored name."""
    try:
        return find_class(stored_name(cls)) is cls
    except ClassUnavailable:
        return False


def not_findable(cls: type) -> str:
    """Say why a class that is not findable cannot be stored."""
    if "<locals>" in cls.__qualname__:
        return "is a class inside a function, which cannot be found again; move it to a module"
    return f"cannot be found again as {type_name(cls)}; give it that name in its module"


def own_attributes(cls: type) -> Mapping[str, object]:
    """The attributes a class itself declares."""
    attributes: Mapping[str, object] = _class_attributes.__get__(cls)
    return attributes


def class_order(cls: type) -> tuple[type, ...]:
    """The method resolution order of a class."""
    order: tuple[type, ...] = _class_order.__get__(cls)
    return order


def attribute(cls: type, name: str) -> object:
    """A class attribute as it was declared, own or inherited; None if there is none."""
    for owner in class_order(cls):
        found = own_attributes(owner).get(name, _MISSING)
        if found is not _MISSING:
            return found
    return None


def builtin_ancestor(cls: type) -> type:
    """The class, made in C, that decides how instances are laid out."""
    while _class_flags.__get__(cls) & _HEAP_TYPE:
        cls = _class_base.__get__(cls)
    return cls


def is_settable(cls: type, name: str) -> bool:
    """Whether a field can be set without running a descriptor of the user."""
    declared = attribute(cls, name)
    if type(declared) is MemberDescriptorType:
        return True
    has_dict = type(attribute(cls, "__dict__")) is GetSetDescriptorType
    return has_dict and attribute(type(declared), "__set__") is None


def set_field(instance: object, name: str, value: object) -> None:
    """Set a field without running `__setattr__`, properties or other code of the class."""
    cls = type(instance)
    declared = attribute(cls, name)
    if type(declared) is MemberDescriptorType:
        declared.__set__(instance, value)
    elif is_settable(cls, name):
        instance_attributes(instance)[name] = value
    else:
        raise ClassUnavailable(
            shown_name(stored_name(cls)), f"has no plain field {name} in this process"
        )


def instance_attributes(instance: object) -> dict[str, Any]:
    """The attribute dictionary of an instance; an empty one if its class has none."""
    declared = attribute(type(instance), "__dict__")
    if type(declared) is not GetSetDescriptorType:
        return {}
    attributes: dict[str, Any] = declared.__get__(instance)
    return attributes
