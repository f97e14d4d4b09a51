"""Cron expressions: the dialect, and ticks compared with a walk over every minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbos.cron import BadCron, BadZone, has_a_date, parse

MINUTE = timedelta(minutes=1)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
# Just before clocks change somewhere, and a day without a change.
STARTS = tuple(
    datetime(2026, month, day, tzinfo=UTC)
    for month, day in ((3, 8), (3, 29), (4, 4), (6, 1), (10, 3), (10, 25), (11, 1))
)


def ticks(expression: str, start: str, zone: str | None = None, count: int = 3) -> list[str]:
    cron = parse(expression, zone, "name")
    after = datetime.fromisoformat(start).replace(tzinfo=UTC)
    return [tick.isoformat(" ") for tick in islice(cron.after(after), count)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 4 * * *", ["03-01 04:30:00", "03-02 04:30:00"]),
        ("  5/20   * * * * ", ["03-01 00:05:00", "03-01 00:25:00"]),
        ("15 0 12 * * ?", ["03-01 12:00:15", "03-02 12:00:15"]),
        ("0 0 9 1 * * 2026-2027", ["03-01 09:00:00", "04-01 09:00:00"]),
        ("0 0 L * *", ["03-31 00:00:00", "04-30 00:00:00"]),
        ("0 0 * * L5", ["03-27 00:00:00", "04-24 00:00:00"]),
        ("0 0 * * sun#2", ["03-08 00:00:00", "04-12 00:00:00"]),
        ("0 0 * APR 7", ["04-05 00:00:00", "04-12 00:00:00"]),
        ("0 0 13 * FRI", ["03-06 00:00:00", "03-13 00:00:00"]),
        ("@monthly", ["04-01 00:00:00", "05-01 00:00:00"]),
        ("@HOURLY", ["03-01 01:00:00", "03-01 02:00:00"]),
    ],
)
def test_an_expression_ticks_when_it_says(expression: str, expected: list[str]) -> None:
    assert ticks(expression, "2026-03-01", count=2) == [f"2026-{at}+00:00" for at in expected]


@pytest.mark.parametrize(
    "expression",
    [
        *("", "* * * *", "* * * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 0 *"),
        *("* * * * 8", "*/0 * * * *", "5-1 * * * *", "* * LW * *", "* * 15W * *", "* * * * 5L"),
        *("H * * * *", "@reboot", "@every 5m", "* * * foo *", "0 0 0 1 1 ? 1969", "? * * * *"),
        *("0 0 * * L-5", "0 0 * * fri#6", "0 0 * * mon-wed#1"),
        *("-1 * * * *", "1,,2 * * * *", "1.5 * * * *", "² * * * *"),
    ],
)
def test_what_is_not_in_the_dialect_is_refused(expression: str) -> None:
    with pytest.raises(BadCron):
        parse(expression, None, "name")


@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("0 0 * * mon,wed#1", ["05", "07", "12", "19"]),
        ("0 0 * * 5-6/2,L1", ["02", "09", "16", "23", "26"]),
        ("0 0 * * *,wed#1", ["02", "03", "04", "05"]),
        ("0 0 5 * L5", ["05", "30"]),
        ("0 0 L * sun#2,L6", ["11", "31"]),
        ("0 0 5,9 * wed#1,fri", ["02", "05", "07", "09", "16"]),
    ],
)
def test_weekdays_of_a_month_go_with_plain_ones_and_with_days(
    expression: str, days: list[str]
) -> None:
    found = ticks(expression, "2026-01-01", None, len(days))

    assert [tick[:10] for tick in found] == [f"2026-01-{day}" for day in days]


@pytest.mark.parametrize("zone", ["Mars/Base", "", "../etc/passwd", "a" * 5000, "Europe"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(BadZone):
        parse("* * * * *", zone, "name")


def test_the_thirtieth_of_february_has_no_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    assert not has_a_date(parse("0 0 30 2 *", None, "name"), now)
    assert has_a_date(parse("0 0 29 2 *", None, "name"), now)
    assert has_a_date(parse("0 0 0 1 1 * 2099", None, "name"), now)


def test_a_random_value_depends_on_the_name_alone() -> None:
    def picked(name: str) -> str:
        return parse("R R * * *", None, name).expression

    assert picked("a") == picked("a")
    assert len({picked(str(number)) for number in range(50)}) > 40


def test_a_missing_time_moves_forward_and_a_doubled_one_fires_once() -> None:
    spring = ticks("30 2 * * *", "2026-03-28T12:00", "Europe/Berlin", 2)
    autumn = ticks("30 2 * * *", "2026-10-24T12:00", "Europe/Berlin", 2)

    assert spring == ["2026-03-29 03:30:00+02:00", "2026-03-30 02:30:00+02:00"]
    assert autumn == ["2026-10-25 02:30:00+02:00", "2026-10-26 02:30:00+01:00"]


def test_the_newest_tick_of_a_long_time_is_found_without_a_walk() -> None:
    cron = parse("* * * * * *", None, "name")
    until = datetime(2026, 1, 1, tzinfo=UTC)

    assert cron.latest(datetime(1990, 1, 1, tzinfo=UTC), until) == until
    assert cron.latest(until, until) is None


def walked(minutes: set[int], hours: set[int] | None, zone: str, start: datetime) -> list[datetime]:
    """The ticks of two days, from a look at every local minute and every instant of them."""
    found: set[datetime] = set()
    tz = ZoneInfo(zone)
    local = start.astimezone(tz).replace(tzinfo=None) - timedelta(hours=3)
    for _ in range(54 * 60):
        if local.minute in minutes and (hours is None or local.hour in hours):
            folds = (0, 1) if hours is None else (0,)
            at = [local.replace(tzinfo=tz, fold=fold).astimezone(UTC) for fold in folds]
            # A fold of 1 in a gap is the same missing time, read with the later offset.
            found.update(at[:1] if at[-1] < at[0] else at)
        local += MINUTE
    return sorted(tick for tick in found if start < tick <= start + timedelta(days=2))


@settings(max_examples=30)
@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    hours=st.none() | st.sets(st.integers(0, 23), min_size=1, max_size=4),
    zone=st.sampled_from(ZONES),
    start=st.sampled_from(STARTS),
    late=st.integers(0, 24 * 60),
)
def test_ticks_are_those_of_a_walk_over_every_minute(
    minutes: set[int], hours: set[int] | None, zone: str, start: datetime, late: int
) -> None:
    after = start - timedelta(days=1) + late * MINUTE
    hour_field = "*" if hours is None else ",".join(map(str, hours))
    cron = parse(f"{','.join(map(str, minutes))} {hour_field} * * *", zone, "name")

    found = list(cron.between(after, after + timedelta(days=2, seconds=1)))

    assert found == walked(minutes, hours, zone, after)
