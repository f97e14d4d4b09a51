"""Retention: deleting what ended long ago, and cancelling what began long ago."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbos.storage.management import CANCELLED_COLUMNS, Stopped, cancelled_topics, stopped
from dbos.storage.past_starts import keep_starts
from dbos.storage.protocol import SingleRead, Statement, Tx, Write

ENDED = "('SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')"
ACTIVE = "('PENDING', 'ENQUEUED', 'DELAYED')"
OURS = "(run.application_name IS NULL OR run.application_name = :application_name)"
ENDED_AT = "COALESCE(run.completed_at, run.updated_at)"


class Boundary(NamedTuple):
    """The newest run that is beyond a number of rows to keep."""

    ended_at_ms: int
    workflow_id: str


BOUNDARY = Statement(
    f"""
    SELECT {ENDED_AT}, run.workflow_uuid FROM {{workflow_status}} AS run
    WHERE run.status IN {ENDED} AND {OURS}
    ORDER BY 1 DESC, 2 DESC LIMIT 1 OFFSET :kept
    """
)


@SingleRead
def boundary(tx: Tx, application_name: str | None, kept: int) -> Boundary | None:
    """Where the runs to delete begin if so many are kept; None if there are no more than that."""
    row = tx.one(BOUNDARY, application_name=application_name, kept=kept)
    return Boundary(*row) if row else None


@dataclass(frozen=True, slots=True)
class Collection:
    """One batch to delete: what ended before an instant, or at a boundary or before it."""

    application_name: str | None
    before_ms: int
    boundary: Boundary | None
    batch: int


# A parent stays while a descendant is unfinished, and what an unfinished run has started stays for
# it to ask about.
COLLECT = Statement(
    f"""
    WITH RECURSIVE ancestors (workflow_uuid, parent_workflow_id) AS (
        SELECT workflow_uuid, parent_workflow_id FROM {{workflow_status}}
        WHERE status IN {ACTIVE}
        UNION
        SELECT parent.workflow_uuid, parent.parent_workflow_id FROM {{workflow_status}} AS parent
        JOIN ancestors ON parent.workflow_uuid = ancestors.parent_workflow_id),
    descendants (workflow_uuid) AS (
        SELECT workflow_uuid FROM {{workflow_status}} WHERE status IN {ACTIVE}
        UNION
        SELECT child.workflow_uuid FROM {{workflow_status}} AS child
        JOIN descendants ON child.parent_workflow_id = descendants.workflow_uuid)
    SELECT run.workflow_uuid FROM {{workflow_status}} AS run
    WHERE run.status IN {ENDED} AND {OURS}
      AND ({ENDED_AT} < :before_ms OR {ENDED_AT} < :boundary_ms
           OR ({ENDED_AT} = :boundary_ms AND run.workflow_uuid <= :boundary_id))
      AND run.workflow_uuid NOT IN (SELECT workflow_uuid FROM ancestors)
      AND run.workflow_uuid NOT IN (SELECT workflow_uuid FROM descendants)
    ORDER BY {ENDED_AT} LIMIT :batch
    """
)

DELETE_ENDED = Statement(
    f"""
    DELETE FROM {{workflow_status}}
    WHERE workflow_uuid {{any_of(workflow_ids)}} AND status IN {ENDED} RETURNING workflow_uuid
    """
)


def collect_all(tx: Tx, collections: Sequence[Collection]) -> list[list[str]]:
    """Delete batches of ended runs with all that belongs to them; the runs of each."""
    return [_collect(tx, collection) for collection in collections]


def _collect(tx: Tx, collection: Collection) -> list[str]:
    edge = collection.boundary or Boundary(-1, "")
    chosen = tx.all(
        COLLECT,
        application_name=collection.application_name,
        before_ms=collection.before_ms,
        boundary_ms=edge.ended_at_ms,
        boundary_id=edge.workflow_id,
        batch=collection.batch,
    )
    if not chosen:
        return []
    workflow_ids = [row[0] for row in chosen]
    keep_starts(tx, workflow_ids)
    return [row[0] for row in tx.all(DELETE_ENDED, workflow_ids=workflow_ids)]


collect: Final = Write("collect", collect_all, rank=70)


@dataclass(frozen=True, slots=True)
class GlobalTimeout:
    """One batch to cancel: the active runs that were created at an instant or before it."""

    application_name: str | None
    cutoff_ms: int
    batch: int


CANCEL_OLD = Statement(
    f"""
    UPDATE {{workflow_status}} SET {CANCELLED_COLUMNS}
    WHERE workflow_uuid IN (
        SELECT run.workflow_uuid FROM {{workflow_status}} AS run
        WHERE run.status IN {ACTIVE} AND run.created_at <= :cutoff_ms AND {OURS}
        ORDER BY run.created_at LIMIT :batch)
      AND status IN {ACTIVE}
    RETURNING workflow_uuid, owner_xid
    """
)


def cancel_old_all(tx: Tx, timeouts: Sequence[GlobalTimeout]) -> list[tuple[Stopped, ...]]:
    """Cancel the oldest active runs, without their children."""
    return [
        stopped(
            tx.all(
                CANCEL_OLD,
                application_name=timeout.application_name,
                cutoff_ms=timeout.cutoff_ms,
                batch=timeout.batch,
            )
        )
        for timeout in timeouts
    ]


cancel_old: Final = Write("cancel_old", cancel_old_all, cancelled_topics, rank=60)
