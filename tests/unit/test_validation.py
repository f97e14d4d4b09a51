"""The rules at the edge: what is accepted, what is refused, and what a refusal may say."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbos import validation
from dbos.errors import DBOSException, DBOSInvalidInputError


class Colour(StrEnum):
    RED = "red"


TEXTS: list[Callable[[Any], object]] = [
    lambda value: validation.identifier(value, "key"),
    lambda value: validation.optional_identifier(value, "key"),
    validation.workflow_id,
    validation.topic,
    validation.queue_name,
    validation.step_name,
]


@pytest.mark.parametrize("check", TEXTS)
@pytest.mark.parametrize("value", ["", " ", "\t\n", "\u3000", "a\0b", "\0", "a\ud800", 5, b"a"])
def test_a_text_that_cannot_be_a_key_is_refused(
    check: Callable[[Any], object], value: object
) -> None:
    with pytest.raises(DBOSInvalidInputError):
        check(value)


@pytest.mark.parametrize("check", TEXTS)
@pytest.mark.parametrize(
    "value",
    ["a", " a ", "a::b", "a b", "ключ", "x" * 1000, "é" * 1000, "\U0001f600" * 1000, "a\nb"],
)
def test_a_text_of_up_to_a_thousand_characters_is_taken_unchanged(
    check: Callable[[Any], object], value: str
) -> None:
    assert check(value) == value


def test_a_longer_text_is_taken_only_if_it_surely_fits_an_index() -> None:
    fitting = "x" * validation.LONGEST_BYTES

    assert validation.identifier(fitting, "key") == fitting
    with pytest.raises(DBOSInvalidInputError, match="key is too long"):
        validation.identifier(fitting + "x", "key")
    with pytest.raises(DBOSInvalidInputError, match="key is too long"):
        validation.identifier("é" * 1001, "key")


@given(st.text())
def test_an_accepted_identifier_can_be_stored_anywhere(text: str) -> None:
    try:
        taken = validation.identifier(text, "key")
    except DBOSInvalidInputError:
        assert not text.strip() or "\0" in text or len(text) > 1000
        return

    assert taken == text
    assert "\0" not in taken
    assert taken.encode().decode() == text
    assert not taken.isspace()


def test_a_str_subclass_becomes_a_plain_str() -> None:
    taken = validation.identifier(Colour.RED, "key")

    assert taken == "red"
    assert type(taken) is str


def test_a_refusal_names_the_parameter_and_the_type() -> None:
    with pytest.raises(DBOSInvalidInputError, match="deduplication_id must be a str, not int"):
        validation.identifier(5, "deduplication_id")


def test_none_is_allowed_only_where_it_means_something() -> None:
    assert validation.optional_identifier(None, "key") is None
    assert validation.topic(None) is None
    assert validation.optional_label(None, "user") is None
    with pytest.raises(DBOSInvalidInputError, match="workflow_id must be a str, not NoneType"):
        validation.workflow_id(None)


def test_a_blank_workflow_id_is_refused_in_the_words_of_the_reference() -> None:
    with pytest.raises(DBOSInvalidInputError, match="workflow IDs must be non-empty"):
        validation.workflow_id(" ")


def test_reserved_texts_are_refused() -> None:
    with pytest.raises(DBOSInvalidInputError, match="__null__topic__ is reserved"):
        validation.topic("__null__topic__")
    with pytest.raises(DBOSInvalidInputError, match="_dbos_mine must not start with _dbos_"):
        validation.queue_name("_dbos_mine")
    with pytest.raises(DBOSException, match=r"DBOS\.sleep must not start with DBOS\."):
        validation.step_name("DBOS.sleep")
    with pytest.raises(DBOSInvalidInputError, match="close_stream"):
        validation.stream_value("__DBOS_STREAM_CLOSED__")


@pytest.mark.parametrize("value", [None, "x", 5, ["__DBOS_STREAM_CLOSED__"], object()])
def test_any_other_stream_value_passes(value: object) -> None:
    validation.stream_value(value)


def test_a_user_may_be_empty_but_not_unstorable() -> None:
    assert validation.label("", "user") == ""
    with pytest.raises(DBOSInvalidInputError, match="user must not contain a NUL"):
        validation.label("\0", "user")


def test_roles_are_a_list_of_texts() -> None:
    assert validation.roles(("a", "b")) == ["a", "b"]
    assert validation.roles([]) == []
    assert validation.roles(None) is None
    for bad in ("admin", 5, ["a", 5], ["a\0"]):
        with pytest.raises(DBOSInvalidInputError, match="roles must"):
            validation.roles(bad)


def test_a_filter_is_one_text_or_several() -> None:
    assert validation.filter_values("a", "name") == ["a"]
    assert validation.filter_values(["a", "b"], "name") == ["a", "b"]
    assert validation.filter_values([], "name") is None
    assert validation.filter_values(None, "name") is None
    for bad in (5, ["a", 5], "a\0"):
        with pytest.raises(DBOSInvalidInputError, match="name must"):
            validation.filter_values(bad, "name")


NUMBERS: list[Callable[[Any], object]] = [
    lambda value: validation.finite_number(value, "n"),
    lambda value: validation.duration(value, "n"),
    validation.positive_timeout,
    validation.step_timeout,
    validation.waiting_limit,
    validation.polling_interval,
    validation.sleep_seconds,
    lambda value: validation.retry_options(1, value, 1),
    lambda value: validation.retry_options(1, 1, value),
    lambda value: validation.workflow_delay(value, None),
    lambda value: validation.workflow_delay(None, value),
]


@pytest.mark.parametrize("check", NUMBERS)
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**400, Decimal("NaN"), True, "5", 1j, [1], b"1"]
)
def test_what_is_no_finite_real_number_is_refused(
    check: Callable[[Any], object], value: object
) -> None:
    with pytest.raises(DBOSInvalidInputError):
        check(value)


@pytest.mark.parametrize("check", NUMBERS)
@pytest.mark.parametrize("value", [1, 1.5, Decimal("2.5"), Fraction(1, 2)])
def test_every_kind_of_real_number_is_taken(check: Callable[[Any], object], value: object) -> None:
    check(value)


@pytest.mark.parametrize(
    "check",
    [
        lambda value: validation.duration(value, "n"),
        validation.positive_timeout,
        validation.step_timeout,
        validation.waiting_limit,
        validation.polling_interval,
        validation.sleep_seconds,
    ],
)
def test_a_duration_is_at_most_a_hundred_years(check: Callable[[Any], object]) -> None:
    century = 100 * 365.25 * 86400

    assert check(century) == century
    with pytest.raises(DBOSInvalidInputError, match="at most 100 years"):
        check(century * 1.01)


@pytest.mark.parametrize("value", [0, -1, -0.5])
def test_a_timeout_must_be_positive(value: float) -> None:
    with pytest.raises(DBOSInvalidInputError, match="Timeouts must be positive"):
        validation.positive_timeout(value)
    with pytest.raises(DBOSInvalidInputError, match="positive and finite"):
        validation.step_timeout(value)
    assert validation.step_timeout(None) is None


def test_a_step_timeout_that_is_not_finite_is_refused_in_the_same_words() -> None:
    with pytest.raises(DBOSInvalidInputError, match="positive and finite"):
        validation.step_timeout(math.inf)


def test_a_waiting_limit_may_be_zero_but_not_negative() -> None:
    assert validation.waiting_limit(0) == 0.0
    assert validation.optional_waiting_limit(None) is None
    with pytest.raises(DBOSInvalidInputError, match="timeout_seconds must not be negative"):
        validation.optional_waiting_limit(-0.1)


def test_a_polling_interval_is_at_least_a_millisecond() -> None:
    assert validation.polling_interval(0.001) == 0.001
    with pytest.raises(DBOSInvalidInputError, match=r"at least 0\.001"):
        validation.polling_interval(0)


def test_a_sleep_may_be_zero_or_negative() -> None:
    assert validation.sleep_seconds(-5) == -5.0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((0, 1, 1), "max_attempts"),
        ((1.5, 1, 1), "max_attempts"),
        ((3, -1, 1), "interval_seconds"),
        ((3, 1, 0), "backoff_rate"),
        ((3, 1, -2), "backoff_rate"),
    ],
)
def test_a_bad_retry_option_is_refused_by_name(options: tuple[Any, Any, Any], name: str) -> None:
    with pytest.raises(DBOSInvalidInputError, match=name):
        validation.retry_options(*options)


def test_retry_options_at_their_bounds_are_taken() -> None:
    assert validation.retry_options(1, 0, 0.1) == (1, 0.0, 0.1)


@pytest.mark.parametrize(("value", "expected"), [(None, None), (0, None), (5, 5), (2**40, 2**40)])
def test_a_limit_of_none_or_zero_is_unset(value: int | None, expected: int | None) -> None:
    assert validation.page_limit(value) == expected


@pytest.mark.parametrize("value", [-1, 1.0, True, "5", 2**63, math.nan])
def test_a_bad_limit_or_offset_is_refused_by_name(value: object) -> None:
    with pytest.raises(DBOSInvalidInputError, match="offset must be"):
        validation.page_limit(value, "offset")


def test_a_fork_starts_from_zero_and_a_rewind_from_one() -> None:
    assert validation.start_step(0) == 0
    assert validation.start_step(1, 1) == 1
    assert validation.start_step(2**40) == 2**31 - 1
    for value, least in ((-1, 0), (0, 1), (1.0, 0), (True, 0)):
        with pytest.raises(DBOSInvalidInputError, match="start_step must be"):
            validation.start_step(value, least)


def test_a_stream_offset_is_not_negative() -> None:
    assert validation.stream_offset(0) == 0
    assert validation.stream_offset(2**62) == 2**31 - 1
    with pytest.raises(DBOSInvalidInputError, match="offset must be at least 0"):
        validation.stream_offset(-1)


@pytest.mark.parametrize("value", [0, -1, 2147483648, 1.5, "1", True])
def test_a_priority_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(DBOSInvalidInputError, match="Invalid priority"):
        validation.priority(value)


@pytest.mark.parametrize("value", [None, 1, 2147483647])
def test_a_priority_in_range_is_taken(value: int | None) -> None:
    assert validation.priority(value) == value


def test_a_delay_is_given_in_exactly_one_way() -> None:
    assert validation.workflow_delay(1.5, None) == (1.5, None)
    assert validation.workflow_delay(None, 1000.4) == (None, 1000)
    assert validation.workflow_delay(0, None) == (0.0, None)
    with pytest.raises(DBOSInvalidInputError, match="not both"):
        validation.workflow_delay(1, 1)
    with pytest.raises(DBOSInvalidInputError, match="Must specify either"):
        validation.workflow_delay(None, None)
    with pytest.raises(DBOSInvalidInputError, match="delay_seconds must be >= 0"):
        validation.workflow_delay(-1, None)
    with pytest.raises(DBOSInvalidInputError, match="delay_until_epoch_ms must be >= 0"):
        validation.workflow_delay(None, -1)
    with pytest.raises(DBOSInvalidInputError, match="delay_until_epoch_ms must be at most"):
        validation.workflow_delay(None, 10**15)


def test_attributes_become_json_text() -> None:
    assert validation.attributes({"a": [1, "é"]}) == '{"a":[1,"é"]}'
    assert validation.attributes({}) == "{}"
    assert validation.attributes(None) is None


@pytest.mark.parametrize("value", [[], "a", 5, [("a", 1)]])
def test_attributes_that_are_no_dict_are_refused(value: object) -> None:
    with pytest.raises(DBOSInvalidInputError, match="must be a dict"):
        validation.attributes(value)


def _cycle() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    "value",
    [
        {"a": object()},
        {"a": math.nan},
        {"a": math.inf},
        {(1, 2): 3},
        {"a": "\ud800"},
        {"a": "secret\0"},
        {"a\0": 1},
        {"a": "\\\0"},
        {"a": {1, 2}},
        {"a": 10**5000},
        _cycle(),
    ],
)
def test_attributes_that_one_of_the_databases_cannot_store_are_refused_unseen(
    value: object,
) -> None:
    with pytest.raises(DBOSInvalidInputError, match="must be JSON-serializable") as caught:
        validation.attributes(value)

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_backslash_that_only_looks_like_an_escaped_nul_is_allowed() -> None:
    assert validation.attributes({"a": "\\u0000"}) == '{"a":"\\\\u0000"}'


def test_policies_are_one_of_two_words() -> None:
    assert validation.duplication_policy(None) == "reject"
    assert validation.duplication_policy("return-existing") == "return-existing"
    assert validation.workflow_id_reuse_policy(None) == "return-existing"
    assert validation.workflow_id_reuse_policy("reject") == "reject"
    with pytest.raises(DBOSInvalidInputError, match="Invalid duplication_policy"):
        validation.duplication_policy("keep")
    with pytest.raises(DBOSInvalidInputError, match="Invalid workflow_id_reuse_policy"):
        validation.workflow_id_reuse_policy(5)


def test_a_long_value_is_never_echoed_in_full() -> None:
    with pytest.raises(DBOSInvalidInputError) as caught:
        validation.queue_name("_dbos_" + "x" * 900)

    assert len(str(caught.value)) < 400


def test_an_id_is_shown_on_one_line() -> None:
    assert validation.shown("order-7") == "order-7"
    assert validation.shown("a\nb") == "a\\nb"
    assert validation.shown("x" * 500) == "x" * 100 + "... (500 characters)"


def test_a_decorator_without_its_parentheses_is_told_so() -> None:
    with pytest.raises(DBOSInvalidInputError, match="Parentheses are required: write @it"):
        validation.parentheses(int, "@it()")

    validation.parentheses("given", "@it()")
