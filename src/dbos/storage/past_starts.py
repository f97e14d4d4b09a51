"""Starts that a rate limit counts although their run's row no longer tells of them.

A run's row knows its last starts only as long as the run is not resumed, rewound or deleted. What
does one of these first writes the starts down here, in the same commit; a claim forgets them when
they are out of their window.
"""

from __future__ import annotations

from collections.abc import Sequence

from dbos.storage.protocol import Statement, Tx

# The rows are held, so that none of them starts between this look and the change that follows.
_KEEP = """
    WITH held AS MATERIALIZED (
        SELECT run.queue_name, run.queue_partition_key, run.started_at_epoch_ms,
            COALESCE(run.recovery_attempts, 1) AS starts, run.rate_limited
        FROM {workflow_status} AS run
        WHERE run.workflow_uuid {any_of(workflow_ids)} %s
        ORDER BY run.workflow_uuid {lock(run)})
    INSERT INTO {perdure_starts} (queue_name, queue_partition_key, started_at_epoch_ms, starts)
    SELECT queue_name, queue_partition_key, started_at_epoch_ms, starts FROM held
    WHERE rate_limited = TRUE AND queue_name IS NOT NULL AND started_at_epoch_ms IS NOT NULL
"""

KEEP = Statement(_KEEP % "")

FORGET = Statement(
    """
    DELETE FROM {perdure_starts}
    WHERE queue_name = :queue_name AND started_at_epoch_ms < {now_ms} - :period_ms
    """
)


def keep_statement(condition: str) -> Statement:
    """Keep the starts of those of the given runs that fulfil a condition on the row `run`."""
    return Statement(_KEEP % f"AND ({condition})")


def keep_starts(tx: Tx, workflow_ids: Sequence[str]) -> None:
    """Write down the counted starts of runs whose rows are about to lose them."""
    tx.run(KEEP, workflow_ids=list(workflow_ids))


def forget_starts(tx: Tx, queue_name: str, period_ms: int) -> None:
    """Drop what no window of a queue reaches back to."""
    tx.run(FORGET, queue_name=queue_name, period_ms=period_ms)


def counted_starts(condition: str) -> str:
    """SQL: the starts of a queue within a period, from the runs and from what was kept of them."""
    kept, present = (condition.replace("start.", f"{table}.") for table in ("kept", "run"))
    return f"""(
        SELECT run.queue_partition_key AS lane, run.started_at_epoch_ms AS at_ms,
            COALESCE(run.recovery_attempts, 1) AS starts
        FROM {{workflow_status}} AS run
        WHERE {present} AND run.rate_limited = TRUE AND run.queue_name = :queue_name
          AND run.started_at_epoch_ms >= {{now_ms}} - :period_ms
        UNION ALL
        SELECT kept.queue_partition_key, kept.started_at_epoch_ms, kept.starts
        FROM {{perdure_starts}} AS kept
        WHERE {kept} AND kept.queue_name = :queue_name
          AND kept.started_at_epoch_ms >= {{now_ms}} - :period_ms)"""
