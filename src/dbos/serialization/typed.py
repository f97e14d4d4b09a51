"""The default format: JSON with tags for types, which is read without running stored code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from dbos.serialization import containers, failures, moments, scalars, structures
from dbos.serialization.refusals import reason_for
from dbos.serialization.serializer import Serializer
from dbos.serialization.stored import unreadable
from dbos.serialization.tree import (
    CorruptText,
    Dialect,
    Kind,
    Read,
    TreeReader,
    TreeWriter,
    arguments_of,
    is_plain,
    parsed,
    write_leniently,
    write_text,
    written,
)

NAME = "json"

_TAG_MARK = '"$'
_ARGUMENTS_HEAD = '{"args":{"$tuple":['
_KINDS: Mapping[type, Kind] = MappingProxyType(
    {**scalars.KINDS, **moments.KINDS, **containers.KINDS}
)
_READERS: Mapping[str, Read] = MappingProxyType(
    {
        **scalars.READERS,
        **moments.READERS,
        **containers.READERS,
        **structures.READERS,
        **failures.READERS,
    }
)


def _find(cls: type) -> Kind | None:
    return _KINDS.get(cls) or failures.exception_kind(cls) or structures.structure_kind(cls)


_DIALECT = Dialect(_find, containers.is_object, reason_for, has_tags=True)


class TypedFormat:
    """Reads and writes payloads of the format `json`."""

    __slots__ = ()

    def dump(self, value: object, root: str) -> str:
        """Write a value; `root` is what its paths start with."""
        return write_text(_DIALECT, value, root)

    def load(self, text: str) -> Any:
        """Read a value."""
        if _TAG_MARK not in text:
            return parsed(text)
        return TreeReader(_READERS).value(parsed(text))

    def dump_error(self, error: BaseException) -> str:
        """Write an error, whatever it carries."""
        try:
            return write_leniently(_DIALECT, error, "error")
        except Exception:
            # Its parts misbehave when they are looked at. Its name and text are all that is left.
            return write_leniently(_DIALECT, failures.stand_in(error), "error")

    def load_error(self, text: str) -> BaseException:
        """Read an error."""
        error = self.load(text)
        if not isinstance(error, BaseException):
            raise CorruptText("the text is not that of an error")
        return failures.raisable(error)

    def dump_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Write the arguments of a call: the value `{"args": args, "kwargs": kwargs}`."""
        value = {"args": {"$tuple": list(args)}, "kwargs": kwargs}
        if is_plain(value):
            try:
                text = msgspec.json.encode(value).decode()
            except (ValueError, RecursionError):
                pass
            else:
                if text.count(_TAG_MARK) == 1:
                    return text
        parts = {
            "args": written(TreeWriter(_DIALECT), args, "args"),
            "kwargs": written(TreeWriter(_DIALECT), kwargs, "kwargs"),
        }
        return msgspec.json.encode(parts).decode()

    def load_arguments(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read the arguments of a call."""
        if text.startswith(_ARGUMENTS_HEAD) and text.count(_TAG_MARK) == 1:
            plain: Any = parsed(text)
            value: Any = {**plain, "args": tuple(plain["args"]["$tuple"])}
        else:
            value = self.load(text)
        return arguments_of(value, tuple)


class JSONSerializer(Serializer):
    """The default serializer: JSON that keeps Python types exactly.

    Kept are None, bool, int, float, str, bytes, complex, range, list, tuple, set, frozenset, dict
    with any supported keys, datetime, date, time, timedelta, Decimal, UUID, pathlib paths, enum
    members, dataclasses, NamedTuples, attrs classes, pydantic models and exceptions. Everything
    else is refused with a `DBOSSerializationError` that names the path, and so are subclasses of
    builtins.

    Reading runs no code chosen by the stored text: nothing is unpickled, imported or called, and
    instances are rebuilt without their constructors.

        JSONSerializer().deserialize(JSONSerializer().serialize({"when": date(2024, 5, 1)}))
    """

    def serialize(self, data: Any) -> str:
        """Return the text of a value, or raise `DBOSSerializationError`."""
        return TypedFormat().dump(data, "value")

    def deserialize(self, serialized_data: str) -> Any:
        """Return the value of a text.

        Raises `DBOSStoredDataError` if the text is corrupt, and `DBOSSerializationError` if it
        needs a class that this process has not imported.
        """
        try:
            return TypedFormat().load(serialized_data)
        except Exception as error:
            raise unreadable(error) from None

    def name(self) -> str:
        """Return "json"."""
        return NAME
