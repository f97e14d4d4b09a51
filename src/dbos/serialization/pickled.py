"""The opt-in to pickle, and how formats made by a `Serializer` hold errors and arguments."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from dbos.errors import DBOSException, DBOSSerializationError, RestoredError
from dbos.serialization.failures import (
    raisable,
    stand_in,
    with_parts,
)
from dbos.serialization.refusals import refusal, text_of
from dbos.serialization.scalars import is_encodable
from dbos.serialization.serializer import Serializer
from dbos.serialization.tree import CorruptText, arguments_of, is_exactly

NAME = "py_pickle"


class PickleSerializer(Serializer):
    """Stores values as pickles, so that nearly any object can be passed. An explicit opt-in.

    Unpickling runs code that the stored bytes choose: anyone who can write to the database can then
    run code in every process that is configured with this serializer. Prefer the default unless you
    need objects it refuses.

    A process with this serializer also reads values in the formats `json` and `portable_json`, so a
    system can move from pickle to JSON and back with workflows in flight.
    """

    def serialize(self, data: Any) -> str:
        """Return the pickle of a value in base64. Raises `DBOSSerializationError`."""
        try:
            return base64.b64encode(pickle.dumps(data)).decode()
        except Exception as error:
            reason = f"cannot be pickled ({type(error).__name__}); pass plain data"
            raise refusal("value", data, reason) from None

    def deserialize(self, serialized_data: str) -> Any:
        """Return the value of a pickle in base64. This runs code that the pickle chooses."""
        return pickle.loads(base64.b64decode(serialized_data, validate=True))

    def name(self) -> str:
        """Return "py_pickle"."""
        return NAME


class SerializerFormat:
    """Reads and writes payloads through a `Serializer` that the user configured."""

    __slots__ = ("_name", "_serializer")

    def __init__(self, serializer: Serializer) -> None:
        self._serializer = serializer
        self._name = serializer.name()

    def dump(self, value: object, root: str) -> str:
        """Write a value; `root` is what its path is."""
        try:
            text: object = self._serializer.serialize(value)
        except DBOSSerializationError:
            raise self._refused(root, value) from None
        except Exception as error:
            raise self._refused(root, value, type(error).__name__) from None
        if type(text) is not str:
            raise self._refused(root, value, f"it returned {type(text).__name__}, not str")
        if "\0" in text or not is_encodable(text):
            raise self._refused(root, value, "its text has characters that no database holds")
        return text

    def load(self, text: str) -> Any:
        """Read a value."""
        return self._serializer.deserialize(text)

    def dump_error(self, error: BaseException) -> str:
        """Write an error, as itself if that can be read again, else as what can be."""
        for candidate in self._candidates(error):
            try:
                text = self.dump(candidate, "error")
                restored = self.load(text)
            except Exception:
                # The next candidate says less and is easier to store.
                continue
            if type(restored) is type(candidate):
                return text
        raise refusal("error", error, f"has no form that {self._name} can write and read")

    def load_error(self, text: str) -> BaseException:
        """Read an error."""
        value = self.load(text)
        if isinstance(value, BaseException):
            return raisable(value)
        if not is_exactly(value, dict):
            raise CorruptText("the text is not that of an error")
        return RestoredError(str(value["name"]), str(value["message"]), ())

    def dump_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Write the arguments of a call: the value `{"args": args, "kwargs": kwargs}`."""
        try:
            return self.dump({"args": args, "kwargs": kwargs}, "args")
        except DBOSSerializationError:
            # Find the one that is to blame, for the text of the error.
            for index, value in enumerate(args):
                self.dump(value, f"args[{index}]")
            for name, value in kwargs.items():
                self.dump(value, f"kwargs[{name!r}]")
            raise

    def load_arguments(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read the arguments of a call."""
        value = self.load(text)
        # Formats without tuples give the arguments back as a list.
        has_list = is_exactly(value, dict) and is_exactly(value["args"], list)
        return arguments_of(value, list if has_list else tuple)

    def _candidates(self, error: BaseException) -> Iterator[object]:
        yield error
        # Classes that cannot be made again without their constructor have no such copy.
        with suppress(Exception):
            yield with_parts(error, self._storable)
        yield stand_in(error, self._storable)
        plain = stand_in(error)
        yield {"name": plain.name, "message": plain.message}

    def _storable(self, value: object) -> object:
        try:
            self.load(self.dump(value, "error"))
        except Exception:
            return text_of(value)
        return value

    def _refused(self, path: str, value: object, why: str = "") -> DBOSException:
        cause = f" ({why})" if why else ""
        reason = f"cannot be serialized as {self._name}{cause}; pass plain data"
        return refusal(path, value, reason)
