"""Takeover of runs whose owner is gone, and the claim that starts them again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbos.storage.protocol import SingleRead, Statement, Topic, Tx, Write
from dbos.storage.rows import LiveExecutor

INTERNAL_QUEUE = "_dbos_internal_queue"

# A run is open to takeover when no unexpired incarnation owns it, or when it was handed back and
# its grace period is over. The fresh claim shuts out whatever the former owner still tries to
# write.
_IS_OPEN = """
    run.status = 'PENDING'
    AND (run.application_name IS NULL OR run.application_name = :application_name)
    AND (run.not_before_epoch_ms <= {now_ms} OR NOT EXISTS (
        SELECT 1 FROM {perdure_executors} AS owner
        WHERE owner.incarnation_id = run.incarnation_id
          AND owner.lease_until_epoch_ms > {now_ms}))
"""
TAKE_OVER = Statement(
    f"""
    UPDATE {{workflow_status}} SET status = 'ENQUEUED', owner_xid = :claim, incarnation_id = NULL,
        queue_name = COALESCE(queue_name, :internal_queue), not_before_epoch_ms = NULL,
        updated_at = {{now_ms}}
    WHERE workflow_uuid IN (
        SELECT run.workflow_uuid FROM {{workflow_status}} AS run
        WHERE {_IS_OPEN}
        ORDER BY run.created_at LIMIT :batch {{skip_locked}})
    RETURNING queue_name
    """
)


LOOK = Statement(
    f"""
    SELECT incarnation_id, executor_id, host, pid, process_started, lease_until_epoch_ms, FALSE
    FROM {{perdure_executors}}
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, NULL, NULL,
        EXISTS (SELECT 1 FROM {{workflow_status}} AS run WHERE {_IS_OPEN})
    """
)


class Neighbourhood(NamedTuple):
    """All known incarnations, expired ones included, and whether a run is open to takeover."""

    peers: list[LiveExecutor]
    has_open_runs: bool


@SingleRead
def look(tx: Tx, application_name: str) -> Neighbourhood:
    """One look at everything that a takeover depends on."""
    rows = tx.all(LOOK, application_name=application_name)
    peers = [LiveExecutor(*row[:6]) for row in rows if row[0] is not None]
    return Neighbourhood(peers, any(bool(row[6]) for row in rows))


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


OWNED = Statement(
    """
    SELECT workflow_uuid, owner_xid FROM {workflow_status}
    WHERE incarnation_id = :incarnation_id AND status = 'PENDING'
      AND not_before_epoch_ms IS NULL AND owner_xid IS NOT NULL
    """
)


@SingleRead
def owned(tx: Tx, incarnation_id: str) -> list[tuple[str, str]]:
    """The runs that an incarnation owns and has not handed back, with their claims."""
    return [(row[0], row[1]) for row in tx.all(OWNED, incarnation_id=incarnation_id)]
