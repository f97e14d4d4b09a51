"""The portable format, as other languages see it."""

from __future__ import annotations

import collections
import enum
import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from dbos.errors import (
    DBOSNotAuthorizedError,
    DBOSSerializationError,
    DBOSStoredDataError,
    PortableWorkflowError,
    RestoredError,
)
from dbos.serialization import Codec, JSONSerializer, Stored

CODEC = Codec(JSONSerializer())
FORMAT = "portable_json"
WHERE = Stored("w", None, "inputs")


class Colour(enum.StrEnum):
    RED = "red"


class Plain(enum.Enum):
    ONE = 1


@dataclass
class Record:
    x: int


class Coded(Exception):
    def __init__(self, message: str, **attributes: Any) -> None:
        super().__init__(message)
        vars(self).update(attributes)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None, 1.5]}, '{"b":1,"a":[true,null,1.5]}'),
        ("é😀", '"é😀"'),
        ("a\0b", '"a\\u0000b"'),
        ((1, (2,)), "[1,[2]]"),
        ({3, 1, 2}, "[1,2,3]"),
        (frozenset({2, 1}), "[1,2]"),
        ({"$tuple": [1]}, '{"$tuple":[1]}'),
        (collections.OrderedDict(a=(1,)), '{"a":[1]}'),
        (MappingProxyType({"a": 1}), '{"a":1}'),
        (Colour.RED, '"red"'),
        ({Colour.RED: 1}, '{"red":1}'),
        (datetime(2024, 1, 2, 3, 4, 5, 678_900), '"2024-01-02T03:04:05.678Z"'),
        (datetime(2024, 1, 2, tzinfo=UTC), '"2024-01-02T00:00:00.000Z"'),
        (
            datetime(2024, 1, 2, 1, tzinfo=timezone(timedelta(hours=2))),
            '"2024-01-01T23:00:00.000Z"',
        ),
        (date(2024, 1, 2), '"2024-01-02"'),
        (Decimal("1.50"), '"1.50"'),
        (Decimal("1E+3"), '"1000"'),
        (Decimal("1E-7"), '"0.0000001"'),
        (10**30, str(10**30)),
    ],
    ids=repr,
)
def test_a_value_is_written_as_plain_compact_json(value: Any, text: str) -> None:
    assert CODEC.dump(value, "result", FORMAT) == text


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        Decimal("NaN"),
        Decimal("-Infinity"),
        b"x",
        1j,
        range(3),
        UUID(int=1),
        timedelta(1),
        Plain.ONE,
        Record(1),
        object(),
        ValueError("x"),
        {1: 2},
        {(1,): 2},
        "\ud800",
        {"\ud800": 1},
        datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
        1 << 20_000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused_with_its_path(value: Any) -> None:
    with pytest.raises(DBOSSerializationError, match="is not portable JSON serializable") as caught:
        CODEC.dump({"a": [value]}, "result", FORMAT)

    assert caught.value.path is not None
    assert caught.value.path.startswith("result['a'][0]")


