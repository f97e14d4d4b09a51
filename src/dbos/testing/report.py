"""What an exploration found: points, violations and the story of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dbos.storage.snapshots import Snapshot

Moment = Literal["before", "after", "frozen"]
"""When the process stops: before an effect happens, after it has happened but before its caller
hears of it, or for a while only, as a process that is paused and goes on when it has been replaced.
"""


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that the engine did to the world."""

    number: int
    kind: str
    """`commit`, `post`, `read`, `call`, `wait` or `sleep`."""
    name: str
    """The write, query or function."""
    workflow_id: str | None = None
    step_id: int | None = None

    def __str__(self) -> str:
        where = ""
        if self.workflow_id is not None:
            where = f" in workflow {self.workflow_id}"
            if self.step_id is not None:
                where += f", step {self.step_id}"
        return f"effect {self.number} ({self.kind} {self.name}{where})"


@dataclass(frozen=True, slots=True)
class Point:
    """A place where a run of the scenario was interrupted."""

    number: int
    moment: Moment
    effect: Effect | None = None
    """What the process was about to do, or had just done; None if it ended before that."""
    resumes_early: bool = False
    """A frozen process goes on while its successor holds the work but has not begun it."""
    second: int | None = None
    """The effect of the recovering process before which that one crashes as well."""

    def __str__(self) -> str:
        effect = f"effect {self.number}" if self.effect is None else str(self.effect)
        if self.moment == "frozen":
            return f"frozen at {effect}, thawed {self._thaw}"
        told = f"crash {self.moment} {effect}"
        if self.second is not None:
            told += f", and again before effect {self.second} of the recovery"
        return told

    @property
    def _thaw(self) -> str:
        if self.resumes_early:
            return "before the successor began"
        return "after the successor had finished"


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, and where."""

    point: Point | None
    """None: without any crash."""
    rule: str
    story: str

    def __str__(self) -> str:
        where = "without a crash" if self.point is None else str(self.point)
        return f"{where}: {self.rule}: {self.story}"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a scenario ended for its caller: with a value, or with an error."""

    value: Any = None
    error: str | None = None
    """Type and text of the exception."""
    hangs: bool = False
    """It did not end in time."""

    def __str__(self) -> str:
        return f"returned {self.value!r}" if self.error is None else f"raised {self.error}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left when a scenario has come to its end, crashed or not."""

    ending: Ending
    """What the caller got who ran the scenario to its end."""
    snapshot: Snapshot
    """What the database holds."""
    bodies: Mapping[tuple[str, int], int]
    """How often each step's body was begun, by workflow id and step id, over all processes."""

    @property
    def result(self) -> Any:
        """What the scenario returned; None if it raised."""
        return self.ending.value


class CrashViolations(AssertionError):
    """An exploration found broken promises; the text tells all of them."""


@dataclass(slots=True)
class Report:
    """The result of an exploration."""

    points: int = 0
    """How many interruptions were tried."""
    effects: list[Effect] = field(default_factory=list[Effect])
    """What the scenario did to the world when nothing interrupted it."""
    violations: list[Violation] = field(default_factory=list[Violation])

    def raise_for_violations(self) -> None:
        """Raise `CrashViolations` with all stories, if there are any."""
        if self.violations:
            raise CrashViolations(str(self))

    def __str__(self) -> str:
        head = (
            f"{self.points} interruptions at {len(self.effects)} effects: "
            f"{len(self.violations)} violations"
        )
        return "\n".join([head, *(f"- {violation}" for violation in self.violations)])
