"""Classes that would do harm if reading a stored value ran any of their code."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CANARY = "PERDURE_TEST_CANARY"


def bite() -> None:
    """Leave a trace that this was called."""
    if CANARY in os.environ:
        Path(os.environ[CANARY]).write_text("bitten")


class _BitingMeta(enum.EnumMeta):
    # The enum machinery itself makes calls while the class is defined, when no canary is set.
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        bite()
        return super().__call__(*args, **kwargs)

    def __getitem__(cls, name: str) -> Any:
        bite()
        return super().__getitem__(name)

    def __getattribute__(cls, name: str) -> Any:
        bite()
        return super().__getattribute__(name)


class BitingEnum(enum.Enum, metaclass=_BitingMeta):
    ONE = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        bite()
        return cls.ONE


class BitingFlag(enum.Flag):
    ONE = 1
    TWO = 2

    @classmethod
    def _missing_(cls, value: object) -> Any:
        bite()
        return super()._missing_(value)


class BitingError(Exception):
    def __new__(cls, *args: Any) -> BitingError:
        bite()
        return super().__new__(cls, *args)

    def __init__(self, *args: Any) -> None:
        bite()
        super().__init__(*args)

    def __setstate__(self, state: Any) -> None:
        bite()

    def __reduce__(self) -> Any:
        bite()
        return super().__reduce__()

    def __setattr__(self, name: str, value: Any) -> None:
        bite()
        super().__setattr__(name, value)

    @property
    def reason(self) -> Any:
        bite()
        return None

    @reason.setter
    def reason(self, value: Any) -> None:
        bite()


@dataclass
class BitingRecord:
    x: int

    def __new__(cls, *args: Any) -> BitingRecord:
        bite()
        return super().__new__(cls)

    def __post_init__(self) -> None:
        bite()

    def __setattr__(self, name: str, value: Any) -> None:
        bite()
        super().__setattr__(name, value)

    def __setstate__(self, state: Any) -> None:
        bite()


class BitingPair(tuple[Any, ...]):
    _fields = ("a",)

    def __new__(cls, *args: Any) -> BitingPair:
        bite()
        return super().__new__(cls, *args)


def __getattr__(name: str) -> Any:
    bite()
    raise AttributeError(name)