def test_a_cycle_is_refused() -> None:
    looped: list[Any] = []
    looped.append((looped,))

    with pytest.raises(DBOSSerializationError, match="contains itself"):
        CODEC.dump(looped, "result", FORMAT)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"$tuple":[1]}', {"$tuple": [1]}),
        ('{"$dataclass":"os:system"}', {"$dataclass": "os:system"}),
        ('"\\ud800"', "\ud800"),
        (" [1, 2.0] ", [1, 2.0]),
        ("123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_values_come_back_as_plain_data(text: str, value: Any) -> None:
    assert CODEC.load(text, FORMAT, WHERE) == value


@pytest.mark.parametrize("text", ["", "{", "NaN", "Infinity", "[1] 2"])
def test_what_is_not_json_is_corrupt_data(text: str) -> None:
    with pytest.raises(DBOSStoredDataError):
        CODEC.load(text, FORMAT, WHERE)


class TestArguments:
    def test_names_come_first(self) -> None:
        text = CODEC.dump_arguments((1, (2,)), {"when": date(2024, 1, 2)}, FORMAT)

        assert text == '{"namedArgs":{"when":"2024-01-02"},"positionalArgs":[1,[2]]}'

    @pytest.mark.parametrize(
        ("text", "args", "kwargs"),
        [
            ('{"namedArgs":{"a":1},"positionalArgs":[2]}', (2,), {"a": 1}),
            ('{"positionalArgs":[2]}', (2,), {}),
            ('{"namedArgs":{"a":1}}', (), {"a": 1}),
            ("{}", (), {}),
        ],
    )
    def test_either_kind_may_be_missing(self, text: str, args: Any, kwargs: Any) -> None:
        assert CODEC.load_arguments(text, FORMAT, WHERE) == (args, kwargs)

    @pytest.mark.parametrize("text", ["[]", '{"positionalArgs":{}}', '{"namedArgs":[]}', "5"])
    def test_another_shape_is_corrupt_data(self, text: str) -> None:
        with pytest.raises(DBOSStoredDataError):
            CODEC.load_arguments(text, FORMAT, WHERE)

    def test_a_refused_argument_is_named(self) -> None:
        with pytest.raises(DBOSSerializationError) as positional:
            CODEC.dump_arguments((1, {"k": b"x"}), {}, FORMAT)
        with pytest.raises(DBOSSerializationError) as named:
            CODEC.dump_arguments((), {"k": math.nan}, FORMAT)

        assert positional.value.path == "args[1]['k']"
        assert named.value.path == "kwargs['k']"


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "content"),
        [
            (ValueError("m"), {"name": "ValueError", "message": "m", "code": None}),
            (Coded("m", code=5), {"code": 5}),
            (Coded("m", code="E1", status=4), {"code": "E1"}),
            (Coded("m", code=1.5, error_code="E2"), {"code": "E2"}),
            (Coded("m", status_code=404), {"code": 404}),
            (Coded("m", code=None, status=4), {"code": None}),
            (OSError(13, "denied"), {"name": "PermissionError", "code": 13}),
            (DBOSNotAuthorizedError("no"), {"code": 403}),
            (Coded("m", details={"a": (1,)}), {"data": {"a": [1]}}),
            (Coded("m", data=None, payload=0), {"data": 0}),
            (Coded("m", data=1, details=2), {"data": 1}),
            (Coded("m", metadata={"k": b"x"}), {"data": "{'k': b'x'}"}),
            (PortableWorkflowError("m", "Own", 7, [1]), {"name": "Own", "code": 7, "data": [1]}),
            (RestoredError("a.B", "m", ()), {"name": "a.B", "message": "m"}),
        ],
        ids=repr,
    )
    def test_an_error_is_name_message_code_and_what_it_carries(
        self, error: Exception, content: dict[str, Any]
    ) -> None:
        stored = json.loads(CODEC.dump_error(error, FORMAT))

        assert {key: stored[key] for key in content} == content
        assert "code" in stored
        assert list(stored)[:3] == ["name", "message", "code"]
        assert ("data" in stored) is ("data" in content)

    def test_it_comes_back_as_a_portable_error(self) -> None:
        text = CODEC.dump_error(Coded("m", code=5, data={"a": 1}), FORMAT)

        restored = CODEC.load_error(text, FORMAT, WHERE)

        assert isinstance(restored, PortableWorkflowError)
        assert str(restored) == "m"
        assert restored.to_error_data() == {
            "name": "Coded",
            "message": "m",
            "code": 5,
            "data": {"a": 1},
        }

    def test_an_error_of_another_language_needs_only_to_be_an_object(self) -> None:
        restored = CODEC.load_error('{"message":"m","stack":"..."}', FORMAT, WHERE)

        assert isinstance(restored, PortableWorkflowError)
        assert (str(restored), restored.code) == ("m", None)
        with pytest.raises(DBOSStoredDataError):
            CODEC.load_error('"m"', FORMAT, WHERE)

    def test_text_without_a_utf8_form_does_not_keep_an_error_from_being_stored(self) -> None:
        text = CODEC.dump_error(Coded("\ud800", code="\ud800", data="\ud800"), FORMAT)

        assert json.loads(text)["message"] == "\\ud800"
