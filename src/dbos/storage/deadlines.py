"""Runs whose time is over: finding them, and cancelling those that are still overdue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbos.storage.management import CANCELLED_COLUMNS, Stopped, cancelled_topics, stopped
from dbos.storage.protocol import SingleRead, Statement, Tx, Write

# What was known of a deadline may be old: a resume has dropped it since, and the run has all the
# time of its new attempt.
EXPIRE = Statement(
    f"""
    UPDATE {{workflow_status}} SET {CANCELLED_COLUMNS}
    WHERE workflow_uuid {{any_of(workflow_ids)}} AND status IN ('PENDING', 'ENQUEUED', 'DELAYED')
      AND workflow_deadline_epoch_ms <= :at_ms
    RETURNING workflow_uuid, owner_xid
    """
)


@dataclass(frozen=True, slots=True)
class Expiry:
    """Runs that are overdue at an instant of the database's clock."""

    workflow_ids: tuple[str, ...]
    at_ms: int


def expire_all(tx: Tx, expiries: Sequence[Expiry]) -> list[tuple[Stopped, ...]]:
    """Cancel the runs that are active, and whose deadline is over."""
    return [
        stopped(tx.all(EXPIRE, workflow_ids=list(expiry.workflow_ids), at_ms=expiry.at_ms))
        for expiry in expiries
    ]


expire: Final = Write("expire", expire_all, cancelled_topics, rank=60)


class Due(NamedTuple):
    """The runs that are overdue, and when the next one will be."""

    workflow_ids: list[str]
    next_ms: int | None


UPCOMING = Statement(
    """
    SELECT workflow_uuid, workflow_deadline_epoch_ms FROM {workflow_status}
    WHERE status IN ('PENDING', 'ENQUEUED', 'DELAYED') AND workflow_deadline_epoch_ms <= :until_ms
      AND (application_name IS NULL OR application_name = :application_name)
    ORDER BY workflow_deadline_epoch_ms LIMIT :batch
    """
)


@SingleRead
def due(tx: Tx, application_name: str, at_ms: int, ahead_ms: int, batch: int) -> Due:
    """Active runs of the application whose deadline is over, and the first one that is near."""
    rows = tx.all(
        UPCOMING, application_name=application_name, until_ms=at_ms + ahead_ms, batch=batch
    )
    later = [row[1] for row in rows if row[1] > at_ms]
    return Due([row[0] for row in rows if row[1] <= at_ms], later[0] if later else None)
