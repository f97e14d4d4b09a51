"""Takeover of runs whose owner is gone, and the claim that starts them again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dbos.storage.protocol import Statement, Topic, Tx, Write

INTERNAL_QUEUE = "_dbos_internal_queue"

# A run is open to takeover when no unexpired incarnation owns it, or when it was handed back and
# its grace period is over. The fresh claim shuts out whatever the former owner still tries to
# write.
TAKE_OVER = Statement(
    """
    UPDATE {workflow_status} SET status = 'ENQUEUED', owner_xid = :claim, incarnation_id = NULL,
        queue_name = COALESCE(queue_name, :internal_queue), not_before_epoch_ms = NULL,
        updated_at = {now_ms}
    WHERE workflow_uuid IN (
        SELECT run.workflow_uuid FROM {workflow_status} AS run
        WHERE run.status = 'PENDING'
          AND (run.application_name IS NULL OR run.application_name = :application_name)
          AND (run.not_before_epoch_ms <= {now_ms} OR NOT EXISTS (
                SELECT 1 FROM {perdure_executors} AS owner
                WHERE owner.incarnation_id = run.incarnation_id
                  AND owner.lease_until_epoch_ms > {now_ms}))
        ORDER BY run.created_at LIMIT :batch {skip_locked})
    RETURNING queue_name
    """
)


@dataclass(frozen=True, slots=True)
class TakeOver:
    """One bounded takeover, by a process of this application."""

    application_name: str
    claim: str
    batch: int


def take_over_all(tx: Tx, requests: Sequence[TakeOver]) -> list[list[str]]:
    """Put runs whose owner is gone back on their queues; per request the queue of each run."""
    return [
        [
            row[0]
            for row in tx.all(
                TAKE_OVER,
                application_name=request.application_name,
                claim=request.claim,
                batch=request.batch,
                internal_queue=INTERNAL_QUEUE,
            )
        ]
        for request in requests
    ]


def _taken_topics(_: TakeOver, queues: list[str]) -> Iterable[Topic]:
    return (Topic("queue", queue) for queue in set(queues))


take_over: Final = Write("take_over", take_over_all, _taken_topics, rank=5)
