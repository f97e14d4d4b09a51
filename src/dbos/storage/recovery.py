"""Takeover of runs whose owner is gone, and the claim that starts them again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dbos.storage.protocol import Row, Statement, Topic, Tx, Write
from dbos.storage.rows import ClaimedRun

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


@dataclass(frozen=True, slots=True)
class Runnable:
    """A workflow that a process can run."""

    name: str
    code_hash: str | None
    class_name: str | None = None


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims: the identity written to the rows, and what it may run (contract, core 6.4)."""

    incarnation_id: str
    executor_id: str
    application_name: str
    application_version: str
    is_latest: bool
    any_version: bool
    by_source: bool
    formats: Sequence[str]
    functions: Sequence[Runnable]
    instances: Sequence[tuple[str, str]] = ()
    """Class and config name of the instances it has."""


CLAIM = Statement(
    """
    UPDATE {workflow_status} SET status = 'PENDING', owner_xid = :claim,
        incarnation_id = :incarnation_id, executor_id = :executor_id,
        application_version = :application_version, code_hash = picked.code_hash,
        application_name = :application_name,
        started_at_epoch_ms = {now_ms}, updated_at = {now_ms}, not_before_epoch_ms = NULL,
        recovery_attempts = recovery_attempts + 1,
        workflow_deadline_epoch_ms =
            COALESCE(workflow_deadline_epoch_ms, {now_ms} + workflow_timeout_ms)
    FROM (
        SELECT run.workflow_uuid AS run_id, r.code_hash AS code_hash
        FROM {workflow_status} AS run JOIN {rows} ON r.name = run.name
          AND COALESCE(r.class_name, '') = COALESCE(run.class_name, '')
        WHERE run.status = 'ENQUEUED' AND run.queue_name = :queue_name
          AND (run.application_name IS NULL OR run.application_name = :application_name)
          AND (run.not_before_epoch_ms IS NULL OR run.not_before_epoch_ms <= {now_ms})
          AND (run.config_name IS NULL
               OR run.class_name || '/' || LENGTH(run.class_name) || '/' || run.config_name
                  {any_of(instances)})
          AND COALESCE(run.serialization, :unnamed_format) {any_of(formats)}
          AND (:any_version OR run.application_version = :application_version
               OR (:by_source AND run.code_hash = r.code_hash)
               OR (:is_latest AND run.application_version IS NULL))
        ORDER BY run.priority, run.created_at LIMIT :batch {skip_locked(run)}) AS picked
    WHERE {workflow_status}.workflow_uuid = picked.run_id
    RETURNING workflow_uuid, name, class_name, config_name, inputs, serialization, owner_xid,
        recovery_attempts, queue_name, workflow_timeout_ms, workflow_deadline_epoch_ms,
        authenticated_user, assumed_role, authenticated_roles, parent_workflow_id, priority,
        created_at
    """,
    {"name": "text", "code_hash": "text", "class_name": "text"},
)


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """One bounded claim on one queue."""

    claimant: Claimant
    queue_name: str
    claim: str
    batch: int
    unnamed_format: str


def claim_all(tx: Tx, requests: Sequence[ClaimRequest]) -> list[list[ClaimedRun]]:
    """Claim runs that a process may run, with their inputs, in the order of their queue."""
    return [_claim(tx, request) for request in requests]


CLAIMED = Statement(
    """
    SELECT workflow_uuid, name, class_name, config_name, inputs, serialization, owner_xid,
        recovery_attempts, queue_name, workflow_timeout_ms, workflow_deadline_epoch_ms,
        authenticated_user, assumed_role, authenticated_roles, parent_workflow_id, priority,
        created_at
    FROM {workflow_status}
    WHERE incarnation_id = :incarnation_id AND owner_xid = :claim AND status = 'PENDING'
    """
)


def claim_again(tx: Tx, requests: Sequence[ClaimRequest]) -> list[list[ClaimedRun]]:
    """Claim after a commit in doubt: what it had claimed is found again by its fresh token.

    Without this, runs whose claim was committed and never answered would be ours and never start.
    """
    return [_claimed_before(tx, request) or _claim(tx, request) for request in requests]


claim: Final = Write("claim", claim_all, rank=6, again=claim_again)


def _claimed_before(tx: Tx, request: ClaimRequest) -> list[ClaimedRun]:
    incarnation_id = request.claimant.incarnation_id
    rows = tx.all(CLAIMED, incarnation_id=incarnation_id, claim=request.claim)
    return [ClaimedRun(*row[:15]) for row in sorted(rows, key=_queue_order)]


def _claim(tx: Tx, request: ClaimRequest) -> list[ClaimedRun]:
    claimant = request.claimant
    rows = tx.all(
        CLAIM,
        rows=claimant.functions,
        claim=request.claim,
        queue_name=request.queue_name,
        batch=request.batch,
        unnamed_format=request.unnamed_format,
        formats=list(claimant.formats),
        instances=[f"{name}/{len(name)}/{config}" for name, config in claimant.instances],
        incarnation_id=claimant.incarnation_id,
        executor_id=claimant.executor_id,
        application_name=claimant.application_name,
        application_version=claimant.application_version,
        is_latest=claimant.is_latest,
        any_version=claimant.any_version,
        by_source=claimant.by_source,
    )
    return [ClaimedRun(*row[:15]) for row in sorted(rows, key=_queue_order)]


def _queue_order(row: Row) -> tuple[int, int]:
    return row[15], row[16]
