"""What workers are asked to do: each errand is one workflow with a known id and a known result."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["chain", "fan", "family", "clan", "stroll", "hear", "tell"]
Mode = Literal["background", "background_async", "direct", "direct_async"]

SPECIAL: tuple[Kind, ...] = ("stroll", "hear", "tell")
"""Not of a storm: the steps of a stroll take their time, and who hears waits for who tells."""
KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind not in SPECIAL)
BLOCKING_KINDS: tuple[Kind, ...] = ("chain", "family")
BLOCKING_MODES: tuple[Mode, ...] = ("background", "direct")
ASYNC_MODES: tuple[Mode, ...] = ("background", "background_async", "direct_async")
FAN_WIDTH = 3
WALK_S = 2.5
"""How long each of the two steps of a stroll takes."""
TELL_EVERY_S = 0.1
LONGEST_PAUSE_S = 0.3
LARGEST_NUMBER = 1000
"""Of a storm. Each further thousand is a second of sleep."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One workflow to start: which, how, under what id and with what argument."""

    workflow_id: str
    kind: Kind
    mode: Mode
    number: int

    @property
    def expected(self) -> int:
        return EXPECTED[self.kind](self.number)

    def command(self) -> str:
        return f"start {self.workflow_id} {self.kind} {self.mode} {self.number}"


def draw_errands(count: int, prefix: str, randomness: random.Random) -> list[Errand]:
    """A mixture of all kinds and modes, the same for the same seed."""
    errands: list[Errand] = []
    for index in range(count):
        kind = KINDS[index % len(KINDS)]
        modes = BLOCKING_MODES if kind in BLOCKING_KINDS else ASYNC_MODES
        mode = randomness.choice(modes)
        errands.append(Errand(f"{prefix}{index}", kind, mode, randomness.randrange(LARGEST_NUMBER)))
    return errands


def pause_s(number: int) -> float:
    """How long a workflow with this argument sleeps: in a storm, at most the longest pause."""
    if number >= LARGEST_NUMBER:
        return number / LARGEST_NUMBER
    return (number * 37 % 100) / 100 * LONGEST_PAUSE_S


def chain(number: int) -> int:
    return (number + 1) * 2 + 3


def fan(number: int) -> int:
    return sum(number + index + 1 for index in range(FAN_WIDTH)) * 2


def family(number: int) -> int:
    return chain(number) + fan(number) + chain(number + 1) + 1


def clan(number: int) -> int:
    return fan(number) + fan(number + 1) + chain(number) + 1


def stroll(number: int) -> int:
    return number + 2


def heard(so_far: int, word: int) -> int:
    """What is known after one more word: it tells the order, and whether one is missing."""
    return (so_far * 31 + word + 1) % 1_000_003


def hear(number: int) -> int:
    known = 0
    for word in range(number):
        known = heard(known, word)
    return known


def tell(number: int) -> int:
    return number


EXPECTED = {
    "chain": chain,
    "fan": fan,
    "family": family,
    "clan": clan,
    "stroll": stroll,
    "hear": hear,
    "tell": tell,
}
