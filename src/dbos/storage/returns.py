"""Runs that could not start: claims given back with a back-off, and runs that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbos.storage.protocol import SingleRead, Statement, Topic, Tx, Write
from dbos.storage.workflows import LEAVE_QUEUE, SLOT_FREED

# The attempt did not take place, so it is not counted, and its time does not run; a run that had
# begun before still has, and what a rate limit counted of it before still counts. The token stays:
# nobody works under it.
GIVE_BACK = Statement(
    """
    UPDATE {workflow_status} SET status = 'ENQUEUED', incarnation_id = NULL,
        started_at_epoch_ms = CASE WHEN rate_limited AND recovery_attempts > 1
            THEN started_at_epoch_ms END,
        rate_limited = rate_limited AND recovery_attempts > 1, updated_at = {now_ms},
        workflow_deadline_epoch_ms = CASE WHEN recovery_attempts > 1
            OR workflow_timeout_ms IS NULL
            OR workflow_deadline_epoch_ms <> started_at_epoch_ms + workflow_timeout_ms
            THEN workflow_deadline_epoch_ms END,
        recovery_attempts = recovery_attempts - 1, claim_error = r.reason,
        claim_returns = r.returns, not_before_epoch_ms = {now_ms} + r.delay_ms
    FROM {rows}
    WHERE {workflow_status}.workflow_uuid = r.workflow_uuid
      AND {workflow_status}.owner_xid = r.claim AND {workflow_status}.status = 'PENDING'
    """,
    {
        "workflow_uuid": "text",
        "claim": "text",
        "reason": "text",
        "returns": "integer",
        "delay_ms": "integer",
    },
)


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A claim that turned out unusable, before the body of the run."""

    workflow_uuid: str
    claim: str
    reason: str
    returns: int
    delay_ms: int


def give_back_rows(tx: Tx, rows: Sequence[GivenBack]) -> list[None]:
    """Put claimed runs back on their queues, to be claimed again after their back-off."""
    tx.run(GIVE_BACK, rows=rows)
    return [None] * len(rows)


def _given_back_topics(_: GivenBack, __: None) -> Iterable[Topic]:
    yield SLOT_FREED


give_back: Final = Write("give_back", give_back_rows, _given_back_topics, rank=92)

STARTED = Statement(
    """
    UPDATE {workflow_status} SET claim_error = NULL, claim_returns = 0
    WHERE workflow_uuid = :workflow_id AND owner_xid = :claim
    """
)


@dataclass(frozen=True, slots=True)
class StartedAtLast:
    """A run whose claims had been given back before, and whose body now starts."""

    workflow_id: str
    claim: str


def started_all(tx: Tx, runs: Sequence[StartedAtLast]) -> list[None]:
    for run in runs:
        tx.run(STARTED, workflow_id=run.workflow_id, claim=run.claim)
    return [None] * len(runs)


started: Final = Write("started", started_all, rank=50)

# Bounded by the place in the queue, not by what is found: the look must cost the same on a queue
# of a million known runs.
WAITING = Statement(
    """
    SELECT waiting.workflow_uuid, waiting.name, waiting.class_name, waiting.config_name,
        waiting.serialization, waiting.claim_returns
    FROM (
        SELECT run.* FROM {workflow_status} AS run
        WHERE run.queue_name = :queue_name AND run.status = 'ENQUEUED'
          AND run.status IN ('ENQUEUED', 'PENDING')
        ORDER BY run.priority, run.created_at LIMIT :batch) AS waiting
    WHERE (waiting.application_name IS NULL OR waiting.application_name = :application_name)
      AND (waiting.not_before_epoch_ms IS NULL OR waiting.not_before_epoch_ms <= {now_ms})
    """
)


class WaitingRun(NamedTuple):
    """A run that waits on a queue, as far as it tells who could run it."""

    workflow_id: str
    name: str | None
    class_name: str | None
    config_name: str | None
    serialization: str | None
    returns: int


@SingleRead
def waiting(tx: Tx, application_name: str, queue_name: str, batch: int) -> list[WaitingRun]:
    """Those of the first runs of a queue that are not in a back-off."""
    rows = tx.all(WAITING, application_name=application_name, queue_name=queue_name, batch=batch)
    return [WaitingRun(*row) for row in rows]


# Whoever counts first changes the number, so that others who read the old one do not count too.
COUNT = Statement(
    """
    UPDATE {workflow_status} SET updated_at = {now_ms}, claim_error = r.reason,
        claim_returns = r.returns, not_before_epoch_ms = {now_ms} + r.delay_ms
    FROM {rows}
    WHERE {workflow_status}.workflow_uuid = r.workflow_uuid
      AND {workflow_status}.status = 'ENQUEUED'
      AND {workflow_status}.claim_returns = r.returns - 1 AND r.error IS NULL
    """,
    {
        "workflow_uuid": "text",
        "reason": "text",
        "returns": "integer",
        "delay_ms": "integer",
        "error": "text",
    },
)

BURY = Statement(
    f"""
    UPDATE {{workflow_status}} SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', {LEAVE_QUEUE},
        error = r.error, deduplication_id = NULL, claim_error = r.reason,
        claim_returns = r.returns, not_before_epoch_ms = NULL, updated_at = {{now_ms}},
        completed_at = {{now_ms}}
    FROM {{rows}}
    WHERE {{workflow_status}}.workflow_uuid = r.workflow_uuid
      AND {{workflow_status}}.status = 'ENQUEUED'
      AND {{workflow_status}}.claim_returns = r.returns - 1 AND r.error IS NOT NULL
    """,
    COUNT.columns,
)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A waiting run that no live process knows; `error` if that was the last time to count."""

    workflow_uuid: str
    reason: str
    returns: int
    delay_ms: int
    error: str | None


def count_unknown_rows(tx: Tx, rows: Sequence[Unknown]) -> list[None]:
    """Count runs that nobody knows, without a claim; dead-letter those that were counted enough."""
    tx.run(COUNT, rows=rows)
    if any(row.error is not None for row in rows):
        tx.run(BURY, rows=rows)
    return [None] * len(rows)


def _counted_topics(row: Unknown, _: None) -> Iterable[Topic]:
    if row.error is not None:
        yield Topic("done", row.workflow_uuid)
        # It may have held its lane.
        yield SLOT_FREED


count_unknown: Final = Write("count_unknown", count_unknown_rows, _counted_topics, rank=55)
