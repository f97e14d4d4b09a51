"""What the default format keeps: every kind of value, exactly."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from dbos.serialization import Codec, JSONSerializer, Stored
from tests.unit.serialization import samples
from tests.unit.serialization.samples import same

CODEC = Codec(JSONSerializer())
WHERE = Stored("w", 1, "output")
ZONES = ("Europe/Paris", "America/New_York", "Asia/Kathmandu", "UTC", "Australia/Lord_Howe")

text = st.text(st.characters(codec=None, categories=None), max_size=8) | st.sampled_from(
    ["$tuple", "$", '"$x', "\0", "\ud800", "\ud83d\ude00", "😀", "$dict", "\\ud800"]
)
fixed_zones = st.builds(
    timezone,
    st.timedeltas(
        min_value=timedelta(hours=-23, minutes=-59), max_value=timedelta(hours=23, minutes=59)
    ),
) | st.builds(timezone, st.just(timedelta(hours=1)), text)
zones = st.none() | fixed_zones | st.sampled_from(ZONES).map(ZoneInfo)
folds = st.integers(0, 1)
# The first and last days have no place in every time zone.
datetimes = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)),
    zones,
    folds,
)
times = st.builds(lambda t, z, f: t.replace(tzinfo=z, fold=f), st.times(), zones, folds)
# Signalling NaNs have no hash, so they are not drawn; one has a test of its own.
decimals = st.decimals(allow_nan=False) | st.sampled_from(["-0", "1E+50", "NaN12", "1.10"]).map(
    Decimal
)
paths = st.builds(
    lambda kind, part: kind(part.replace("\0", "")),
    st.sampled_from([pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath]),
    text,
)
members = st.sampled_from(
    [
        *samples.Colour,
        *samples.Level,
        *samples.Mode,
        *samples.Outer.Shape,
        samples.Access(0),
        samples.Access.READ | samples.Access.RUN,
        samples.Bits.ONE | samples.Bits.TWO,
        samples.Bits(64 | 1),
    ]
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(10**18, 10**24),
    st.sampled_from([2**2048, 2**64, -(2**63) - 1]),
    st.floats(),
    text,
    st.binary(max_size=8),
    st.complex_numbers(),
    st.builds(range, st.integers(), st.integers(), st.integers(1, 9)),
    datetimes,
    st.dates(),
    times,
    st.timedeltas(),
    decimals,
    st.uuids(),
    paths,
    members,
)


def _made(make: Callable[..., Any], *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(*parts).map(lambda given: make(*given))


hashables = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.frozensets(inner, max_size=3),
        _made(samples.Frozen, inner),
        _made(samples.Slotted, inner, inner),
        _made(samples.Pair, inner),
        _made(samples.Parcel, inner),
    ),
    max_leaves=4,
)


def _with_notes(error: Exception, notes: list[str]) -> Exception:
    for note in notes:
        error.add_note(note)
    return error


def _model(value: Any, secret: Any) -> samples.Model:
    model = samples.Model(value=value)
    model._secret = secret
    return model


def _open_model(name: str, extra: Any) -> samples.Open:
    return samples.Open.model_construct(None, name=name, **{"extra": extra, "$tuple": 1})


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(text, inner, max_size=4),
        st.dictionaries(hashables, inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(hashables, max_size=3),
        _made(samples.Point, inner, inner),
        _made(samples.SlottedChild, inner, inner, inner),
        _made(samples.Counted, st.lists(inner, max_size=2)),
        _made(samples.Pair, inner, inner),
        _made(samples.Crate, inner, text),
        _made(_model, inner, inner),
        _made(_open_model, text, inner),
        st.builds(lambda code, reason: samples.Refused(code, reason=reason), st.integers(), inner),
        _made(samples.SlotError, inner),
        _made(samples.RecordError, inner),
        st.builds(
            _with_notes, st.builds(ValueError, inner, inner), st.lists(text.filter(str.isascii))
        ),
    )


values = st.recursive(scalars, _containers, max_leaves=12)


def _restored(value: Any) -> Any:
    return CODEC.load(CODEC.dump(value, "result", "json"), "json", WHERE)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_every_value_comes_back_equal_and_of_the_same_types(value: Any) -> None:
    restored = _restored(value)

    assert same(value, restored), f"{value!r} came back as {restored!r}"


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_stored_text_has_nothing_a_text_column_refuses(value: Any) -> None:
    stored = CODEC.dump(value, "result", "json")

    assert "\0" not in stored
    assert stored.encode()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(values, max_size=3), st.dictionaries(text, values, max_size=3))
def test_arguments_come_back_as_a_tuple_and_a_dict(args: list[Any], kwargs: Any) -> None:
    stored = CODEC.dump_arguments(tuple(args), kwargs, "json")

    assert same((tuple(args), kwargs), CODEC.load_arguments(stored, "json", WHERE))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(values, values)
def test_errors_come_back_with_class_arguments_and_attributes(one: Any, other: Any) -> None:
    error = samples.Refused(7, reason=one)
    error.args = (one, other)
    error.add_note("a note")

    restored = CODEC.load_error(CODEC.dump_error(error, "json"), "json", WHERE)

    assert same(error, restored)


class TestTagsOfTheUser:
    @pytest.mark.parametrize(
        "value",
        [
            {"$tuple": [1]},
            {"$dataclass": "os:system", "command": "x"},
            {"$": 1, "a": {"$str": "\\ud800"}},
            {"a": 1, "$enum": 2},
            [{"$exception": "builtins:ValueError", "message": "m"}],
            {"$dict": ["a", 1]},
            "$tuple",
            '{"$tuple":[]}',
            {"\ud800": 1, "$x": 2},
        ],
        ids=repr,
    )
    def test_a_dict_that_looks_like_a_tag_stays_a_dict(self, value: Any) -> None:
        assert same(value, _restored(value))


class TestSingleKinds:
    @pytest.mark.parametrize(
        "value",
        [
            datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
            datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=53, seconds=28))),
            datetime(2024, 1, 1, tzinfo=timezone(timedelta(microseconds=-1))),
            datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")),
            datetime.max,
            datetime.min.replace(tzinfo=UTC),
            time(1, 2, 3, 4, tzinfo=UTC, fold=1),
            date.max,
            timedelta.min,
            Decimal("-sNaN7"),
            OSError(2, "no such file", "name", None, "other"),
            samples.Missing(2, "gone", "name"),
            BlockingIOError(11, "busy", 5),
            StopIteration(5),
            ImportError("no", name="a", path="b"),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
            KeyError("k"),
            SystemExit(3),
            ExceptionGroup("many", [ValueError(1), OSError(2, "x")]),
            ExceptionGroup("tuple", (ValueError(1),)),
            BaseExceptionGroup("base", [KeyboardInterrupt(), ExceptionGroup("in", [KeyError(1)])]),
            samples.Batch("batch", [samples.Refused(1, reason={"a": (1,)})]),
        ],
        ids=repr,
    )
    def test_an_awkward_value_comes_back_the_same(self, value: Any) -> None:
        restored = _restored(value)

        assert same(value, restored)
        assert str(value) == str(restored)

    def test_state_that_exceptions_keep_outside_their_attributes_comes_back(self) -> None:
        restored = _restored(OSError(2, "no such file", "name", None, "other"))

        assert (restored.errno, restored.strerror) == (2, "no such file")
        assert (restored.filename, restored.filename2) == ("name", "other")

    @pytest.mark.parametrize("exponent", [2047, 2048, 20_000, 70_000])
    @pytest.mark.parametrize("offset", [-1, 0, 1])
    def test_an_integer_of_any_size_comes_back(self, exponent: int, offset: int) -> None:
        value = 2**exponent + offset

        assert _restored(value) == value
        assert _restored([-value, (value,)]) == [-value, (value,)]

    def test_utc_comes_back_as_the_one_utc(self) -> None:
        assert _restored(datetime(2024, 1, 1, tzinfo=UTC)).tzinfo is UTC

    def test_combined_flags_come_back_as_the_same_object(self) -> None:
        combined = samples.Access.READ | samples.Access.WRITE

        assert _restored(combined) is combined

    def test_equal_sets_have_equal_texts(self) -> None:
        ascending = {f"item {n}" for n in range(50)}
        descending = {f"item {n}" for n in reversed(range(50))}

        assert CODEC.dump(ascending, "result", "json") == CODEC.dump(descending, "result", "json")

    def test_the_order_of_a_dict_is_kept(self) -> None:
        assert list(_restored({"b": 1, 2: 2, "a": 3})) == ["b", 2, "a"]

    def test_shared_objects_become_copies(self) -> None:
        shared = [(1,)]

        first, second = _restored([shared, shared])

        assert first == second == shared
        assert first is not second

    def test_a_field_that_was_never_set_stays_unset(self) -> None:
        value = object.__new__(samples.Counted)
        value.items = [1]

        assert vars(_restored(value)) == {"items": [1]}

    def test_a_hash_cached_by_attrs_is_not_carried_to_another_process(self) -> None:
        parcel = samples.Parcel("weight")
        hash(parcel)

        restored = _restored({parcel: 1})

        assert restored == {parcel: 1}

    def test_plain_data_nested_500_deep_comes_back(self) -> None:
        value: list[Any] = []
        for _ in range(499):
            value = [value]

        assert _restored(value) == value


def test_restoring_an_instance_runs_neither_constructor_nor_hooks_nor_setters(
    tmp_path: pathlib.Path,
) -> None:
    program = textwrap.dedent(
        """
        import dataclasses, sys
        sys.path[:0] = sys.argv[1:]
        from dbos.serialization import JSONSerializer

        @dataclasses.dataclass
        class Loud:
            x: int
            def __post_init__(self): print("post_init")
            def __setattr__(self, name, value):
                print("setattr"); object.__setattr__(self, name, value)

        value = Loud(1)
        print("made")
        stored = JSONSerializer().serialize(value)
        assert JSONSerializer().deserialize(stored).x == 1
        """
    )

    done = subprocess.run(
        [sys.executable, "-c", program, *sys.path],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )

    assert done.stdout.split() == ["setattr", "post_init", "made"]


def test_the_uuid_class_is_kept() -> None:
    value = uuid4()

    assert type(_restored(value)) is UUID
    assert _restored(value) == value
