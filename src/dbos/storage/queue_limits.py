"""The limits of a queue, as every claim on it must respect them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `limit` starts in any window of `period_s` seconds, over all processes."""

    limit: int
    period_s: float


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What is enforced on one queue, older spellings resolved; None means no limit."""

    name: str
    global_concurrency: int | None = None
    worker_concurrency: int | None = None
    rate: RateLimit | None = None
    partition_concurrency: int | None = None
    partition_worker_concurrency: int | None = None
    partition_rate: RateLimit | None = None
    is_partitioned: bool = False
    """Whether keys are partitions under `partition_*` limits. Else each key is a serial lane."""
    polling_interval_s: float = 1.0
