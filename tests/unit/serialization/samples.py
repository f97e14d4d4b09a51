"""Classes of every kind that can be stored, and one exact comparison for them all."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import attrs
import pydantic


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 1
    BLUE = ("b", 2)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mode(enum.StrEnum):
    FAST = "fast"
    SLOW = "slow"


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


class Outer:
    class Shape(enum.Enum):
        ROUND = "round"


@dataclass
class Point:
    x: Any
    y: Any = 0


@dataclass(frozen=True)
class Frozen:
    name: Any
    tags: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Slotted:
    value: Any
    other: Any = None


@dataclass(slots=True)
class SlottedChild(Point):
    z: Any = None


@dataclass
class Counted:
    items: list[Any]
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = len(self.items)


class Pair(NamedTuple):
    left: Any
    right: Any = None


@attrs.define
class Crate:
    content: Any
    _label: str = "none"


@attrs.frozen(slots=False, cache_hash=True)
class Parcel:
    weight: Any


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    value: Any
    count: int = 3
    _secret: Any = pydantic.PrivateAttr(default=None)


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    name: str


class Nested(pydantic.BaseModel):
    model: Model
    when: datetime


class Refused(Exception):
    """An exception whose constructor takes other things than its arguments."""

    def __init__(self, code: int, *, reason: Any) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.reason = reason


class SlotError(Exception):
    __slots__ = ("detail",)

    def __init__(self, detail: Any) -> None:
        super().__init__("slots")
        self.detail = detail


@dataclass
class RecordError(Exception):
    item: Any


class Batch(ExceptionGroup[Exception]):
    pass


class Missing(FileNotFoundError):
    pass


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in every part and of exactly the same types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseException):
        return _same_errors(one, other)
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or repr(one) == repr(other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, Decimal):
        return repr(one) == repr(other)
    if isinstance(one, enum.Enum):
        return one is other
    if isinstance(one, datetime):
        return one.replace(tzinfo=None) == other.replace(tzinfo=None) and _same_zone(one, other)
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(any(same(a, b) for b in other) for a in one)
    return _same_parts(one, other)


def _same_parts(one: Any, other: Any) -> bool:
    parts, others = list(_parts(one)), list(_parts(other))
    if not parts and not others:
        return bool(one == other)
    return len(parts) == len(others) and all(map(same, parts, others))


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for pair in value.items():
            yield from pair
    elif isinstance(value, list | tuple):
        yield from value
    elif isinstance(value, pydantic.BaseModel):
        yield from (value.__dict__, value.__pydantic_extra__, value.__pydantic_private__)
        yield value.__pydantic_fields_set__
    else:
        for name in (*getattr(type(value), "__dataclass_fields__", ()), *_attrs_names(value)):
            yield getattr(value, name)


def _attrs_names(value: Any) -> Iterator[str]:
    for attribute in getattr(type(value), "__attrs_attrs__", ()):
        yield attribute.name


def _same_zone(one: datetime, other: datetime) -> bool:
    return (
        one.fold == other.fold
        and type(one.tzinfo) is type(other.tzinfo)
        and str(one.tzinfo) == str(other.tzinfo)
        and one.utcoffset() == other.utcoffset()
    )


def _same_errors(one: BaseException, other: BaseException) -> bool:
    if isinstance(one, BaseExceptionGroup):
        assert isinstance(other, BaseExceptionGroup)
        if one.message != other.message or not same(one.exceptions, other.exceptions):
            return False
    return same(one.args, other.args) and same(one.__dict__, other.__dict__)
