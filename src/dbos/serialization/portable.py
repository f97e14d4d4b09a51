"""The portable format: plain JSON that processes in other languages read and write."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec

from dbos.errors import DBOSSerializationError, PortableWorkflowError, RestoredError
from dbos.serialization.classes import class_order
from dbos.serialization.containers import in_stable_order
from dbos.serialization.refusals import key_segment, storable, text_of
from dbos.serialization.scalars import is_encodable, write_itself
from dbos.serialization.serializer import Serializer
from dbos.serialization.stored import unreadable
from dbos.serialization.tree import (
    CorruptText,
    Dialect,
    Kind,
    Tree,
    TreeWriter,
    fields_of,
    is_plain,
    items_of,
    parsed,
    write_text,
    written,
)

NAME = "portable_json"

_CODES = ("code", "error_code", "errno", "status", "status_code")
_DATA = ("data", "details", "payload", "extra", "meta", "metadata")
_REFUSED = (
    "is not portable JSON serializable; pass plain JSON data, or use the configured serializer"
)
# The interpreter converts at most 4300 decimal digits.
_MAX_INT_BITS = 14_000


def _reason(_value: object) -> str:
    return _REFUSED


def _is_object(value: dict[Any, Any]) -> bool:
    return all(type(key) is str and is_encodable(key) for key in value)


def _write_int(writer: TreeWriter, value: int) -> Tree:
    return int(value) if value.bit_length() <= _MAX_INT_BITS else writer.refused(value, _REFUSED)


def _write_float(writer: TreeWriter, value: float) -> Tree:
    return float(value) if math.isfinite(value) else writer.refused(value, _REFUSED)


def _write_str(writer: TreeWriter, value: str) -> Tree:
    return str.__str__(value) if is_encodable(value) else writer.refused(value, _REFUSED)


def _write_decimal(writer: TreeWriter, value: Decimal) -> Tree:
    return format(value, "f") if value.is_finite() else writer.refused(value, _REFUSED)


def _write_datetime(writer: TreeWriter, value: datetime) -> Tree:
    try:
        moment = value.replace(tzinfo=None) if value.tzinfo is None else _in_utc(value)
    except OverflowError:
        return writer.refused(value, _REFUSED)
    return moment.isoformat(timespec="milliseconds") + "Z"


def _in_utc(value: datetime) -> datetime:
    return value.astimezone(timezone.utc).replace(tzinfo=None)  # noqa: UP017


def _write_date(_writer: TreeWriter, value: date) -> Tree:
    return value.isoformat()


def _write_sequence(writer: TreeWriter, value: Iterable[Any]) -> Tree:
    items: list[Tree] = []
    for index, item in enumerate(value):
        items.append(writer.tree(item, f"[{index}]"))
    return items


def _write_set(writer: TreeWriter, value: Iterable[Any]) -> Tree:
    items: list[Tree] = []
    for item in value:
        items.append(writer.tree(item, "{...}"))
    return in_stable_order(items)


def _write_mapping(writer: TreeWriter, value: Mapping[Any, Any]) -> Tree:
    fields: dict[str, Tree] = {}
    for key, item in value.items():
        if not isinstance(key, str) or not is_encodable(key):
            return writer.refused_at(key_segment(key), key, f"is a key that {_REFUSED}")
        fields[str.__str__(key)] = writer.tree(item, key_segment(key))
    return fields


_MAPPING = Kind(_write_mapping, 2)
_KINDS: Mapping[type, Kind] = MappingProxyType(
    {
        type(None): Kind(write_itself, 0),
        bool: Kind(write_itself, 0),
        int: Kind(_write_int, 0),
        float: Kind(_write_float, 0),
        str: Kind(_write_str, 0),
        Decimal: Kind(_write_decimal, 0),
        datetime: Kind(_write_datetime, 0),
        date: Kind(_write_date, 0),
        list: Kind(_write_sequence, 1),
        tuple: Kind(_write_sequence, 2),
        set: Kind(_write_set, 2),
        frozenset: Kind(_write_set, 2),
        dict: _MAPPING,
    }
)


def _find(cls: type) -> Kind | None:
    # Plain JSON has no types to keep, so subclasses are written as what they are made of.
    for base in class_order(cls):
        if base in _KINDS:
            return _KINDS[base]
    return _MAPPING if issubclass(cls, Mapping) else None


_DIALECT = Dialect(_find, _is_object, _reason, has_tags=False)


class PortableFormat:
    """Reads and writes payloads of the format `portable_json`."""

    __slots__ = ()

    def dump(self, value: object, root: str) -> str:
        """Write a value; `root` is what its paths start with."""
        return write_text(_DIALECT, value, root)

    def load(self, text: str) -> Any:
        """Read a value."""
        try:
            return parsed(text)
        except CorruptText:
            # Others may write lone surrogates as escapes, which only the slow parser takes.
            return json.loads(text, parse_constant=_refuse_constant)

    def dump_error(self, error: BaseException) -> str:
        """Write an error as `name`, `message`, `code` and, if it carries any, `data`."""
        node: dict[str, Tree] = {
            "name": _name_of(error),
            "message": text_of(error),
            "code": _code_of(error),
        }
        data = _first(error, _DATA, _is_given)
        if data is not None:
            node["data"] = _attachment(data)
        return msgspec.json.encode(node).decode()

    def load_error(self, text: str) -> BaseException:
        """Read an error."""
        node = fields_of(self.load(text))
        code = node.get("code")
        return PortableWorkflowError(
            _as_text(node.get("message", "")),
            _as_text(node.get("name", "Error")),
            code if isinstance(code, int | str) else None,
            node.get("data"),
        )

    def dump_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Write the arguments of a call."""
        value = {"namedArgs": kwargs, "positionalArgs": list(args)}
        if is_plain(value):
            try:
                return msgspec.json.encode(value).decode()
            except (ValueError, RecursionError):
                # The walk finds out which part it is.
                pass
        parts = {
            "namedArgs": written(TreeWriter(_DIALECT), kwargs, "kwargs"),
            "positionalArgs": written(TreeWriter(_DIALECT), list(args), "args"),
        }
        return msgspec.json.encode(parts).decode()

    def load_arguments(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read the arguments of a call; either kind may be missing."""
        value = fields_of(self.load(text))
        args = items_of(value.get("positionalArgs", []))
        kwargs: dict[str, Any] = {**fields_of(value.get("namedArgs", {}))}
        return tuple(args), kwargs


class DBOSPortableJSONSerializer(Serializer):
    """Stores plain JSON that processes in other languages read and write.

    datetime becomes UTC text with milliseconds and `Z` (a naive one is taken as UTC), date ISO
    text, Decimal plain text, tuple, list and set arrays, and a mapping with str keys an object.
    Values come back as plain JSON data. Anything else, NaN and infinities are refused with
    `DBOSSerializationError`.
    """

    def serialize(self, data: Any) -> str:
        """Return the text of a value, or raise `DBOSSerializationError`."""
        return PortableFormat().dump(data, "value")

    def deserialize(self, serialized_data: str) -> Any:
        """Return the data of a text. Raises `DBOSStoredDataError` if it is not JSON."""
        try:
            return PortableFormat().load(serialized_data)
        except Exception as error:
            raise unreadable(error) from None

    def name(self) -> str:
        """Return "portable_json"."""
        return NAME


def _refuse_constant(_name: str) -> object:
    raise CorruptText("JSON has no such number")


def _name_of(error: BaseException) -> str:
    if isinstance(error, PortableWorkflowError | RestoredError):
        return storable(error.name)
    return type(error).__name__


def _code_of(error: BaseException) -> int | str | None:
    code = _first(error, _CODES, _is_code)
    if isinstance(code, int):
        return int(code) if code.bit_length() <= _MAX_INT_BITS else None
    return storable(str.__str__(code)) if isinstance(code, str) else None


def _attachment(data: object) -> Tree:
    try:
        return written(TreeWriter(_DIALECT), data, "data")
    except DBOSSerializationError:
        return text_of(data)


def _first(error: BaseException, names: Iterable[str], fits: Callable[[object], bool]) -> object:
    for name in names:
        try:
            value = getattr(error, name)
        except Exception:
            # A property that fails is as good as none.
            continue
        if fits(value):
            return value
    return None


def _is_code(value: object) -> bool:
    return value is None or isinstance(value, int | str)


def _is_given(value: object) -> bool:
    return value is not None


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else str(value)
