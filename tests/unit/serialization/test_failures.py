"""Errors as they are stored: always possible, never a surprise when they are raised again."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import psycopg
import pydantic
import pytest
import sqlalchemy.exc

from dbos.errors import DBOSMaxStepRetriesExceeded, DBOSSerializationError, RestoredError
from dbos.serialization import Codec, JSONSerializer, PickleSerializer, Serializer, Stored
from tests.unit.serialization import samples
from tests.unit.serialization.samples import same

WHERE = Stored("w", None, "error")
CODEC = Codec(JSONSerializer())


class PlainJSON(Serializer):
    """A custom format that knows neither exceptions nor tuples."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)


class Forgetful(Exception):
    """Pickles, but does not unpickle: its constructor takes two arguments and tells one."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(one)
        self.other = other


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class WithLock(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message, threading.Lock())
        self.lock = threading.Lock()
        self.code = 5


def _through(error: BaseException, codec: Codec = CODEC, format: str = "json") -> BaseException:
    return codec.load_error(codec.dump_error(error, format), format, WHERE)


def test_parts_that_cannot_be_stored_are_replaced_by_their_text() -> None:
    restored: Any = _through(WithLock("m"))

    assert isinstance(restored, WithLock)
    assert (restored.args[0], restored.code) == ("m", 5)
    assert "lock" in restored.args[1]
    assert "lock" in str(vars(restored)["lock"])
    assert type(vars(restored)["lock"]) is str


def test_replacing_goes_only_as_deep_as_needed() -> None:
    error = DBOSMaxStepRetriesExceeded("s", 1, [WithLock("first"), ValueError({"k": object()})])

    restored: Any = _through(error)

    assert [type(one) for one in restored.errors] == [WithLock, ValueError]
    assert list(restored.errors[1].args[0]) == ["k"]


def test_an_error_that_contains_itself_is_stored() -> None:
    error = ValueError("m")
    error.args = ("m", error, [error])

    restored = _through(error)

    assert type(restored) is ValueError
    assert restored.args[0] == "m"


def test_an_error_with_a_very_deep_argument_is_stored() -> None:
    deep: Any = []
    for _ in range(3000):
        deep = [deep]

    restored = _through(ValueError("m", deep))

    assert restored.args[0] == "m"


def test_an_error_whose_text_fails_is_stored() -> None:
    assert type(_through(Silent(1))) is Silent


def test_a_class_that_is_gone_gives_a_stand_in() -> None:
    class Local(Exception):
        pass

    restored = _through(Local("m", 1, object()))

    assert isinstance(restored, RestoredError)
    assert restored.name == f"{__name__}.{Local.__qualname__}"
    assert restored.args[:2] == ("m", 1)
    assert restored.args[2].startswith("<object object")


def test_the_stand_in_keeps_the_text_and_what_can_be_read_of_the_arguments() -> None:
    stored = json.dumps(
        {"$exception": "gone.mod:E", "message": "text", "args": [1, {"$dataclass": "gone.mod:D"}]}
    )

    restored = CODEC.load_error(stored, "json", WHERE)

    assert isinstance(restored, RestoredError)
    assert (restored.name, str(restored)) == ("gone.mod.E", "text")
    assert restored.args == (1, "<gone.mod.D>")


def test_a_stand_in_passes_through_a_second_time_as_itself() -> None:
    restored = _through(RestoredError("a.B", "text", (1, (2,))))

    assert isinstance(restored, RestoredError)
    assert (restored.name, str(restored), restored.args) == ("a.B", "text", (1, (2,)))


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt("stop"), GeneratorExit()])
@pytest.mark.parametrize("serializer", [JSONSerializer(), PickleSerializer()])
def test_a_foreign_base_exception_never_comes_back_as_itself(
    raised: BaseException, serializer: Serializer
) -> None:
    codec = Codec(serializer)

    restored = _through(raised, codec, codec.native)

    assert isinstance(restored, RestoredError)
    assert restored.name == f"builtins.{type(raised).__name__}"
    assert restored.args == raised.args


def _errors_of_libraries() -> list[Exception]:
    request = httpx.Request("GET", "http://localhost/")
    errors: list[Exception] = [
        httpx.HTTPStatusError("bad", request=request, response=httpx.Response(500)),
        httpx.ConnectError("refused", request=request),
        psycopg.errors.UniqueViolation("twice"),
        sqlalchemy.exc.IntegrityError("statement", {"a": 1}, ValueError("orig")),
        UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"),
        json.JSONDecodeError("bad", "{", 1),
    ]
    try:
        samples.Model(value=1, count="many")  # type: ignore[arg-type]
    except pydantic.ValidationError as error:
        errors.append(error)
    return errors


@pytest.mark.parametrize("serializer", [JSONSerializer(), PickleSerializer(), PlainJSON()])
def test_errors_of_common_libraries_can_be_stored_and_read(serializer: Serializer) -> None:
    codec = Codec(serializer)

    for error in _errors_of_libraries():
        restored = _through(error, codec, codec.native)
        if type(restored) is not type(error):
            assert isinstance(restored, RestoredError)
            assert restored.name == f"{type(error).__module__}.{type(error).__qualname__}"
        assert str(restored) == str(error)


def test_http_and_database_errors_keep_their_class() -> None:
    kept = {type(_through(error)).__name__ for error in _errors_of_libraries()}

    assert {"HTTPStatusError", "ConnectError", "UniqueViolation", "IntegrityError"} <= kept


class TestPickle:
    CODEC = Codec(PickleSerializer())

    def _through(self, error: BaseException) -> Any:
        return _through(error, self.CODEC, "py_pickle")

    def test_an_error_comes_back_as_itself(self) -> None:
        assert same(self._through(ValueError("m", {1})), ValueError("m", {1}))

    def test_parts_that_do_not_pickle_are_replaced_by_their_text(self) -> None:
        restored = self._through(WithLock("m"))

        # Its constructor takes one argument and it has two, so pickle cannot make it again.
        assert isinstance(restored, RestoredError)
        assert restored.args[0] == "m"
        assert "lock" in restored.args[1]

    def test_an_attribute_that_does_not_pickle_does_not_cost_the_class(self) -> None:
        error = ValueError("m")
        error.lock = threading.Lock()  # type: ignore[attr-defined]

        restored: Any = self._through(error)

        assert type(restored) is ValueError
        assert "lock" in vars(restored)["lock"]

    def test_an_error_that_does_not_unpickle_gives_a_stand_in(self) -> None:
        restored = self._through(Forgetful(1, 2))

        assert isinstance(restored, RestoredError)
        assert (restored.name, restored.args) == (f"{__name__}.Forgetful", (1,))


def test_a_custom_format_without_exceptions_keeps_name_and_text() -> None:
    restored = _through(ValueError("m"), Codec(PlainJSON()), "custom_serializer")

    assert isinstance(restored, RestoredError)
    assert (restored.name, str(restored)) == ("builtins.ValueError", "m")


def test_a_value_is_never_stored_as_leniently_as_an_error() -> None:
    with pytest.raises(DBOSSerializationError):
        CODEC.dump(WithLock("m"), "result", "json")


def test_the_object_that_an_attribute_error_asked_is_not_stored() -> None:
    with pytest.raises(AttributeError) as caught:
        threading.Lock().missing  # type: ignore[attr-defined] # noqa: B018

    stored = CODEC.dump(caught.value, "result", "json")

    assert str(CODEC.load(stored, "json", WHERE)) == str(caught.value)
