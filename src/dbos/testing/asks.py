"""What a process asked for that changes or removes what runs have made durable, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from dbos.storage.forks import Forked, Forking
from dbos.storage.management import Command, Commanded, is_refused
from dbos.storage.rewinding import Rewinding, Rewound
from dbos.storage.snapshots import RunState

StepKey = tuple[str, int]
Kind = Literal["cancel", "resume", "delete", "rewind", "fork"]


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One call that steers runs, from the moment on at which it may have taken effect."""

    kind: Kind
    workflow_ids: tuple[str, ...]
    """Of a fork: its own id and that of its source."""
    start_step: int = 0
    """Of a rewind or a fork: below it, what is recorded stays or is copied."""
    with_children: bool = False
    caller_id: str | None = None
    """The run whose code calls, and records it; None: others do, and nothing is recorded."""

    def removes(self, key: StepKey, parents: Mapping[str, str | None]) -> bool:
        """Whether the record of a step goes away."""
        if self.kind == "rewind":
            return key[0] in self.workflow_ids and key[1] >= self.start_step
        return self.kind == "delete" and self.is_about(key[0], parents)

    def is_about(self, workflow_id: str, parents: Mapping[str, str | None]) -> bool:
        """Whether a run is one of these, or with children a descendant of one."""
        line: str | None = workflow_id
        while line is not None:
            if line in self.workflow_ids:
                return True
            line = parents.get(line) if self.with_children else None
        return False


def ask_in(write_name: str, arg: object) -> Ask | None:
    """What a write asks for, if it is one of these."""
    match write_name, arg:
        case ("cancel" | "resume" | "delete") as kind, Command():
            return Ask(kind, arg.workflow_ids, 0, arg.with_children, _caller(arg))
        case _, Rewinding():
            return Ask("rewind", (arg.workflow_id,), arg.start_step, False, _caller(arg))
        case _, Forking():
            ids = (arg.fork_id, arg.source_id)
            return Ask("fork", ids, arg.start_step, False, _caller(arg))
        case _:
            return None


def is_granted(answer: object) -> bool:
    """Whether it was done: not refused, and not asked of a run that is none or goes on."""
    match answer:
        case Commanded():
            return not is_refused(answer.recorded) and not answer.unknown
        case Rewound():
            return answer.outcome == "rewound"
        case Forked():
            return answer.outcome in ("made", "known")
        case _:
            return False


def parents_of(runs: Mapping[str, RunState]) -> dict[str, str | None]:
    """Of each run the run that started it."""
    return {workflow_id: run.parent for workflow_id, run in runs.items()}


def are_about(
    asks: Iterable[Ask],
    kinds: Iterable[Kind],
    workflow_id: str,
    parents: Mapping[str, str | None],
) -> bool:
    """Whether something of these kinds was asked about a run."""
    wanted = frozenset(kinds)
    return any(ask.kind in wanted and ask.is_about(workflow_id, parents) for ask in asks)


def _caller(arg: Command | Rewinding | Forking) -> str | None:
    return None if arg.record is None else arg.record.workflow_uuid
