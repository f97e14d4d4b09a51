"""What one process was told and what it did: acknowledged writes, and step bodies it began."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from dbos.engine.context import Scope
from dbos.storage.deduplication import Contest
from dbos.storage.rows import Admitted, ChildLaunch, FinishRow, NewRun, Recorded, StepRow

StepKey = tuple[str, int]


@dataclass(slots=True)
class Ledger:
    """The books of one process, kept at the seam between the engine and its drivers."""

    recorded: set[StepKey] = field(default_factory=set[StepKey])
    """Steps known to be recorded: durable before the process began, or acknowledged to it."""
    records: dict[StepKey, StepRow] = field(default_factory=dict[StepKey, StepRow])
    """Operations whose record was acknowledged."""
    outcomes: dict[str, FinishRow] = field(default_factory=dict[str, FinishRow])
    """Runs whose outcome was acknowledged."""
    admitted: set[str] = field(default_factory=set[str])
    """Runs whose creation was acknowledged."""
    bodies: Counter[StepKey] = field(default_factory=Counter[StepKey])
    """How often each step's body was begun."""
    repeats: list[StepKey] = field(default_factory=list[StepKey])
    """Bodies that were begun although the step was recorded."""
    _inside: dict[int, Scope] = field(default_factory=dict[int, Scope])

    def body_begins(self, scope: Scope) -> bool:
        """Whether a call of user code is the body of a step, not a plain call made inside it."""
        if scope.step is None or scope.run is None or id(scope) in self._inside:
            return False
        self._inside[id(scope)] = scope
        key = (scope.run.workflow_id, scope.step.step_id)
        self.bodies[key] += 1
        if key in self.recorded:
            self.repeats.append(key)
        return True

    def body_ends(self, scope: Scope) -> None:
        self._inside.pop(id(scope), None)

    def knows(self, steps: Iterable[StepKey]) -> None:
        """These steps are recorded already."""
        self.recorded.update(steps)

    def acknowledge(self, arg: object, answer: object) -> None:
        """A write was answered. Writes that record nothing need no entry."""
        match arg, answer:
            case NewRun(), Admitted():
                self.admitted.add(arg.workflow_uuid)
            case FinishRow(), True:
                self.outcomes[arg.workflow_uuid] = arg
            case _:
                self._acknowledge_record(arg, answer)

    def _acknowledge_record(self, arg: object, answer: object) -> None:
        verdict = answer if isinstance(answer, Recorded) else getattr(answer, "recorded", None)
        # Who contends for a place learns with the answer what was recorded.
        row = answer.record if isinstance(answer, Contest) else _record_in(arg)
        if row is None or not isinstance(verdict, Recorded) or verdict.verdict != "kept":
            return
        key = (row.workflow_uuid, row.function_id)
        self.records[key] = row
        self.recorded.add(key)
        if isinstance(arg, ChildLaunch):
            self.admitted.add(arg.child.workflow_uuid)


def subject(arg: object) -> tuple[str | None, int | None]:
    """The run and the step that a write is about."""
    row = _record_in(arg)
    if row is not None:
        return row.workflow_uuid, row.function_id
    workflow_id = getattr(arg, "workflow_uuid", None)
    return (workflow_id if isinstance(workflow_id, str) else None), None


def _record_in(arg: object) -> StepRow | None:
    """The record that a write makes, alone or along with something else."""
    row = arg if isinstance(arg, StepRow) else getattr(arg, "record", None)
    return row if isinstance(row, StepRow) else None
