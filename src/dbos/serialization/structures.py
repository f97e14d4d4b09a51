"""Tagged nodes for instances of declared classes: enums, dataclasses, NamedTuples, attrs, pydantic.

An instance is stored by its class and the values of its declared fields. It is rebuilt by making an
empty one and setting the fields, so no constructor, validator, converter or property runs.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import Any

from dbos.serialization.classes import (
    attribute,
    builtin_ancestor,
    class_order,
    find_class,
    instance_attributes,
    is_findable,
    is_settable,
    not_findable,
    own_attributes,
    set_field,
    shown_name,
    stored_name,
)
from dbos.serialization.tree import (
    ClassUnavailable,
    CorruptText,
    Kind,
    Read,
    Tree,
    TreeReader,
    TreeWriter,
    class_of,
    expect,
    fields_of,
    is_exactly,
    items_of,
)

# attrs keeps the hash of an instance here if asked to. It holds for one process only.
_CACHED_HASH = "_attrs_cached_hash"
_UNSET = object()
_new_object: Callable[[type], object] = object.__new__
_new_tuple: Callable[[type, list[Any]], tuple[Any, ...]] = tuple[Any, ...].__new__


@dataclass(frozen=True, slots=True)
class _Form:
    """One way to declare a class: how it is recognised and which fields it has."""

    tag: str
    matches: Callable[[type], bool]
    fields: Callable[[type], tuple[str, ...]]


def structure_kind(cls: type) -> Kind | None:
    """How instances of a class are written, if it is declared in a way we know."""
    if _is_enum(cls):
        return _ENUM
    if _is_model(cls):
        return _MODEL
    if _is_named_tuple(cls):
        return _NAMED_TUPLE
    return _FIELDS if any(form.matches(cls) for form in _FORMS) else None


def class_at(tree: dict[str, Tree], tag: str, matches: Callable[[type], bool]) -> type:
    """The class a node names, if it is of the tagged kind."""
    name = expect(tree[tag], str)
    cls = find_class(name)
    if not matches(cls):
        raise ClassUnavailable(shown_name(name), "is declared in another way in this process")
    return cls


def _is_enum(cls: type) -> bool:
    return enum.EnumMeta in class_order(type(cls)) and enum.Enum in class_order(cls)


def _write_enum(writer: TreeWriter, value: enum.Enum) -> Tree:
    cls = type(value)
    if not is_findable(cls):
        return writer.refused(value, not_findable(cls))
    members = _members(cls)
    # A combination of flags may have no name, whatever the declared type says.
    name: Any = value._name_
    if name is not None and members.get(name) is value:
        return {"$enum": stored_name(cls), "name": name}
    if _is_plain_flag(cls):
        return {"$enum": stored_name(cls), "flags": writer.tree(int(value._value_), ".value")}
    return writer.refused(value, "is not a named member of its enum")


def _read_enum(reader: TreeReader, tree: dict[str, Tree]) -> object:
    cls = class_at(tree, "$enum", _is_enum)
    if "flags" in tree and _is_plain_flag(cls):
        return _flags(cls, expect(reader.value(tree["flags"]), int))
    name = expect(tree["name"], str)
    member = _members(cls).get(name)
    if type(member) is not cls:
        raise ClassUnavailable(
            f"{shown_name(stored_name(cls))}.{name}", "is not a member of its enum"
        )
    return member


def _members(cls: type) -> Mapping[str, object]:
    members: Any = own_attributes(cls).get("_member_map_", {})
    if not is_exactly(members, dict):
        raise CorruptText("an enum has no members")
    return members  # type: ignore[no-any-return]


def _is_plain_flag(cls: type) -> bool:
    mixed_in = attribute(cls, "_member_type_")
    return enum.Flag in class_order(cls) and (mixed_in is object or mixed_in is int)


def _flags(cls: Any, value: int) -> object:
    known: Any = own_attributes(cls).get("_value2member_map_", {})
    if value in known:
        return known[value]
    # The stdlib's own function makes the combination; calling the class could run the user's
    # `_missing_` instead.
    missing: Any = own_attributes(enum.Flag)["_missing_"]
    combined: Any = missing.__func__(cls, value)
    if type(combined) is not cls:
        raise CorruptText("a combination of flags is not valid")
    return combined


def _is_dataclass(cls: type) -> bool:
    return type(attribute(cls, "__dataclass_fields__")) is dict and builtin_ancestor(cls) is object


def _dataclass_fields(cls: type) -> tuple[str, ...]:
    # The declaration in the shape of an instance, so that the class itself is not asked for it.
    declaration: Any = SimpleNamespace(__dataclass_fields__=attribute(cls, "__dataclass_fields__"))
    return tuple(field.name for field in dataclasses.fields(declaration))


def _is_attrs(cls: type) -> bool:
    fields = attribute(cls, "__attrs_attrs__")
    return (
        fields is not None
        and tuple in class_order(type(fields))
        and builtin_ancestor(cls) is object
    )


def _attrs_fields(cls: type) -> tuple[str, ...]:
    declared: Any = attribute(cls, "__attrs_attrs__")
    return (*(field.name for field in declared), _CACHED_HASH)


_FORMS = (
    _Form("$dataclass", _is_dataclass, _dataclass_fields),
    _Form("$attrs", _is_attrs, _attrs_fields),
)


def _write_fields(writer: TreeWriter, value: object) -> Tree:
    cls = type(value)
    form = next(form for form in _FORMS if form.matches(cls))
    names = form.fields(cls)
    if reason := _loses_something(value, names, cls):
        return writer.refused(value, reason)
    node: dict[str, Tree] = {form.tag: stored_name(cls)}
    for name in names:
        item = getattr(value, name, _UNSET)
        if item is _UNSET:
            continue
        if not is_settable(cls, name):
            return writer.refused_at(f".{name}", item, "is computed by a property of its class")
        node[name] = writer.tree(None if name == _CACHED_HASH else item, f".{name}")
    return node


def _loses_something(value: object, names: tuple[str, ...], cls: type) -> str | None:
    if not is_findable(cls):
        return not_findable(cls)
    declares = {"__dataclass_fields__", "__attrs_attrs__"} & own_attributes(cls).keys()
    if not declares and instance_attributes(value).keys() - set(names):
        return "has attributes that are not declared as fields; decorate the subclass as well"
    return None


def _reader_of(form: _Form) -> Read:
    def read(reader: TreeReader, tree: dict[str, Tree]) -> object:
        cls = class_at(tree, form.tag, form.matches)
        names = form.fields(cls)
        instance: object = _new_object(cls)
        for name, item in tree.items():
            if name == form.tag:
                continue
            _require_field(cls, name, names)
            set_field(instance, name, reader.value(item))
        _set_defaults(instance, cls, names, tree)
        return instance

    return read


def _set_defaults(
    instance: object, cls: type, names: tuple[str, ...], tree: dict[str, Tree]
) -> None:
    """Give fields that the class has gained since the value was stored their plain defaults."""
    if not _is_dataclass(cls):
        return
    fields: Any = attribute(cls, "__dataclass_fields__")
    for name in names:
        default: Any = fields[name].default
        if name not in tree and default is not dataclasses.MISSING and is_settable(cls, name):
            set_field(instance, name, default)


def _require_field(cls: type, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        shown = shown_name(stored_name(cls))
        raise ClassUnavailable(shown, f"has no field {name} in this process")


def _is_named_tuple(cls: type) -> bool:
    return builtin_ancestor(cls) is tuple and type(attribute(cls, "_fields")) is tuple


def _write_named_tuple(writer: TreeWriter, value: tuple[Any, ...]) -> Tree:
    cls = type(value)
    names = _tuple_fields(cls)
    if not is_findable(cls):
        return writer.refused(value, not_findable(cls))
    values: list[Any] = list(value)
    if instance_attributes(value) or len(values) != len(names):
        return writer.refused(value, "has more than its declared fields")
    node: dict[str, Tree] = {"$namedtuple": stored_name(cls)}
    for name, item in zip(names, values, strict=True):
        node[name] = writer.tree(item, f".{name}")
    return node


def _read_named_tuple(reader: TreeReader, tree: dict[str, Tree]) -> tuple[Any, ...]:
    cls: Any = class_at(tree, "$namedtuple", _is_named_tuple)
    names = _tuple_fields(cls)
    for name in tree.keys() - {"$namedtuple"}:
        _require_field(cls, name, names)
    defaults: Any = attribute(cls, "_field_defaults") or {}
    items: list[Any] = []
    for name in names:
        if name in tree:
            items.append(reader.value(tree[name]))
        elif name in defaults:
            items.append(defaults[name])
        else:
            shown = shown_name(stored_name(cls))
            raise ClassUnavailable(shown, f"has a field {name} here that was not stored")
    rebuilt: tuple[Any, ...] = _new_tuple(cls, items)
    return rebuilt


def _tuple_fields(cls: type) -> tuple[str, ...]:
    names: Any = attribute(cls, "_fields")
    return tuple(expect(name, str) for name in names)


def _is_model(cls: type) -> bool:
    module = sys.modules.get("pydantic.main")
    return module is not None and module.__dict__.get("BaseModel") in class_order(cls)[1:]


def _write_model(writer: TreeWriter, value: Any) -> Tree:
    cls = class_of(value)
    if not is_findable(cls):
        return writer.refused(value, not_findable(cls))
    fields: dict[str, Tree] = {}
    for name, item in instance_attributes(value).items():
        if name in _model_fields(cls):
            fields[name] = writer.tree(item, f".{name}")
    private: dict[str, Tree] = {}
    stored_privately: dict[str, Any] = value.__pydantic_private__ or {}
    for name, item in stored_privately.items():
        private[name] = writer.tree(item, f".{name}")
    return {
        "$model": stored_name(cls),
        "fields": fields,
        "given": sorted(value.__pydantic_fields_set__),
        "extra": writer.tree(value.__pydantic_extra__, ""),
        "private": None if value.__pydantic_private__ is None else private,
    }


def _read_model(reader: TreeReader, tree: dict[str, Tree]) -> object:
    cls = class_at(tree, "$model", _is_model)
    fields = _mapping(reader, tree["fields"])
    for name in fields:
        _require_field(cls, name, tuple(_model_fields(cls)))
    instance: object = _new_object(cls)
    instance_attributes(instance).update(fields)
    given = {expect(name, str) for name in items_of(tree["given"])}
    set_field(instance, "__pydantic_fields_set__", given)
    set_field(instance, "__pydantic_extra__", reader.value(tree["extra"]))
    private = tree["private"]
    values = None if private is None else _mapping(reader, private)
    set_field(instance, "__pydantic_private__", values)
    return instance


def _mapping(reader: TreeReader, tree: Tree) -> dict[str, Any]:
    """Read an object whose keys are names and never tags."""
    result: dict[str, Any] = {}
    for name, item in fields_of(tree).items():
        result[name] = reader.value(item)
    return result


def _model_fields(cls: type) -> Mapping[str, object]:
    # Older releases of pydantic 2 keep the declaration under its public name.
    for name in ("__pydantic_fields__", "model_fields"):
        fields: Any = own_attributes(cls).get(name)
        if is_exactly(fields, dict):
            return fields  # type: ignore[no-any-return]
    return {}


_ENUM = Kind(_write_enum, 2)
_MODEL = Kind(_write_model, 2)
_NAMED_TUPLE = Kind(_write_named_tuple, 2)
_FIELDS = Kind(_write_fields, 2)

READERS: Mapping[str, Read] = MappingProxyType(
    {
        "$enum": _read_enum,
        "$model": _read_model,
        "$namedtuple": _read_named_tuple,
        **{form.tag: _reader_of(form) for form in _FORMS},
    }
)
