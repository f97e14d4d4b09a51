"""Values that are not stored: each is refused where it enters, with its path and its type."""

from __future__ import annotations

import asyncio
import collections
import enum
import io
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy

from dbos.errors import DBOSSerializationError
from dbos.serialization import Codec, JSONSerializer
from tests.unit.serialization import samples

CODEC = Codec(JSONSerializer())
HERE = __name__


class Text(str):
    __slots__ = ()


class Client:
    def __init__(self) -> None:
        self.password = "hunter2"


class FakeWorkflowHandle:
    workflow_id = "w"

    def get_result(self) -> None: ...


class Undecorated(samples.Point):
    pass


class Widened(samples.Pair):
    extra: Any


@dataclass
class Computed:
    area: Any = 1

    @property
    def side(self) -> int:
        return 1


# A property over a field: what is set is not what is read.
Computed.area = property(lambda self: 2, lambda self, value: None)


class OwnZone(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(0)

    def dst(self, when: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, when: datetime | None) -> str:
        return "own"


def _generator() -> Iterator[int]:
    yield 1


def _rebound() -> Any:
    class Local(enum.Enum):
        ONE = 1

    return Local.ONE


def _row() -> Any:
    with sqlalchemy.create_engine("sqlite://").connect() as connection:
        return connection.execute(sqlalchemy.text("SELECT 1 AS one")).one()


def _nameless_zone() -> ZoneInfo:
    zone = ZoneInfo("Europe/Paris")
    with open(_zone_file(zone), "rb") as file:
        return ZoneInfo.from_file(file)


def _zone_file(zone: ZoneInfo) -> str:
    import importlib.resources

    return str(importlib.resources.files("tzdata").joinpath("zoneinfo", *zone.key.split("/")))


def _undecorated() -> Undecorated:
    value = Undecorated(1)
    value.more = 2  # type: ignore[attr-defined]
    return value


def _widened() -> Widened:
    value = Widened(1)
    value.extra = 2
    return value


class _Local(NamedTuple):
    x: int


_Local.__qualname__ = "Elsewhere"

# Each row: the value, its type as it is named, and a fragment of the advice.
REFUSED: dict[str, tuple[Any, str, str]] = {
    "object": (object(), "object", "set serializer=PickleSerializer()"),
    "own class": (Client(), f"{HERE}.Client", "pass plain data, or set serializer=Pickle"),
    "str subclass": (Text("x"), f"{HERE}.Text", "convert it with str(...)"),
    "OrderedDict": (collections.OrderedDict(a=1), "collections.OrderedDict", "with dict(...)"),
    "defaultdict": (collections.defaultdict(int), "collections.defaultdict", "with dict(...)"),
    "Counter": (collections.Counter("a"), "collections.Counter", "with dict(...)"),
    "structseq": (time.gmtime(0), "time.struct_time", "convert it with tuple(...)"),
    "bytearray": (bytearray(b"x"), "bytearray", "bytes(...)"),
    "memoryview": (memoryview(b"x"), "memoryview", "bytes(...)"),
    "deque": (collections.deque(), "collections.deque", "pass plain data"),
    "ellipsis": (..., "ellipsis", "pass plain data"),
    "function": (_generator, "function", "pass a name"),
    "lambda": (lambda: 1, "function", "pass a name"),
    "builtin": (len, "builtin_function_or_method", "pass a name"),
    "class": (Client, "type", "pass the name of the class"),
    "generator": (_generator(), "generator", "pass a list of its items"),
    "map": (map(str, []), "map", "pass a list of its items"),
    "lock": (threading.Lock(), "_thread.lock", "create the lock where it is used"),
    "event": (asyncio.Lock(), "asyncio.locks.Lock", "create the lock where it is used"),
    "file": (io.BytesIO(), "_io.BytesIO", "open the file in the step"),
    "row": (_row(), "sqlalchemy.engine.row.Row", "pass dict(row) or tuple(row)"),
    "handle": (FakeWorkflowHandle(), f"{HERE}.FakeWorkflowHandle", "pass its workflow_id"),
    "local enum": (_rebound(), f"{HERE}._rebound.<locals>.Local", "inside a function"),
    "renamed class": (_Local(1), f"{HERE}.Elsewhere", "cannot be found again"),
    "dataclass subclass": (_undecorated(), f"{HERE}.Undecorated", "decorate the subclass"),
    "tuple subclass": (_widened(), f"{HERE}.Widened", "more than its declared fields"),
    "nameless zone": (_nameless_zone(), "zoneinfo.ZoneInfo", "has no name"),
    "own zone": (OwnZone(), f"{HERE}.OwnZone", "is not serializable"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_of_another_kind_is_refused_with_path_type_and_advice(name: str) -> None:
    value, type_name, advice = REFUSED[name]

    with pytest.raises(DBOSSerializationError, match=re.escape(advice)) as caught:
        CODEC.dump({"a": [0, value]}, "result", "json")

    assert caught.value.path == "result['a'][1]"
    assert caught.value.type_name == type_name
    assert f"cannot store result['a'][1]: {type_name} " in caught.value.message
    assert "hunter2" not in str(caught.value)


def test_an_open_socket_is_refused_with_advice() -> None:
    with socket.socket() as opened, pytest.raises(DBOSSerializationError, match="open the socket"):
        CODEC.dump(opened, "result", "json")


def test_the_text_for_an_unknown_class_reads_as_documented() -> None:
    with pytest.raises(DBOSSerializationError) as caught:
        CODEC.dump_arguments((samples.Point(Client()),), {}, "json")

    assert caught.value.message == (
        f"cannot store args[0].x: {HERE}.Client is not serializable; "
        "pass plain data, or set serializer=PickleSerializer()"
    )


BAD = object()
PATHS: dict[str, Any] = {
    "result": BAD,
    "result[1]": [0, BAD],
    "result[2][0]": [0, 1, (BAD,)],
    "result['k']": {"k": BAD},
    "result['$k']": {"$k": BAD},
    "result[7]": {7: BAD},
    "result[<tuple>]": {(1, 2): BAD},
    "result.keys()[1]": {1: 1, BAD: 2},
    "result{...}": {BAD},
    "result.x": samples.Point(BAD),
    "result.value": samples.Slotted(BAD),
    "result.right.content": samples.Pair(1, samples.Crate(BAD)),
    "result._label": samples.Crate(1, BAD),  # type: ignore[arg-type]
    "result.args[1]": ValueError(1, BAD),
    "result.reason": samples.Refused(1, reason=BAD),
    "result.detail": samples.SlotError(BAD),
    "result.exceptions[0].args[0]": ExceptionGroup("g", [ValueError(BAD)]),
    "result.area": Computed(),
}


@pytest.mark.parametrize("path", PATHS)
def test_the_path_leads_to_what_cannot_be_stored(path: str) -> None:
    with pytest.raises(DBOSSerializationError) as caught:
        CODEC.dump(PATHS[path], "result", "json")

    assert caught.value.path == path


def test_fields_of_models_are_in_the_path() -> None:
    model = samples.Model(value=[BAD])
    hidden = samples.Model(value=1)
    hidden._secret = BAD
    extra = samples.Open(name="n", **{"more": BAD})

    for value, path in ((model, "v.value[0]"), (hidden, "v._secret"), (extra, "v['more']")):
        with pytest.raises(DBOSSerializationError) as caught:
            CODEC.dump(value, "v", "json")
        assert caught.value.path == path


def test_arguments_are_named_by_position_or_keyword() -> None:
    with pytest.raises(DBOSSerializationError) as positional:
        CODEC.dump_arguments((1, {"k": BAD}), {}, "json")
    with pytest.raises(DBOSSerializationError) as named:
        CODEC.dump_arguments((), {"limit": [BAD]}, "json")

    assert positional.value.path == "args[1]['k']"
    assert named.value.path == "kwargs['limit'][0]"


def test_a_cycle_is_an_error_at_the_place_where_it_closes() -> None:
    looped: list[Any] = [1]
    looped.append({"again": looped})
    point = samples.Point(1)
    point.y = (point,)

    for value, path in ((looped, "result[1]['again']"), (point, "result.y[0]")):
        with pytest.raises(DBOSSerializationError, match="contains itself") as caught:
            CODEC.dump(value, "result", "json")
        assert caught.value.path == path


@pytest.mark.parametrize("format", ["json", "portable_json"])
@pytest.mark.parametrize("depth", [501, 700, 5000])
def test_nesting_beyond_the_limit_is_refused_and_never_a_recursion_error(
    depth: int, format: str
) -> None:
    listed: Any = []
    paired: Any = ()
    mapped: Any = {}
    for _ in range(depth):
        listed, paired, mapped = [listed], (paired,), {"k": mapped}

    for value in (listed, paired, mapped):
        with pytest.raises(DBOSSerializationError, match="nested too deeply") as caught:
            CODEC.dump(value, "result", format)
        assert len(str(caught.value)) < 1000


def test_what_was_written_at_the_limit_can_be_read_from_a_deeper_stack() -> None:
    value: Any = 1
    for _ in range(240):
        value = (value,)
    text = CODEC.dump(value, "result", "json")

    def read_at(depth: int) -> Any:
        from dbos.serialization import Stored

        return read_at(depth - 1) if depth else CODEC.load(text, "json", Stored())

    assert read_at(150) == value
