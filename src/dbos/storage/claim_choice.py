"""Which of the waiting runs a claim takes: pure decisions about rows that were read under a lock.

On a plain queue every key is a serial lane: its first run counts, and only if nothing of the lane
runs. On a partitioned queue keys take turns, and each key has limits of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dbos.storage.queue_limits import QueueLimits, RateLimit


class Candidate(NamedTuple):
    """A waiting run that its reader may run. The first three are its place in the queue's order."""

    priority: int
    created_at: int
    number: int
    workflow_id: str
    function: str


class Waiting(NamedTuple):
    """What waits under one key, and what of it runs. The key None stands for rows without one."""

    key: str | None
    running: int
    running_here: int
    started: int
    oldest_start_ms: int | None
    candidates: Sequence[Candidate]


@dataclass(slots=True)
class Room:
    """What a claim may still take: its batch, the queue's free slots, and free threads."""

    runs: int
    threads: int | None
    sync: Collection[str]
    """The functions that need a thread."""
    taken: list[str] = field(default_factory=list[str])

    def admits(self, candidate: Candidate) -> bool:
        if self.runs < 1:
            return False
        return self.threads is None or self.threads > 0 or candidate.function not in self.sync

    def take(self, candidate: Candidate) -> None:
        self.runs -= 1
        if self.threads is not None and candidate.function in self.sync:
            self.threads -= 1
        self.taken.append(candidate.workflow_id)


def take_lanes(room: Room, keyless: Sequence[Candidate], lanes: Iterable[Waiting]) -> None:
    """Take rows without a key and the heads of free lanes, in the order of the queue."""
    heads = [lane.candidates[0] for lane in lanes if lane.candidates and not lane.running]
    for candidate in sorted([*keyless, *heads]):
        if room.admits(candidate):
            room.take(candidate)


def take_partitions(room: Room, partitions: Sequence[Waiting], limits: QueueLimits) -> str | None:
    """Take rows in turns, one of each partition; where the next turn begins, None if none was."""
    queues = [
        (partition.key, list(reversed(allowed)))
        for partition in partitions
        if (allowed := _allowed(partition, limits))
    ]
    last: str | None = None
    while queues and room.runs > 0:
        for key, rest in queues:
            candidate = rest.pop()
            if room.admits(candidate):
                room.take(candidate)
                last = key or ""
        queues = [(key, rest) for key, rest in queues if rest]
    return last


def _allowed(partition: Waiting, limits: QueueLimits) -> Sequence[Candidate]:
    """What of a partition its own limits let start now, in order."""
    slots = [len(partition.candidates)]
    if limits.partition_concurrency is not None:
        slots.append(limits.partition_concurrency - partition.running)
    if limits.partition_worker_concurrency is not None:
        slots.append(limits.partition_worker_concurrency - partition.running_here)
    if limits.partition_rate is not None:
        slots.append(limits.partition_rate.limit - partition.started)
    return sorted(partition.candidates)[: max(0, min(slots))]


def next_start_ms(rate: RateLimit | None, started: int, oldest_ms: int | None) -> int | None:
    """When a used-up rate limit allows the next start; None if it does not hold anything up."""
    if rate is None or started < rate.limit or oldest_ms is None:
        return None
    return oldest_ms + period_ms(rate) + 1


def period_ms(rate: RateLimit) -> int:
    """The window in whole milliseconds, rounded up: the limit is never exceeded."""
    return -int(-rate.period_s * 1000 // 1)
