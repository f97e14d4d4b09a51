"""Decides what a series of alternating runs says: medians, ratios, targets reached."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.plan import Figure, Limit, Ratio, Targets

Side = Literal["reference", "ours"]
SIDES: tuple[Side, ...] = ("reference", "ours")
Standing = Literal["goal", "bar", "below bar", ""]


@dataclass(frozen=True, slots=True)
class Spread:
    """The least, the middle and the greatest of some numbers."""

    least: float
    middle: float
    greatest: float


def turns(pairs: int, only: Side | None = None) -> Iterator[Side]:
    """Whose turn it is: one after the other, so that a slow minute of the machine hits both."""
    sides = SIDES if only is None else (only,)
    for _ in range(pairs):
        yield from sides


def spread(numbers: Sequence[float]) -> Spread | None:
    if not numbers:
        return None
    return Spread(min(numbers), statistics.median(numbers), max(numbers))


def ratios(
    reference: Sequence[float], ours: Sequence[float], *, more_is_better: bool
) -> list[float]:
    """How many times better we are, pair by pair; a pair with a zero in the way has no ratio."""
    found: list[float] = []
    for theirs, our in zip(reference, ours, strict=False):
        better, worse = (our, theirs) if more_is_better else (theirs, our)
        if worse > 0:
            found.append(better / worse)
    return found


def standing(
    figure: Figure, targets: Targets | None, ratio: Spread | None, our: Spread | None
) -> Standing:
    """The best target that our median reaches; empty where there is nothing to judge."""
    if targets is None:
        return ""
    verdicts = [_reaches(figure, target, ratio, our) for target in (targets.goal, targets.bar)]
    if None in verdicts:
        return ""
    goal, bar = verdicts
    if goal:
        return "goal"
    return "bar" if bar else "below bar"


def _reaches(
    figure: Figure, target: Ratio | Limit, ratio: Spread | None, our: Spread | None
) -> bool | None:
    match target:
        case Ratio(times):
            return None if ratio is None else ratio.middle >= times
        case Limit(value):
            if our is None:
                return None
            return our.middle >= value if figure.more_is_better else our.middle <= value
