"""What one process was told and what it did: acknowledged writes, and step bodies it began."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dbos.engine.context import Scope
from dbos.storage.deduplication import Contest
from dbos.storage.rows import Admitted, ChildLaunch, FinishRow, NewRun, Recorded, StepRow
from dbos.testing.asks import Ask, StepKey, ask_in, is_granted

__all__ = ["Ledger", "StepKey", "subject"]


@dataclass(frozen=True, slots=True)
class _Forgotten:
    """What was known before something was asked for that takes it away."""

    ask: Ask
    recorded: frozenset[StepKey]
    records: Mapping[StepKey, StepRow]
    outcomes: Mapping[str, FinishRow]
    admitted: frozenset[str]


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
    asks: list[Ask] = field(default_factory=list[Ask])
    """What it asked for that changes or removes what runs have made durable."""
    _unanswered: dict[int, _Forgotten] = field(default_factory=dict[int, _Forgotten])
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

    def ask(self, write_name: str, arg: object) -> None:
        """A write is about to happen; what it may take away is not known to be there any more."""
        ask = ask_in(write_name, arg)
        if ask is None:
            return
        self.asks.append(ask)
        forgotten = self._covered_by(ask)
        self._unanswered[id(arg)] = forgotten
        self.recorded -= forgotten.recorded
        for key in forgotten.records:
            del self.records[key]
        for workflow_id in forgotten.outcomes:
            del self.outcomes[workflow_id]
        self.admitted -= forgotten.admitted

    def acknowledge(self, arg: object, answer: object) -> None:
        """A write was answered. Writes that record nothing need no entry."""
        forgotten = self._unanswered.pop(id(arg), None)
        if forgotten is not None and not is_granted(answer):
            self._remember(forgotten)
        match arg, answer:
            case NewRun(), Admitted():
                self.admitted.add(arg.workflow_uuid)
            case FinishRow(), True:
                self.outcomes[arg.workflow_uuid] = arg
            case _:
                self._acknowledge_record(arg, answer)

    def _covered_by(self, ask: Ask) -> _Forgotten:
        if ask.kind not in ("delete", "rewind"):
            return _Forgotten(ask, frozenset(), {}, {}, frozenset())
        parents = {
            row.child_workflow_id: key[0]
            for key, row in list(self.records.items())
            if row.child_workflow_id is not None
        }
        return _Forgotten(
            ask,
            frozenset(key for key in list(self.recorded) if ask.removes(key, parents)),
            {key: row for key, row in list(self.records.items()) if ask.removes(key, parents)},
            {run: row for run, row in list(self.outcomes.items()) if ask.is_about(run, parents)},
            frozenset(
                run
                for run in list(self.admitted)
                if ask.kind == "delete" and ask.is_about(run, parents)
            ),
        )

    def _remember(self, forgotten: _Forgotten) -> None:
        """It was refused, so that all is there as before."""
        self.asks.remove(forgotten.ask)
        self.recorded |= forgotten.recorded
        self.records.update(forgotten.records)
        self.outcomes.update(forgotten.outcomes)
        self.admitted |= forgotten.admitted

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
