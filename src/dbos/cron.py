"""Cron expressions: which are accepted, and the instants at which one ticks in a time zone.

The seam over croniter, which finds matching local times. What those mean where clocks change is
decided here: croniter is asked about local times only, and knows of no zone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from heapq import merge
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from croniter import croniter

MACROS: Mapping[str, str] = MappingProxyType(
    {
        "@hourly": "0 * * * *",
        "@daily": "0 0 * * *",
        "@midnight": "0 0 * * *",
        "@weekly": "0 0 * * 0",
        "@monthly": "0 0 1 * *",
        "@yearly": "0 0 1 1 *",
        "@annually": "0 0 1 1 *",
    }
)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
SECOND = timedelta(seconds=1)
PROBE = timedelta(hours=25)
"""No zone changes its clocks by more."""


class BadCron(ValueError):
    """An expression that cannot be used; the text says why."""


class BadZone(ValueError):
    """A name that is no time zone."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    first_name: int = 0
    random_high: int = 0
    """The largest value that `R` may pick."""


_SECOND = _Field("second", 0, 59, random_high=59)
_MINUTE = _Field("minute", 0, 59, random_high=59)
_HOUR = _Field("hour", 0, 23, random_high=23)
# Every month has 28 days.
_DAY = _Field("day", 1, 31, random_high=28)
_MONTH = _Field("month", 1, 12, MONTHS, 1, random_high=12)
_WEEKDAY = _Field("weekday", 0, 7, DAYS, random_high=6)
_YEAR = _Field("year", 1970, 2099, random_high=2099)
FURTHEST_YEARS = 2099 - 1970
"""How far ahead the next tick is looked for."""
_FIELDS = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)


