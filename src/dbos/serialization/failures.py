"""Tagged nodes for exceptions, and what every format shares about storing errors.

An exception is stored by its class, arguments, attributes and text. It is rebuilt by the `__new__`
of the builtin it derives from, without its constructor; where its class is not available, a
`RestoredError` stands for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import GetSetDescriptorType, MappingProxyType, MemberDescriptorType
from typing import Any

from dbos.errors import DBOSBaseException, RestoredError
from dbos.serialization.classes import (
    builtin_ancestor,
    class_order,
    find_class,
    instance_attributes,
    is_findable,
    not_findable,
    own_attributes,
    shown_name,
    stored_name,
)
from dbos.serialization.refusals import text_of
from dbos.serialization.scalars import is_encodable
from dbos.serialization.tree import (
    ClassUnavailable,
    CorruptText,
    Kind,
    Read,
    Tree,
    TreeReader,
    TreeWriter,
    expect,
    fields_of,
    items_of,
)

# `obj` of an AttributeError is the object that was asked, of any kind, and of no use elsewhere. The
# two of a group are stored as its members.
_NOT_STATE = frozenset(
    {
        (AttributeError, "obj"),
        (BaseExceptionGroup, "message"),
        (BaseExceptionGroup, "exceptions"),
    }
)
_arguments = BaseException.__dict__["args"]


def exception_kind(cls: type) -> Kind | None:
    """How exceptions are written; None if the class is not one."""
    return _EXCEPTION if BaseException in class_order(cls) else None


def error_name(error: BaseException) -> str:
    """The `module.QualName` of an error, through any stand-in."""
    if type(error) is RestoredError:
        return error.name
    return f"{type(error).__module__}.{type(error).__qualname__}"


def stand_in(error: BaseException, stored: Callable[[object], object] = text_of) -> RestoredError:
    """A `RestoredError` for an error that cannot be stored or raised as itself."""
    return RestoredError(error_name(error), text_of(error), tuple(map(stored, error.args)))


def raisable(error: BaseException) -> BaseException:
    """The error to raise for a recorded one: never a foreign BaseException such as SystemExit."""
    if isinstance(error, Exception | DBOSBaseException):
        return error
    return RestoredError(error_name(error), text_of(error), error.args)


def with_parts(error: BaseException, stored: Callable[[object], object]) -> BaseException:
    """A copy of an error whose parts are what `stored` makes of them."""
    copy = _empty(type(error), _members_of(error))
    for _, value, setter in _state(error):
        setter(copy, stored(value))
    _arguments.__set__(copy, tuple(map(stored, error.args)))
    for name, value in instance_attributes(error).items():
        instance_attributes(copy)[name] = stored(value)
    return copy


def _write_exception(writer: TreeWriter, value: BaseException) -> Tree:
    cls = type(value)
    if not writer.lenient and not _is_restorable(cls):
        reason = "cannot be made again" if is_findable(cls) else not_findable(cls)
        return writer.refused(value, reason)
    node: dict[str, Tree] = {
        "$exception": stored_name(cls),
        "message": text_of(value),
    }
    members = _members_of(value)
    if members is not None:
        node["group"] = writer.tree(members[0], ".message")
        node["members"] = writer.tree(members[1], ".exceptions")
    if members is None or not _has_usual_arguments(value, members):
        arguments: list[Tree] = []
        for index, item in enumerate(value.args):
            arguments.append(writer.tree(item, f".args[{index}]"))
        node["args"] = arguments
    state: dict[str, Tree] = {}
    for name, item, _ in _state(value):
        state[name] = writer.tree(item, f".{name}")
    attributes: dict[str, Tree] = {}
    for name, item in instance_attributes(value).items():
        if is_encodable(name):
            attributes[name] = writer.tree(item, f".{name}")
    if state:
        node["state"] = state
    if attributes:
        node["attributes"] = attributes
    return node


def _read_exception(reader: TreeReader, tree: dict[str, Tree]) -> BaseException:
    name = expect(tree["$exception"], str)
    message = expect(tree["message"], str)
    try:
        cls = find_class(name)
        if not _is_restorable(cls):
            raise ClassUnavailable(shown_name(name), "is not an exception in this process")
        return _rebuilt(cls, reader, tree)
    except ClassUnavailable:
        return RestoredError(shown_name(name), message, tuple(_readable(reader, tree)))


def _rebuilt(cls: type[BaseException], reader: TreeReader, tree: dict[str, Tree]) -> BaseException:
    members: tuple[str, Any] | None = None
    if "members" in tree:
        members = expect(reader.value(tree["group"]), str), reader.value(tree["members"])
    error = _empty(cls, members)
    if "args" in tree:
        _arguments.__set__(error, tuple(reader.value(items_of(tree["args"]))))
    setters = _setters(cls)
    for name, item in fields_of(tree.get("state", {})).items():
        if name not in setters:
            raise ClassUnavailable(shown_name(stored_name(cls)), f"has no field {name}")
        setters[name](error, reader.value(item))
    attributes = instance_attributes(error)
    for name, item in fields_of(tree.get("attributes", {})).items():
        attributes[name] = reader.value(item)
    return error


def _readable(reader: TreeReader, tree: dict[str, Tree]) -> Iterator[object]:
    """The arguments of an error as far as this process can read them."""
    for item in items_of(tree.get("args", [])):
        try:
            yield reader.value(item)
        except ClassUnavailable as missing:
            yield f"<{missing.name}>"


def _is_restorable(cls: type) -> bool:
    if BaseException not in class_order(cls) or builtin_ancestor(cls).__module__ != "builtins":
        return False
    if not is_findable(cls):
        return False
    try:
        # Classes made by extensions may need more than their builtin base gives them.
        if BaseExceptionGroup not in class_order(cls):
            _empty(cls, None)
    except TypeError:
        return False
    return True


def _empty(cls: type[BaseException], members: tuple[str, Any] | None) -> BaseException:
    """An exception whose constructor has not run."""
    make: Any = builtin_ancestor(cls).__new__
    is_group = BaseExceptionGroup in class_order(cls)
    if is_group != (members is not None):
        raise CorruptText("an exception group has no members")
    error: BaseException = make(cls) if members is None else make(cls, *members)
    return error


def _members_of(error: BaseException) -> tuple[str, Any] | None:
    """The message and members of a group, in the sequence it was given if that is a plain one."""
    if not isinstance(error, BaseExceptionGroup):
        return None
    members: tuple[BaseException, ...] = BaseExceptionGroup.__dict__["exceptions"].__get__(error)
    message: str = BaseExceptionGroup.__dict__["message"].__get__(error)
    given_as_tuple = len(error.args) == 2 and type(error.args[1]) is tuple
    return message, members if given_as_tuple else list(members)


def _has_usual_arguments(error: BaseException, members: tuple[str, Any]) -> bool:
    if len(error.args) != 2 or error.args[0] != members[0]:
        return False
    given = error.args[1]
    return (
        type(given) is type(members[1])
        and len(given) == len(members[1])
        and all(one is other for one, other in zip(given, members[1], strict=True))
    )


def _state(error: BaseException) -> Iterator[tuple[str, Any, Callable[[object, object], None]]]:
    """The fields that are kept outside the attribute dictionary, where they are set."""
    for name, descriptor in _descriptors(type(error)).items():
        try:
            value = descriptor.__get__(error)
        except AttributeError:
            continue
        if value is not None:
            yield name, value, descriptor.__set__


def _setters(cls: type) -> dict[str, Callable[[object, object], None]]:
    return {name: descriptor.__set__ for name, descriptor in _descriptors(cls).items()}


def _descriptors(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for owner in class_order(cls):
        if owner is BaseException:
            break
        for name, declared in own_attributes(owner).items():
            if _is_state(owner, name, declared):
                found.setdefault(name, declared)
    return found


def _is_state(owner: type, name: str, declared: object) -> bool:
    if name.startswith("__") or (owner, name) in _NOT_STATE:
        return False
    if type(declared) is GetSetDescriptorType:
        return owner.__module__ == "builtins"
    return type(declared) is MemberDescriptorType


_EXCEPTION = Kind(_write_exception, 2)

READERS: Mapping[str, Read] = MappingProxyType({"$exception": _read_exception})
