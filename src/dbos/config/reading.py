"""Typed reading of configuration values, each refusal naming its key and never its value."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from dbos import validation
from dbos.errors import DBOSInitializationError, DBOSInvalidInputError

_Value = TypeVar("_Value")
_Choice = TypeVar("_Choice", bound=str)


@dataclass(frozen=True, slots=True)
class ConfigReader:
    """Reads the values of one mapping. None counts as absent, except where `has` is asked."""

    values: Mapping[str, object] = field(repr=False)
    prefix: str = ""
    """What stands before the keys in messages, such as `failover.`."""

    def has(self, key: str) -> bool:
        """Whether the key is there, even with None."""
        return key in self.values

    def get(self, key: str) -> object | None:
        """The value as the user wrote it."""
        return self.values.get(key)

    def text(self, key: str) -> str | None:
        """A text that is not blank. An empty one, as of an unset variable, counts as absent."""
        value = self.get(key)
        if value is None or value == "":
            return None
        return self._checked(validation.identifier, value, key)

    def url(self, key: str) -> str | None:
        """A URL; an empty one counts as absent. Its length is not limited."""
        value = self.get(key)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise self._wrong_type(key, "a str", value)
        if "\0" in value:
            raise self.refusal(key, "must not contain a NUL character")
        return value

    def switch(self, key: str, default: bool) -> bool:
        """A bool."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong_type(key, "a bool", value)
        return value

    def whole(self, key: str, least: int, most: int = validation.LARGEST_INTEGER) -> int | None:
        """An integer within bounds."""
        value = self.get(key)
        if value is None:
            return None
        return self._checked(
            lambda given, name: validation.whole_number(given, name, least, most), value, key
        )

    def seconds(self, key: str, default: float, least: float) -> float:
        """A number of seconds of at least `least`."""
        value = self.get(key)
        if value is None:
            return default
        seconds = self._checked(validation.duration, value, key)
        if seconds < least:
            raise self.refusal(key, f"must be finite and at least {least}")
        return seconds

    def limit_s(self, key: str, default: float) -> float | None:
        """A positive number of seconds; an explicit None switches the limit off."""
        if not self.has(key):
            return default
        value = self.get(key)
        if value is None:
            return None
        seconds = self._checked(validation.duration, value, key)
        if seconds <= 0:
            raise self.refusal(key, "must be above 0; use None for no limit")
        return seconds

    def choice(self, key: str, choices: Sequence[_Choice]) -> _Choice:
        """One of several words, the first of which is the default."""
        value = self.get(key)
        if value is None:
            return choices[0]
        for choice in choices:
            if value == choice:
                return choice
        raise self.refusal(key, f"must be one of {', '.join(map(repr, choices))}")

    def level(self, key: str, default: int) -> int:
        """A logging level by name, in upper or lower case."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong_type(key, "the name of a logging level", value)
        level = logging.getLevelNamesMapping().get(value.strip().upper())
        if level is None:
            raise self.refusal(key, "must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
        return level

    def mapping(self, key: str) -> dict[str, object]:
        """A copy of a dict with str keys; an absent one is empty."""
        value = self.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self._wrong_type(key, "a dict", value)
        copied = dict(cast("Mapping[object, object]", value))
        if not all(isinstance(name, str) for name in copied):
            raise self.refusal(key, "must have str keys")
        return cast("dict[str, object]", copied)

    def nested(self, key: str) -> ConfigReader:
        """A reader for the dict under a key."""
        return ConfigReader(self.mapping(key), f"{self.prefix}{key}.")

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self.get(key)
        if value is None:
            return ()
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self._wrong_type(key, "a list of str", value)
        items = tuple(cast("Sequence[object]", value))
        if not all(isinstance(item, str) and item for item in items):
            raise self.refusal(key, "must be a list of str that are not empty")
        return cast("tuple[str, ...]", items)

    def unknown(self, known: frozenset[str]) -> list[str]:
        """The keys that mean nothing to us, as they may be shown."""
        strange = [str(key) for key in self.values if key not in known]
        return [f"{self.prefix}{validation.shown(key)}" for key in sorted(strange)]

    def refusal(self, key: str, problem: str) -> DBOSInitializationError:
        """The error for a value that cannot be used."""
        return DBOSInitializationError(f"Configuration key {self.prefix}{key} {problem}")

    def _wrong_type(self, key: str, wanted: str, value: object) -> DBOSInitializationError:
        return self.refusal(key, f"must be {wanted}, not {type(value).__name__}")

    def _checked(self, check: Callable[[object, str], _Value], value: object, key: str) -> _Value:
        name = f"{self.prefix}{key}"
        try:
            return check(value, name)
        except DBOSInvalidInputError as error:
            raise DBOSInitializationError(f"Configuration key {error.message}") from None
