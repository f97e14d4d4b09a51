"""Claimants that claim at once from their own threads: no limit is exceeded, no row taken twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from dbos.config import parse_database_url
from dbos.storage.open import open_database
from dbos.storage.protocol import Database
from dbos.storage.queue_limits import QueueLimits, RateLimit
from tests.storage.waiting_runs import QUEUE, Process, enqueue, waiting

CLAIMANTS = 6
ROUNDS = 8
RUNS = 30
KEYS = ("a", "b", "c")

LIMITS = {
    "none": (QueueLimits(QUEUE), RUNS),
    "global": (QueueLimits(QUEUE, global_concurrency=4), 4),
    "rate": (QueueLimits(QUEUE, rate=RateLimit(5, 100_000)), 5),
    "worker": (QueueLimits(QUEUE, worker_concurrency=1), CLAIMANTS),
    "partition": (QueueLimits(QUEUE, partition_concurrency=2, is_partitioned=True), 6),
    "partition rate": (
        QueueLimits(QUEUE, partition_rate=RateLimit(3, 100_000), is_partitioned=True),
        9,
    ),
    "lanes": (QueueLimits(QUEUE), len(KEYS)),
}


@pytest.fixture
def opened(postgres_url: str) -> Iterator[list[Database]]:
    """One for each claimant: a process has one writer. SQLite has one writer in all."""
    databases: list[Database] = [
        open_database(parse_database_url(postgres_url)) for _ in range(CLAIMANTS)
    ]
    databases[0].migrate()
    yield databases
    for database in databases:
        database.close()


@pytest.mark.parametrize("kind", LIMITS)
def test_claimants_at_once_reach_every_limit_and_exceed_none(
    opened: list[Database], kind: str
) -> None:
    limits, most = LIMITS[kind]
    has_keys = limits.is_partitioned or kind == "lanes"
    key = {f"r{n}": KEYS[n % len(KEYS)] if has_keys else None for n in range(RUNS)}
    enqueue(opened[0], *(waiting(run, queue_partition_key=key[run]) for run in key))
    together = Barrier(CLAIMANTS)

    def claim(number: int) -> list[str]:
        process = Process(opened[number], f"p{number}")
        taken: list[str] = []
        for _ in range(ROUNDS):
            together.wait(30)
            taken += process.claim(limits, batch=3)
        return taken

    with ThreadPoolExecutor(CLAIMANTS) as pool:
        each = list(pool.map(claim, range(CLAIMANTS)))
    # Who found the queue's lock taken came back empty: the last one to ask is alone.
    last = Process(opened[0], "last").claim_all(limits) if kind != "worker" else []

    taken = [run for runs in [*each, last] for run in runs]
    assert len(taken) == len(set(taken))
    assert len(taken) <= most
    assert kind == "worker" or len(taken) == most
    assert kind != "worker" or max(map(len, each)) <= 1
    if has_keys:
        assert set(Counter(key[run] for run in taken).values()) == {most // len(KEYS)}
