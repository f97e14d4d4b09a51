"""Tagged nodes for values without parts: numbers, text, bytes, identifiers, paths."""

from __future__ import annotations

import base64
import math
import pathlib
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

from dbos.serialization.tree import (
    ClassUnavailable,
    CorruptText,
    Kind,
    Read,
    Tree,
    TreeReader,
    TreeWriter,
    expect,
    integers,
    items_of,
)

# The interpreter refuses to convert very long decimal texts, by default more than 4300 digits and
# at the strictest more than 640. Longer integers are written in hexadecimal, which has no limit.
_DECIMAL_BITS = 2048
_FLOATS: Mapping[str, float] = MappingProxyType(
    {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
)
_PATHS: Mapping[str, type[pathlib.PurePath]] = MappingProxyType(
    {
        "PurePosixPath": pathlib.PurePosixPath,
        "PureWindowsPath": pathlib.PureWindowsPath,
        "PosixPath": pathlib.PosixPath,
        "WindowsPath": pathlib.WindowsPath,
    }
)


def write_itself(_writer: TreeWriter, value: Any) -> Tree:
    """Write a value that JSON has."""
    result: Tree = value
    return result


def write_float(_writer: TreeWriter, value: float) -> Tree:
    return value if math.isfinite(value) else {"$float": repr(value)}


def is_encodable(text: str) -> bool:
    """Whether a text has a UTF-8 form, that is, no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_int(_writer: TreeWriter, value: int) -> Tree:
    return value if value.bit_length() <= _DECIMAL_BITS else {"$int": hex(value)}


def _read_int(_reader: TreeReader, tree: dict[str, Tree]) -> int:
    return int(expect(tree["$int"], str), 16)


def _read_float(_reader: TreeReader, tree: dict[str, Tree]) -> float:
    return _FLOATS[expect(tree["$float"], str)]


def _write_str(_writer: TreeWriter, value: str) -> Tree:
    return value if is_encodable(value) else {"$str": value.encode("unicode_escape").decode()}


def _read_str(_reader: TreeReader, tree: dict[str, Tree]) -> str:
    return expect(tree["$str"], str).encode("ascii").decode("unicode_escape")


def _write_bytes(_writer: TreeWriter, value: bytes) -> Tree:
    return {"$bytes": base64.b64encode(value).decode()}


def _read_bytes(_reader: TreeReader, tree: dict[str, Tree]) -> bytes:
    return base64.b64decode(expect(tree["$bytes"], str), validate=True)


def _write_complex(writer: TreeWriter, value: complex) -> Tree:
    return {"$complex": [write_float(writer, value.real), write_float(writer, value.imag)]}


def _read_complex(reader: TreeReader, tree: dict[str, Tree]) -> complex:
    real, imaginary = (reader.value(part) for part in items_of(tree["$complex"]))
    return complex(expect(real, float), expect(imaginary, float))


def _write_range(writer: TreeWriter, value: range) -> Tree:
    return {"$range": [_write_int(writer, part) for part in (value.start, value.stop, value.step)]}


def _read_range(reader: TreeReader, tree: dict[str, Tree]) -> range:
    return range(*integers(reader.value(tree["$range"]), 3))


def _write_decimal(_writer: TreeWriter, value: Decimal) -> Tree:
    return {"$decimal": str(value)}


def _read_decimal(_reader: TreeReader, tree: dict[str, Tree]) -> Decimal:
    return Decimal(expect(tree["$decimal"], str))


def _write_uuid(_writer: TreeWriter, value: UUID) -> Tree:
    return {"$uuid": str(value)}


def _read_uuid(_reader: TreeReader, tree: dict[str, Tree]) -> UUID:
    return UUID(expect(tree["$uuid"], str))


def _write_path(writer: TreeWriter, value: pathlib.PurePath) -> Tree:
    return {"$path": _write_str(writer, str(value)), "class": type(value).__name__}


def _read_path(reader: TreeReader, tree: dict[str, Tree]) -> pathlib.PurePath:
    name = expect(tree["class"], str)
    if name not in _PATHS:
        raise CorruptText("a path has an unknown class")
    try:
        return _PATHS[name](expect(reader.value(tree["$path"]), str))
    except NotImplementedError:
        raise ClassUnavailable(f"pathlib.{name}", "does not exist on this system") from None


KINDS: Mapping[type, Kind] = MappingProxyType(
    {
        type(None): Kind(write_itself, 0),
        bool: Kind(write_itself, 0),
        int: Kind(_write_int, 0),
        float: Kind(write_float, 0),
        str: Kind(_write_str, 0),
        bytes: Kind(_write_bytes, 0),
        complex: Kind(_write_complex, 0),
        range: Kind(_write_range, 0),
        Decimal: Kind(_write_decimal, 0),
        UUID: Kind(_write_uuid, 0),
        **{kind: Kind(_write_path, 0) for kind in _PATHS.values()},
    }
)

READERS: Mapping[str, Read] = MappingProxyType(
    {
        "$int": _read_int,
        "$float": _read_float,
        "$str": _read_str,
        "$bytes": _read_bytes,
        "$complex": _read_complex,
        "$range": _read_range,
        "$decimal": _read_decimal,
        "$uuid": _read_uuid,
        "$path": _read_path,
    }
)
