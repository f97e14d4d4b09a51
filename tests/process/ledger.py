"""The ledger: what step bodies did, written where no rollback and no kill can take it back.

Each process appends to a file of its own, one line for each event, in one write that is flushed to
the disk. Lines carry the time of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["begin", "end", "known"]
StepKey = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """A step body began or ended, or its result became known to the workflow."""

    at_ns: int
    pid: int
    kind: str
    step: StepKey
    name: str

    def text(self) -> str:
        workflow_id, step_id = self.step
        return f"{self.at_ns} {self.pid} {self.kind} {workflow_id} {step_id} {self.name}\n"

    @classmethod
    def parse(cls, line: str) -> Entry:
        at_ns, pid, kind, workflow_id, step_id, name = line.split()
        return cls(int(at_ns), int(pid), kind, (workflow_id, int(step_id)), name)


class LedgerWriter:
    """Appends the events of this process."""

    def __init__(self, directory: Path) -> None:
        name = f"{time.monotonic_ns()}-{os.getpid()}.ledger"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(directory / name, flags, 0o644)

    def append(self, kind: Kind, step: StepKey, name: str) -> None:
        entry = Entry(time.monotonic_ns(), os.getpid(), kind, step, name)
        os.write(self._file, entry.text().encode())
        os.fsync(self._file)


def read_ledger(directory: Path) -> list[Entry]:
    """The events of all processes, in the order of their times."""
    files = sorted(directory.glob("*.ledger"))
    entries = [Entry.parse(line) for file in files for line in _whole_lines(file.read_text())]
    return sorted(entries, key=_time)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database held at a time at which it had certainly been read."""

    at_ns: int
    recorded: frozenset[StepKey]
    started: frozenset[str]
    """The ids of all runs."""


def runs_after_record(
    entries: Iterable[Entry], snapshots: Iterable[Snapshot]
) -> dict[StepKey, Entry]:
    """Steps whose body began after their record was seen, with the first such beginning.

    A record was seen by whoever read the database from outside, or by the workflow itself, to which
    the engine returned the step's result: it may do so only when the record is durable.
    """
    entries = list(entries)
    seen = _first_seen(entries, snapshots)
    violations: dict[StepKey, Entry] = {}
    for entry in entries:
        if entry.kind == "begin" and entry.at_ns > seen.get(entry.step, entry.at_ns):
            violations.setdefault(entry.step, entry)
    return violations


def lives_of_steps(entries: Iterable[Entry]) -> Mapping[StepKey, set[int]]:
    """For each step, the processes in which its body began."""
    lives: defaultdict[StepKey, set[int]] = defaultdict(set)
    for entry in entries:
        if entry.kind == "begin":
            lives[entry.step].add(entry.pid)
    return lives


def _first_seen(entries: list[Entry], snapshots: Iterable[Snapshot]) -> dict[StepKey, int]:
    seen: dict[StepKey, int] = {}
    for entry in entries:
        if entry.kind == "known":
            seen.setdefault(entry.step, entry.at_ns)
    for snapshot in snapshots:
        for step in snapshot.recorded:
            seen[step] = min(seen.get(step, snapshot.at_ns), snapshot.at_ns)
    return seen


def _whole_lines(text: str) -> list[str]:
    """All lines but one that a kill cut short: a write may end at the boundary of a page."""
    return text[: text.rfind("\n") + 1].splitlines()


def _time(entry: Entry) -> int:
    return entry.at_ns