@dataclass(frozen=True, slots=True)
class Cron:
    """A checked expression in a time zone."""

    expression: str
    zone: tzinfo
    hours_are_open: bool
    """Whether the hour field begins with `*`: then ticks follow real time."""
    parts: tuple[str, ...]
    """The expressions whose ticks together are the schedule's."""

    def next(self, after: datetime) -> datetime | None:
        """The first tick later than an instant, at its own offset; None if there is none."""
        found = self._next(after.astimezone(UTC))
        return None if found is None else fixed(found.astimezone(self.zone))

    def after(self, start: datetime) -> Iterator[datetime]:
        """All ticks later than an instant, in order."""
        tick = self.next(start)
        while tick is not None:
            yield tick
            tick = self.next(tick)

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The ticks strictly between two instants, in order."""
        for tick in self.after(start):
            if tick >= end:
                return
            yield tick

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """The newest tick later than one instant and not later than another."""
        newest, span = None, SECOND
        while newest is None:
            start = max(after, until - span)
            for tick in self.after(start):
                if tick > until:
                    break
                newest = tick
            if start == after:
                break
            span *= 4
        return newest

    def _next(self, after: datetime) -> datetime | None:
        local = after.astimezone(self.zone).replace(tzinfo=None)
        shift = self._shift_near(after)
        if not shift:
            first = next(self._local_times(local), None)
            if first is None:
                return None
            instant = self._instants(first)[0]
            shift = self._shift_near(instant)
            if not shift:
                return instant
            local = max(local, first - shift - SECOND)
        return self._next_near_a_change(after, local - shift - SECOND, shift)

    def _next_near_a_change(
        self, after: datetime, start: datetime, shift: timedelta
    ) -> datetime | None:
        """Where clocks change, the order of local times is not the order of instants."""
        best: datetime | None = None
        last: datetime | None = None
        for local in self._local_times(start):
            if last is not None and local > last:
                break
            for instant in self._instants(local):
                if instant > after and (best is None or instant < best):
                    best = instant
                    last = best.astimezone(self.zone).replace(tzinfo=None) + shift
        return best

    def _instants(self, local: datetime) -> list[datetime]:
        """What a local time stands for: a missing one moves forward, a doubled one is the first."""
        first = local.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        second = local.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        # In a gap the two are the other way round, and the first is the one moved forward.
        return [first, second] if self.hours_are_open and second > first else [first]

    def _shift_near(self, instant: datetime) -> timedelta:
        """By how much the clocks change close to an instant; zero if they do not."""
        shift = self._change(instant, PROBE)
        if shift:
            # There is one within a day; it matters only where the two local times overlap.
            shift = self._change(instant, shift + SECOND)
        return shift

    def _change(self, instant: datetime, reach: timedelta) -> timedelta:
        return abs(self._offset(instant + reach) - self._offset(instant - reach))

    def _offset(self, instant: datetime) -> timedelta:
        offset = instant.astimezone(self.zone).utcoffset()
        assert offset is not None
        return offset

    def _local_times(self, after: datetime) -> Iterator[datetime]:
        walks = [_matches(_croniter(part, after)) for part in self.parts]
        return walks[0] if len(walks) == 1 else (time for time, _ in groupby(merge(*walks)))


def parse(expression: str, zone_name: str | None, name: str) -> Cron:
    """Check an expression; `R` in it picks values from `name`.

    Raises:
        BadCron: it is not in the dialect (contract, services 2.6), or has no date at all.
        BadZone: the zone is not known.
    """
    zone = time_zone(zone_name)
    text = MACROS.get(expression.strip().lower(), expression)
    fields = text.split()
    if not 5 <= len(fields) <= 7:
        number = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        raise BadCron(f"it has {number} and not 5, 6 or 7")
    kinds = _FIELDS if len(fields) == 5 else (_SECOND, *_FIELDS, _YEAR)[: len(fields)]
    checked = [
        ",".join(_element(part, kind, name) for part in field.lower().split(","))
        for field, kind in zip(fields, kinds, strict=True)
    ]
    hour = 1 if len(fields) == 5 else 2
    checked[hour + 3] = _weekdays(checked[hour + 3])
    parts = _parts(checked, hour + 1)
    return Cron(" ".join(checked), zone, checked[hour].startswith("*"), parts)


def has_a_date(cron: Cron, now: datetime) -> bool:
    """Whether an expression ticks at all from now on; 30 February does not."""
    return cron.next(now) is not None


def time_zone(name: str | None) -> tzinfo:
    """The zone of an IANA name; UTC without one.

    Raises:
        BadZone: the name is not known.
    """
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        # The file system's own complaints about odd names included.
        raise BadZone("it is not an IANA time zone such as Europe/Berlin") from None


def fixed(instant: datetime) -> datetime:
    """An instant with its offset alone, which every format can store."""
    offset = instant.utcoffset()
    assert offset is not None
    return instant.replace(tzinfo=timezone(offset) if offset else UTC, fold=0)


_NUMBER = r"(?:[0-9]+|[a-z]{3})"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})(?:-(?P<high>{_NUMBER}))?(?:/(?P<step>[0-9]+))?")
_EVERY = re.compile(r"\*(?:/(?P<step>[0-9]+))?")
_LAST_WEEKDAY = re.compile(r"l(?P<day>[0-7])")
_NTH_WEEKDAY = re.compile(rf"(?P<day>{_NUMBER})#(?P<nth>[1-5])")


def _element(text: str, kind: _Field, name: str) -> str:
    """One element of a field, checked, in the spelling that croniter takes."""
    if text == "r":
        return str(_picked(kind, name))
    if (found := _EVERY.fullmatch(text)) is not None:
        _check_step(found["step"], kind)
        return text
    if (special := _special(text, kind)) is not None:
        return special
    found = _RANGE.fullmatch(text)
    if found is None:
        raise BadCron(f"its {kind.name} field cannot be read")
    _check_step(found["step"], kind)
    low = _value(found["low"], kind)
    step = f"/{int(found['step'])}" if found["step"] else ""
    if found["high"] is None:
        # From a on: croniter reads it so as well, and for weekdays up to Saturday.
        top = 6 if kind is _WEEKDAY else kind.high
        return f"{low}-{max(low, top)}{step}" if step else str(low)
    high = _value(found["high"], kind)
    if kind is _WEEKDAY and found["high"] == "sun" and low > 0:
        high = 7
    if high < low:
        raise BadCron(f"a range of its {kind.name} field is reversed")
    return f"{low}-{high}{step}"


def _special(text: str, kind: _Field) -> str | None:
    """What days and weekdays take in addition."""
    if text == "?" and kind in (_DAY, _WEEKDAY):
        return "*"
    if text == "l" and kind is _DAY:
        return text
    if kind is not _WEEKDAY:
        return None
    if (last := _LAST_WEEKDAY.fullmatch(text)) is not None:
        return f"l{int(last['day']) % 7}"
    if (nth := _NTH_WEEKDAY.fullmatch(text)) is not None:
        return f"{_value(nth['day'], kind) % 7}#{nth['nth']}"
    return None


def _weekdays(field: str) -> str:
    """A weekday field of one sort: croniter takes no plain weekday beside `L5` or `5#2`."""
    elements = field.split(",")
    if not any(_is_of_month(element) for element in elements):
        return field
    if "*" in elements:
        return "*"
    return ",".join(
        element
        if _is_of_month(element)
        else ",".join(f"{day}#{nth}" for day in _plain_weekdays(element) for nth in range(1, 6))
        for element in elements
    )


def _plain_weekdays(element: str) -> Iterable[int]:
    """The weekdays of a checked element, which is a day, a range or a step."""
    days, _, step = element.partition("/")
    low, _, high = ("0-6" if days == "*" else days).partition("-")
    return sorted({day % 7 for day in range(int(low), int(high or low) + 1, int(step or 1))})


def _parts(fields: list[str], day: int) -> tuple[str, ...]:
    """A day or a weekday of the month: croniter takes the two for both at once."""
    weekday = day + 2
    if fields[day] == "*" or not _is_of_month(fields[weekday]):
        return (" ".join(fields),)
    return tuple(
        " ".join("*" if index == open_field else field for index, field in enumerate(fields))
        for open_field in (day, weekday)
    )


def _is_of_month(weekdays: str) -> bool:
    """Whether it is the nth or the last weekday of a month."""
    return "#" in weekdays or "l" in weekdays


def _value(text: str, kind: _Field) -> int:
    if text.isdigit():
        value = int(text) if len(text) < 5 else -1
    elif text in kind.names:
        value = kind.names.index(text) + kind.first_name
    else:
        raise BadCron(f"its {kind.name} field has an unknown name")
    if not kind.low <= value <= kind.high:
        raise BadCron(f"its {kind.name} is not within {kind.low} to {kind.high}")
    return value


def _check_step(step: str | None, kind: _Field) -> None:
    if step is not None and (len(step) > 4 or not 1 <= int(step) <= kind.high):
        raise BadCron(f"a step of its {kind.name} field is not within 1 to {kind.high}")


def _picked(kind: _Field, name: str) -> int:
    digest = hashlib.sha256(f"{kind.name}\0{name}".encode()).digest()
    size = kind.random_high - kind.low + 1
    return kind.low + int.from_bytes(digest[:8], "big") % size


def _croniter(expression: str, after: datetime) -> croniter:
    # Most programs have no schedule, and importing it takes longer than any module of ours.
    from croniter import croniter

    return croniter(
        expression, after, second_at_beginning=True, max_years_between_matches=FURTHEST_YEARS
    )


def _matches(walk: croniter) -> Iterator[datetime]:
    from croniter import CroniterBadDateError

    while True:
        try:
            found: datetime = walk.get_next(datetime)
        except (CroniterBadDateError, OverflowError):
            return
        yield found
