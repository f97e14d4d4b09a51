"""What a measurement is: a program, its parameters, and the figures it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Database = Literal["sqlite", "postgres"]
DATABASES: tuple[Database, ...] = ("sqlite", "postgres")


@dataclass(frozen=True, slots=True)
class Ratio:
    """A target against the reference: so many times better."""

    times: float

    def __str__(self) -> str:
        return f"{self.times:g}x"


@dataclass(frozen=True, slots=True)
class Limit:
    """A target of our own figure alone, at most or at least this, as the figure's sense has it."""

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Targets:
    """The bar must be held; the goal is where we are going."""

    bar: Ratio | Limit
    goal: Ratio | Limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that a program reports, and one line of the table for each database."""

    key: str
    title: str
    unit: str
    more_is_better: bool = False
    targets: Mapping[Database, Targets] = field(default_factory=dict[Database, Targets])
    databases: tuple[Database, ...] = DATABASES


@dataclass(frozen=True, slots=True)
class Row:
    """One program with its parameters. `quick` replaces some of them for a short look."""

    name: str
    program: str
    figures: tuple[Figure, ...]
    parameters: Mapping[str, float]
    quick: Mapping[str, float]
    databases: tuple[Database, ...] = DATABASES

    def arguments(self, *, quick: bool) -> list[str]:
        chosen = {**self.parameters, **self.quick} if quick else self.parameters
        return [f"{name}={number:g}" for name, number in chosen.items()]
