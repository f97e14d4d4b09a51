"""The codec of an engine: which format a payload has, and the way in and out of it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Protocol

from dbos.errors import (
    DBOSInitializationError,
    DBOSInvalidInputError,
    DBOSSerializationError,
)
from dbos.serialization import pickled, portable, typed
from dbos.serialization.pickled import PickleSerializer, SerializerFormat
from dbos.serialization.portable import DBOSPortableJSONSerializer, PortableFormat
from dbos.serialization.serializer import Serializer, WorkflowSerializationFormat
from dbos.serialization.stored import Stored, unreadable
from dbos.serialization.tree import CorruptText
from dbos.serialization.typed import JSONSerializer, TypedFormat

__all__ = [
    "Codec",
    "Format",
    "Serializer",
    "Stored",
    "WorkflowSerializationFormat",
    "requested_format",
]

_RESERVED = MappingProxyType(
    {
        typed.NAME: JSONSerializer,
        portable.NAME: DBOSPortableJSONSerializer,
        pickled.NAME: PickleSerializer,
    }
)


class Format(Protocol):
    """One way to store payloads. What it raises on reading, the codec puts into words."""

    def dump(self, value: object, root: str) -> str: ...

    def load(self, text: str) -> Any: ...

    def dump_error(self, error: BaseException) -> str: ...

    def load_error(self, text: str) -> BaseException: ...

    def dump_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str: ...

    def load_arguments(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]: ...


class Codec:
    """Writes and reads the payloads of one engine, each in the format its row names."""

    __slots__ = ("_formats", "native", "readable")

    native: str
    """The name of the configured format."""
    readable: frozenset[str]
    """The names of the formats this process can read and write."""

    def __init__(self, configured: Serializer) -> None:
        self.native = _checked_name(configured)
        formats: dict[str, Format] = {typed.NAME: TypedFormat(), portable.NAME: PortableFormat()}
        if type(configured) not in (JSONSerializer, DBOSPortableJSONSerializer):
            formats[self.native] = SerializerFormat(configured)
        self._formats = formats
        self.readable = frozenset(formats)

    def format_for(self, requested: WorkflowSerializationFormat, run_format: str | None) -> str:
        """The name of the format a caller asks for, in a run of that format or outside of any."""
        if requested is WorkflowSerializationFormat.PORTABLE:
            return portable.NAME
        if requested is WorkflowSerializationFormat.NATIVE or run_format is None:
            return self.native
        return run_format

    def dump(self, value: Any, root: str, format: str) -> str:
        """Write a value, or raise `DBOSSerializationError` with a path that starts with `root`."""
        return self._writing(format).dump(value, root)

    def load(self, text: str | None, format: str | None, where: Stored) -> Any:
        """Read a value; no text is None."""
        if text is None:
            return None
        chosen = self._reading(format, where)
        try:
            return chosen.load(text)
        except Exception as error:
            raise unreadable(error, where) from None

    def dump_error(self, error: BaseException, format: str) -> str:
        """Write an error; parts of it that cannot be stored are replaced by their text."""
        return self._writing(format).dump_error(error)

    def load_error(self, text: str | None, format: str | None, where: Stored) -> BaseException:
        """Read an error: one to raise, which is never a foreign BaseException."""
        chosen = self._reading(format, where)
        try:
            return chosen.load_error(_present(text))
        except Exception as error:
            raise unreadable(error, where) from None

    def dump_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any], format: str) -> str:
        """Write the arguments of a call; paths start with `args[i]` or `kwargs['name']`."""
        return self._writing(format).dump_arguments(args, kwargs)

    def load_arguments(
        self, text: str | None, format: str | None, where: Stored
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read the arguments of a call."""
        chosen = self._reading(format, where)
        try:
            return chosen.load_arguments(_present(text))
        except Exception as error:
            raise unreadable(error, where) from None

    @property
    def unnamed(self) -> str:
        """The format of rows that name none."""
        return self._name_of(None)

    def can_read(self, format: str | None) -> bool:
        """Whether this process can read payloads of a row that names that format, or none."""
        return self._name_of(format) in self._formats

    def _name_of(self, format: str | None) -> str:
        # Rows without a format are older rows of the reference: pickles, unless its serializer was
        # a custom one, which then is the one configured here.
        if format is not None:
            return format
        return self.native if self.native not in _RESERVED else pickled.NAME

    def _writing(self, format: str) -> Format:
        chosen = self._formats.get(format)
        if chosen is None:
            raise DBOSSerializationError(f"cannot write: {_not_available(format)}")
        return chosen

    def _reading(self, format: str | None, where: Stored) -> Format:
        name = self._name_of(format)
        chosen = self._formats.get(name)
        if chosen is None:
            raise DBOSSerializationError(f"cannot read {where}: {_not_available(name)}")
        return chosen


def _present(text: str | None) -> str:
    if text is None:
        raise CorruptText("there is no text")
    return text


def requested_format(value: object) -> WorkflowSerializationFormat:
    """The `serialization_type` of a call, checked; None is the default."""
    if value is None:
        return WorkflowSerializationFormat.DEFAULT
    if not isinstance(value, WorkflowSerializationFormat):
        raise DBOSInvalidInputError(
            "serialization_type must be a member of WorkflowSerializationFormat, not "
            f"{type(value).__name__}"
        )
    return value


def _checked_name(configured: Serializer) -> str:
    name = configured.name()
    if type(name) is not str or not name:
        raise DBOSInitializationError("serializer.name() must return a str that is not empty")
    if name in _RESERVED and not isinstance(configured, _RESERVED[name]):
        raise DBOSInitializationError(
            f"the serializer name {name} is reserved for {_RESERVED[name].__name__}; return "
            "another from name()"
        )
    return name


def _not_available(format: str) -> str:
    if format == pickled.NAME:
        return (
            f"the serialization format {format} is not available here, because unpickling runs "
            "code that the stored bytes choose; if you trust the database, set "
            "serializer=PickleSerializer()"
        )
    return (
        f"the serialization format {format} is not available here; configure the serializer that "
        "wrote it"
    )
