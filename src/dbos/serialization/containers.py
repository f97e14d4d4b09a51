"""Nodes for the builtin containers: lists, objects, and tags for those JSON does not have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from dbos.serialization.refusals import key_segment
from dbos.serialization.scalars import is_encodable, write_itself
from dbos.serialization.tree import (
    CorruptText,
    Kind,
    Read,
    Tree,
    TreeReader,
    TreeWriter,
    items_of,
)


def is_object(value: dict[Any, Any]) -> bool:
    """Whether a dict can be written as a JSON object that is not mistaken for a tag."""
    return all(type(key) is str and key[:1] != "$" and is_encodable(key) for key in value)


def in_stable_order(items: Iterable[Tree]) -> list[Tree]:
    """Order trees by their text, so that equal sets have equal texts."""
    return sorted(items, key=msgspec.json.encode)


def _write_pairs(writer: TreeWriter, value: dict[Any, Any]) -> Tree:
    flat: list[Tree] = []
    for index, (key, item) in enumerate(value.items()):
        flat.append(writer.tree(key, f".keys()[{index}]"))
        flat.append(writer.tree(item, key_segment(key)))
    return {"$dict": flat}


def _read_pairs(reader: TreeReader, tree: dict[str, Tree]) -> dict[Any, Any]:
    flat = items_of(tree["$dict"])
    if len(flat) % 2:
        raise CorruptText("a dict has a key without a value")
    result: dict[Any, Any] = {}
    for index in range(0, len(flat), 2):
        result[reader.value(flat[index])] = reader.value(flat[index + 1])
    return result


def _write_tuple(writer: TreeWriter, value: tuple[Any, ...]) -> Tree:
    items: list[Tree] = []
    for index, item in enumerate(value):
        items.append(writer.tree(item, f"[{index}]"))
    return {"$tuple": items}


def _read_tuple(reader: TreeReader, tree: dict[str, Tree]) -> tuple[Any, ...]:
    return tuple(reader.value(items_of(tree["$tuple"])))


def _write_set(writer: TreeWriter, value: set[Any]) -> Tree:
    return {"$set": _members(writer, value)}


def _read_set(reader: TreeReader, tree: dict[str, Tree]) -> set[Any]:
    return set(reader.value(items_of(tree["$set"])))


def _write_frozenset(writer: TreeWriter, value: frozenset[Any]) -> Tree:
    return {"$frozenset": _members(writer, value)}


def _read_frozenset(reader: TreeReader, tree: dict[str, Tree]) -> frozenset[Any]:
    return frozenset(reader.value(items_of(tree["$frozenset"])))


def _members(writer: TreeWriter, value: Iterable[Any]) -> Tree:
    items: list[Tree] = []
    for item in value:
        items.append(writer.tree(item, "{...}"))
    return in_stable_order(items)


KINDS: Mapping[type, Kind] = MappingProxyType(
    {
        # The walk writes lists and objects itself and calls only for what they cannot express.
        list: Kind(write_itself, 1),
        dict: Kind(_write_pairs, 2),
        tuple: Kind(_write_tuple, 2),
        set: Kind(_write_set, 2),
        frozenset: Kind(_write_frozenset, 2),
    }
)

READERS: Mapping[str, Read] = MappingProxyType(
    {
        "$dict": _read_pairs,
        "$tuple": _read_tuple,
        "$set": _read_set,
        "$frozenset": _read_frozenset,
    }
)
