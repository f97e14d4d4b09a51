"""The limits of the storm's queues, its ledger of jobs, and what the ledger says about the limits.

A job runs from the line of its beginning to the line of its end, or to the death of its process.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

GLOBAL_MOST, WORKER_MOST, PARTITION_MOST = 3, 2, 2
RATE_LIMIT, RATE_PERIOD_S = 5, 1.0
QUEUES = ("global", "worker", "partition", "lane", "rate")
KEYS = 4


def key_of(queue: str, number: int) -> str:
    """The partition key of a job; a dash stands for none."""
    return f"k{number % KEYS}" if queue in ("partition", "lane") else "-"


@dataclass(frozen=True, slots=True)
class Line:
    """Something that a job did. `started_ms` is the time of its claim, where a rate is limited."""

    at_ns: int
    pid: int
    kind: str
    workflow_id: str
    queue: str
    key: str
    started_ms: int = 0

    def text(self) -> str:
        fields = (self.at_ns, self.pid, self.kind, self.workflow_id, self.queue, self.key)
        return " ".join(map(str, (*fields, self.started_ms))) + "\n"


class JobLedger:
    """One file for all processes, to which each line is appended by one write."""

    def __init__(self, directory: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(directory / "jobs.ledger", flags, 0o644)

    def append(
        self, kind: str, workflow_id: str, queue: str, key: str, started_ms: int = 0
    ) -> None:
        line = Line(time.monotonic_ns(), os.getpid(), kind, workflow_id, queue, key, started_ms)
        os.write(self._file, line.text().encode())


def read_jobs(directory: Path) -> list[Line]:
    """All lines, in the order of their times."""
    lines: list[Line] = []
    for text in (directory / "jobs.ledger").read_text().splitlines():
        at_ns, pid, kind, workflow_id, queue, key, started_ms = text.split()
        lines.append(Line(int(at_ns), int(pid), kind, workflow_id, queue, key, int(started_ms)))
    return sorted(lines, key=lambda line: line.at_ns)


def peaks(lines: Iterable[Line], deaths_ns: Mapping[int, int]) -> dict[str, int]:
    """For each limited queue, the most jobs that ran at once in what its limit is about."""
    changes: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    open_runs: dict[tuple[int, str], Line] = {}
    last_ns = 0
    for line in lines:
        last_ns = max(last_ns, line.at_ns)
        if line.kind == "begin":
            open_runs[line.pid, line.workflow_id] = line
            changes[_scope(line)].append((line.at_ns, 1))
        elif line.kind == "end":
            begun = open_runs.pop((line.pid, line.workflow_id))
            changes[_scope(begun)].append((line.at_ns, -1))
    for (pid, _), begun in open_runs.items():
        # What a living process has begun goes on beyond the ledger.
        death_ns = max(deaths_ns.get(pid, last_ns + 1), begun.at_ns)
        changes[_scope(begun)].append((death_ns, -1))
    most: defaultdict[str, int] = defaultdict(int)
    for (queue, _), steps in changes.items():
        most[queue] = max(most[queue], _peak(steps))
    return dict(most)


def most_in_window(starts_ms: Iterable[int], period_ms: int) -> int:
    """The most starts in any window of the period."""
    starts, most, first = sorted(starts_ms), 0, 0
    for index, start in enumerate(starts):
        while starts[first] <= start - period_ms:
            first += 1
        most = max(most, index - first + 1)
    return most


def done_again(lines: Iterable[Line]) -> list[str]:
    """The jobs whose step ran once more after its result had been handed to the workflow."""
    known: set[str] = set()
    again: list[str] = []
    for line in lines:
        if line.kind == "known":
            known.add(line.workflow_id)
        elif line.kind == "work" and line.workflow_id in known:
            again.append(line.workflow_id)
    return again


def _scope(line: Line) -> tuple[str, str]:
    """What a limit counts together: the queue, the process's part of it, or one key."""
    if line.queue == "worker":
        return line.queue, str(line.pid)
    return line.queue, line.key


def _peak(steps: list[tuple[int, int]]) -> int:
    """An end at the very time of a beginning comes first."""
    running = most = 0
    for _, step in sorted(steps):
        running += step
        most = max(most, running)
    return most
