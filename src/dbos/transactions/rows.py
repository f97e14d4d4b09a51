"""Rows that are tuples as in SQLAlchemy, and also give a dict of their columns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache
from typing import Any, cast

from sqlalchemy.engine import Result, Row


class _NamedRow(Row[Any]):
    """A row that also takes string keys: `dict(row)` is `{column: value}`."""

    __slots__ = ()

    def keys(self) -> list[str]:
        """The names of the columns. A column of this name is reached as `row["keys"]`."""
        # The names that come from a table are of a class of SQLAlchemy's.
        return [str.__str__(name) for name in self._mapping]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._mapping[key]
        return super().__getitem__(key)


def named(row: Any) -> Any:
    """The same row, with string keys; anything else as it is."""
    if row.__class__ is not Row:
        return row
    # The parts of a row are not public; a class of rows of one's own cannot be asked for.
    make = cast("Callable[..., Any]", _NamedRow)
    return make(row._parent, None, row._key_to_index, row._data)


def with_named_rows(result: Any) -> Any:
    """Have a result give rows with string keys, whichever of its methods fetches them."""
    kind: type[object] = result.__class__
    if issubclass(kind, Result) and not issubclass(kind, _NamedRows):
        result.__class__ = _named_kind(cast("Hashable", kind))
    return result


class _NamedRows:
    """What is laid over the class of a result."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return map(named, super().__iter__())  # type: ignore[misc]

    def __next__(self) -> Any:
        return named(super().__next__())  # type: ignore[misc]

    def fetchone(self) -> Any:
        return named(super().fetchone())  # type: ignore[misc]

    def first(self) -> Any:
        return named(super().first())  # type: ignore[misc]

    def one(self) -> Any:
        return named(super().one())  # type: ignore[misc]

    def one_or_none(self) -> Any:
        return named(super().one_or_none())  # type: ignore[misc]

    def fetchall(self) -> Sequence[Any]:
        return [named(row) for row in super().fetchall()]  # type: ignore[misc]

    def all(self) -> Sequence[Any]:
        return [named(row) for row in super().all()]  # type: ignore[misc]

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        return [named(row) for row in super().fetchmany(size)]  # type: ignore[misc]

    def partitions(self, size: int | None = None) -> Iterator[Sequence[Any]]:
        yield from map(_named_all, super().partitions(size))  # type: ignore[misc]


def _named_all(rows: Sequence[Any]) -> Sequence[Any]:
    return [named(row) for row in rows]


@lru_cache(maxsize=64)
def _named_kind(kind: Hashable) -> type[Any]:
    plain = cast("type[Any]", kind)
    own = {"__slots__": (), "__module__": plain.__module__}
    return type(plain.__name__, (_NamedRows, plain), own)
