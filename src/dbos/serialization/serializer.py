"""What a serializer is, and the formats a caller can ask for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Any


class WorkflowSerializationFormat(str, Enum):  # noqa: UP042 - its text is that of `str, Enum`.
    """The format a caller asks for. Compare members, not their values.

    `PORTABLE` is plain JSON that other languages read. `NATIVE` is the configured serializer.
    `DEFAULT` is the format of the current workflow inside one, else the configured serializer.
    """

    PORTABLE = "portable"
    NATIVE = "native"
    DEFAULT = "None"


class Serializer(ABC):
    """Turns values into text for the database and back.

    Subclass it to store values in a format of your own, and configure the instance as `serializer`
    in `DBOSConfig` and in every `DBOSClient`. Rows record the name of their format, so give each
    format a name of its own; only processes with that serializer can read them.

    `serialize` must raise if it cannot store a value. Its text must not contain NUL characters.
    """

    @abstractmethod
    def serialize(self, data: Any) -> str:
        """Return the text to store for a value. Raise any exception if it cannot be stored."""

    @abstractmethod
    def deserialize(self, serialized_data: str) -> Any:
        """Return the value of a text that `serialize` wrote. Raise if it is not one."""

    def name(self) -> str:
        """Return the name of the format, which is stored beside each value."""
        return "custom_serializer"
