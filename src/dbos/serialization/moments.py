"""Tagged nodes for dates, times, durations and time zones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

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
)

# Such a key can only lead to a file or package below a time zone directory.
_ZONE_KEY = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", re.ASCII)


def _write_datetime(writer: TreeWriter, value: datetime) -> Tree:
    return _write_moment(writer, "$datetime", value)


def _write_time(writer: TreeWriter, value: time) -> Tree:
    return _write_moment(writer, "$time", value)


def _write_moment(writer: TreeWriter, tag: str, value: datetime | time) -> Tree:
    zone = value.tzinfo
    in_text = zone is None or (type(zone) is timezone and _is_told_by_its_offset(zone))
    node: dict[str, Tree] = {tag: (value if in_text else value.replace(tzinfo=None)).isoformat()}
    if value.fold:
        node["fold"] = 1
    if not in_text:
        node["zone"] = writer.tree(zone, ".tzinfo")
        if type(node["zone"]) is not dict:
            # A lenient walk has replaced the zone by its text, and no datetime can have that.
            return value.isoformat()
    return node


def _read_datetime(reader: TreeReader, tree: dict[str, Tree]) -> datetime:
    moment = datetime.fromisoformat(expect(tree["$datetime"], str))
    return moment.replace(fold=_fold(tree), tzinfo=_zone(reader, tree, moment.tzinfo))


def _read_time(reader: TreeReader, tree: dict[str, Tree]) -> time:
    moment = time.fromisoformat(expect(tree["$time"], str))
    return moment.replace(fold=_fold(tree), tzinfo=_zone(reader, tree, moment.tzinfo))


def _fold(tree: dict[str, Tree]) -> int:
    return expect(tree.get("fold", 0), int)


def _zone(reader: TreeReader, tree: dict[str, Tree], in_text: tzinfo | None) -> tzinfo | None:
    if "zone" not in tree:
        return in_text
    zone = reader.value(tree["zone"])
    if not isinstance(zone, tzinfo):
        raise CorruptText("a time zone is missing")
    return zone


def _write_date(_writer: TreeWriter, value: date) -> Tree:
    return {"$date": value.isoformat()}


def _read_date(_reader: TreeReader, tree: dict[str, Tree]) -> date:
    return date.fromisoformat(expect(tree["$date"], str))


def _write_timedelta(_writer: TreeWriter, value: timedelta) -> Tree:
    return {"$timedelta": [value.days, value.seconds, value.microseconds]}


def _read_timedelta(_reader: TreeReader, tree: dict[str, Tree]) -> timedelta:
    return timedelta(*integers(tree["$timedelta"], 3))


def _is_told_by_its_offset(zone: timezone) -> bool:
    # The parser of the standard library takes an offset of less than a second for UTC.
    return _given_name(zone) is None and zone.utcoffset(None).microseconds == 0


def _given_name(zone: timezone) -> str | None:
    # A timezone without a name makes one up; only its constructor's arguments tell the difference.
    arguments = zone.__reduce__()[1]
    return arguments[1] if len(arguments) == 2 else None


def _write_timezone(writer: TreeWriter, value: timezone) -> Tree:
    offset = value.utcoffset(None)
    name = _given_name(value)
    node: dict[str, Tree] = {"$timezone": [offset.days, offset.seconds, offset.microseconds]}
    if name is not None:
        node["name"] = writer.tree(name, ".name")
    return node


def _read_timezone(reader: TreeReader, tree: dict[str, Tree]) -> timezone:
    offset = timedelta(*integers(tree["$timezone"], 3))
    if "name" not in tree:
        return timezone(offset)
    return timezone(offset, expect(reader.value(tree["name"]), str))


def _write_zoneinfo(writer: TreeWriter, value: ZoneInfo) -> Tree:
    # A zone read from a file has no key, whatever its declared type says.
    key: Any = value.key
    if key is None or not _ZONE_KEY.fullmatch(key):
        return writer.refused(value, "has no name by which it could be found again")
    return {"$zoneinfo": key}


def _read_zoneinfo(_reader: TreeReader, tree: dict[str, Tree]) -> ZoneInfo:
    key = expect(tree["$zoneinfo"], str)
    if not _ZONE_KEY.fullmatch(key):
        raise CorruptText("a time zone has no proper name")
    try:
        return ZoneInfo(key)
    except (LookupError, ValueError, OSError):
        raise ClassUnavailable(f"time zone {key}", "is not known in this process") from None


KINDS: Mapping[type, Kind] = MappingProxyType(
    {
        datetime: Kind(_write_datetime, 0),
        date: Kind(_write_date, 0),
        time: Kind(_write_time, 0),
        timedelta: Kind(_write_timedelta, 0),
        timezone: Kind(_write_timezone, 0),
        ZoneInfo: Kind(_write_zoneinfo, 0),
    }
)

READERS: Mapping[str, Read] = MappingProxyType(
    {
        "$datetime": _read_datetime,
        "$date": _read_date,
        "$time": _read_time,
        "$timedelta": _read_timedelta,
        "$timezone": _read_timezone,
        "$zoneinfo": _read_zoneinfo,
    }
)
