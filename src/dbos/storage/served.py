"""What a process learns before it claims: the queues it serves, and on which of them runs wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbos.storage.protocol import Row, SingleRead, Statement, Topic, Tx, Write
from dbos.storage.queue_limits import QueueLimits
from dbos.storage.queues import QueueSettings
from dbos.storage.versions import LATEST_VERSION

# Asked for in the order of an index. A plain EXISTS is planned as if any row of the table would do,
# where one queue holds most of them; for the others the whole table is then read.
_WAITS = """
    (SELECT TRUE FROM {workflow_status} AS run WHERE run.queue_name = known.name
        AND run.status = 'ENQUEUED' AND run.status IN ('ENQUEUED', 'PENDING')
     ORDER BY run.priority, run.created_at LIMIT 1) IS NOT NULL
"""
_WAITS_WITH_KEY = """
    (SELECT TRUE FROM {workflow_status} AS run WHERE run.queue_name = known.name
        AND run.status = 'ENQUEUED' AND run.status IN ('ENQUEUED', 'PENDING')
        AND run.queue_partition_key IS NOT NULL AND run.queue_partition_key >= ''
     ORDER BY run.queue_partition_key LIMIT 1) IS NOT NULL
"""

# The last row tells when the next delay ends, and which version is the latest.
LOOK = Statement(
    f"""
    SELECT known.name, TRUE, known.concurrency, known.worker_concurrency, known.rate_limit_max,
        known.rate_limit_period_sec, known.partition_concurrency,
        known.partition_worker_concurrency, known.partition_rate_limit_max,
        known.partition_rate_limit_period_sec, known.partition_queue, known.polling_interval_sec,
        {_WAITS}, {_WAITS_WITH_KEY}, CAST(NULL AS BIGINT), NULL
    FROM {{queues}} AS known
    WHERE known.application_name IS NULL OR known.application_name = :application_name
    UNION ALL
    SELECT known.name, FALSE, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE, NULL,
        {_WAITS}, {_WAITS_WITH_KEY}, NULL, NULL
    FROM (SELECT r.name FROM {{rows}}) AS known
    UNION ALL
    SELECT NULL, FALSE, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE, NULL, FALSE, FALSE,
        (SELECT delayed.delay_until_epoch_ms FROM {{workflow_status}} AS delayed
         WHERE delayed.status = 'DELAYED' AND delayed.delay_until_epoch_ms IS NOT NULL
           AND (delayed.application_name IS NULL
                OR delayed.application_name = :application_name)
         ORDER BY delayed.delay_until_epoch_ms LIMIT 1),
        {LATEST_VERSION}
    """,
    {"name": "text"},
)


@dataclass(frozen=True, slots=True)
class Named:
    """A queue that this process declares."""

    name: str


class QueueState(NamedTuple):
    """Whether runs wait on a queue. The limits are None for a queue that is not registered."""

    name: str
    limits: QueueLimits | None
    has_waiting: bool
    has_keys: bool


class Situation(NamedTuple):
    """All registered queues of the scope and all declared ones, and what holds for all of them."""

    queues: list[QueueState]
    next_due_ms: int | None
    latest_version: str | None


@SingleRead
def look(tx: Tx, application_name: str, declared: Sequence[str]) -> Situation:
    """One look at everything a dispatcher serves."""
    rows = tx.all(LOOK, application_name=application_name, rows=[Named(name) for name in declared])
    queues = [
        QueueState(row[0], _limits(row) if row[1] else None, bool(row[12]), bool(row[13]))
        for row in rows
        if row[0] is not None
    ]
    (shared,) = (row for row in rows if row[0] is None)
    return Situation(queues, next_due_ms=shared[14], latest_version=shared[15])


def _limits(row: Row) -> QueueLimits:
    """What a registered queue enforces."""
    return QueueSettings(
        name=row[0],
        concurrency=row[2],
        worker_concurrency=row[3],
        rate_limit_max=row[4],
        rate_limit_period_sec=row[5],
        partition_concurrency=row[6],
        partition_worker_concurrency=row[7],
        partition_rate_limit_max=row[8],
        partition_rate_limit_period_sec=row[9],
        partition_queue=bool(row[10]),
        polling_interval_sec=row[11],
    ).limits()


# A debounced run holds its deduplication id for as long as calls may still be joined with it.
PROMOTE = Statement(
    """
    UPDATE {workflow_status} SET status = 'ENQUEUED', updated_at = {now_ms},
        deduplication_id = CASE WHEN is_debounced THEN NULL ELSE deduplication_id END
    WHERE workflow_uuid IN (
        SELECT run.workflow_uuid FROM {workflow_status} AS run
        WHERE run.status = 'DELAYED' AND run.delay_until_epoch_ms <= {now_ms}
          AND (run.application_name IS NULL OR run.application_name = :application_name)
        ORDER BY run.delay_until_epoch_ms LIMIT :batch {skip_locked})
    RETURNING queue_name
    """
)


@dataclass(frozen=True, slots=True)
class Promotion:
    """One bounded look for runs whose delay is over."""

    application_name: str
    batch: int


def promote_all(tx: Tx, requests: Sequence[Promotion]) -> list[list[str]]:
    """Let runs whose delay is over compete on their queues; per request the queue of each."""
    return [
        [
            row[0]
            for row in tx.all(
                PROMOTE, application_name=request.application_name, batch=request.batch
            )
        ]
        for request in requests
    ]


def _promoted_topics(_: Promotion, queues: list[str]) -> Iterable[Topic]:
    return (Topic("queue", queue) for queue in set(queues))


promote: Final = Write("promote", promote_all, _promoted_topics, rank=4)
