"""Arguments at dispatch: validation by type hints, and dates in portable arguments."""

from __future__ import annotations

import builtins
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from dbos.errors import DBOSInvalidInputError, DBOSUsageError
from dbos.serialization import (
    coerce_portable_arguments,
    make_pydantic_args_validator,
    pydantic_args_validator,
    resolve_validator,
)
from tests.unit.serialization.samples import Model, Point

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]


def order(item: str, amount: int, *more: date, when: datetime | None = None, **rest: int) -> None:
    """A function with every kind of parameter."""


def unhinted(item, amount=1):  # type: ignore[no-untyped-def]
    """A function that says nothing of its arguments."""


def scheduled(at: datetime, day: date, text: str, maybe: datetime | None = None) -> None: ...


def half_known(other: Unknown, at: datetime) -> None: ...


class TestValidation:
    def test_valid_arguments_are_converted(self) -> None:
        validate = make_pydantic_args_validator(order)

        args, kwargs = validate(
            ("book", "3", "2024-01-02"), {"when": "2024-01-02T00:00:00Z", "k": "1"}
        )

        assert args == ("book", 3, date(2024, 1, 2))
        assert kwargs == {"when": datetime(2024, 1, 2, tzinfo=UTC), "k": 1}

    def test_every_bad_argument_is_listed_and_no_value_is_shown(self) -> None:
        validate = make_pydantic_args_validator(order)

        with pytest.raises(DBOSInvalidInputError) as caught:
            validate((5, "secret", "never"), {"rest_one": "no"})

        text = str(caught.value)
        assert "Argument validation failed for workflow:" in text
        for part in ("item: ", "amount: ", "more[0]: ", "rest_one: "):
            assert part in text
        assert "secret" not in text

    def test_missing_and_surplus_arguments_are_listed(self) -> None:
        with pytest.raises(DBOSInvalidInputError, match="amount: Missing"):
            make_pydantic_args_validator(order)(("book",), {})
        with pytest.raises(DBOSInvalidInputError, match="too many"):
            make_pydantic_args_validator(unhinted)((1, 2, 3), {})

    def test_arguments_without_a_hint_pass_as_they_are(self) -> None:
        marker = object()

        assert make_pydantic_args_validator(unhinted)((marker,), {}) == ((marker,), {})

    def test_models_and_unknown_classes_are_checked(self) -> None:
        class Opaque: ...

        def take(model, opaque, point):  # type: ignore[no-untyped-def]
            """Hints are set below."""

        take.__annotations__ = {"model": Model, "opaque": Opaque, "point": Point}
        validate = make_pydantic_args_validator(take)
        opaque = Opaque()

        (model, same, point), _ = validate(({"value": 1}, opaque, {"x": 1}), {})

        assert (type(model), same, type(point)) == (Model, opaque, Point)
        with pytest.raises(DBOSInvalidInputError, match="opaque: "):
            validate(({"value": 1}, 5, {"x": 1}), {})

    def test_the_marker_stands_for_a_validator_of_the_function(self) -> None:
        def own(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return args, kwargs

        made = resolve_validator(pydantic_args_validator, order)

        assert made is not None
        assert made(("book", "3"), {}) == (("book", 3), {})
        assert resolve_validator(own, order) is own
        assert resolve_validator(None, order) is None
        with pytest.raises(DBOSUsageError, match="marker"):
            pydantic_args_validator((), {})

    def test_without_pydantic_it_is_an_import_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = builtins.__import__

        def without(name: str, *args: Any, **kwargs: Any) -> Any:
            if name == "pydantic":
                raise ImportError(name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)

        with pytest.raises(ImportError, match="pydantic 2"):
            make_pydantic_args_validator(order)

    def test_with_an_old_pydantic_it_is_an_import_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pydantic.VERSION", "1.10.2")

        with pytest.raises(ImportError, match="pydantic 2"):
            make_pydantic_args_validator(order)


class TestPortableDates:
    def test_texts_for_parameters_of_exactly_these_types_are_parsed(self) -> None:
        args, kwargs = coerce_portable_arguments(
            scheduled,
            ("2024-01-02T03:04:05.678Z", "2024-01-02"),
            {"text": "2024-01-02", "maybe": "2024-01-02T00:00:00Z"},
        )

        assert args[:2] == (datetime(2024, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC), date(2024, 1, 2))
        assert [*args[2:], *kwargs.values()] == ["2024-01-02", "2024-01-02T00:00:00Z"]

    def test_what_does_not_parse_is_left_alone(self) -> None:
        args, _ = coerce_portable_arguments(scheduled, ("soon", "2024-01-02T00:00:00Z", "x"), {})

        assert args == ("soon", "2024-01-02T00:00:00Z", "x")

    def test_other_values_than_texts_are_left_alone(self) -> None:
        now = datetime(2024, 1, 2)

        assert coerce_portable_arguments(scheduled, (now, 5, "x"), {})[0] == (now, 5, "x")

    def test_arguments_that_do_not_fit_the_function_are_left_alone(self) -> None:
        assert coerce_portable_arguments(scheduled, ("2024-01-02",), {"no": 1}) == (
            ("2024-01-02",),
            {"no": 1},
        )

    def test_surplus_positions_are_parsed_by_their_common_hint(self) -> None:
        args, _ = coerce_portable_arguments(order, ("a", 1, "2024-01-02", "x"), {})

        assert args == ("a", 1, date(2024, 1, 2), "x")

    def test_a_hint_that_cannot_be_resolved_does_not_hide_the_others(self) -> None:
        args, _ = coerce_portable_arguments(half_known, ("2024-01-02", "2024-01-02"), {})

        assert args == ("2024-01-02", datetime(2024, 1, 2))

    def test_a_function_without_such_hints_gets_its_arguments_as_they_are(self) -> None:
        args, kwargs = ("2024-01-02",), {"amount": 2}

        assert coerce_portable_arguments(unhinted, args, kwargs) == (args, kwargs)
