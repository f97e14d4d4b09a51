"""Cancel and resume, by id, alone or with all descendants; and the deadlines that cancel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbos.storage.protocol import SingleRead, Statement, Topic, Tx, Write
from dbos.storage.recovery import INTERNAL_QUEUE
from dbos.storage.rows import Recorded, StepRow
from dbos.storage.steps import record_pending
from dbos.storage.workflows import SLOT_FREED

# A cancelled run leaves its queue and frees its deduplication id. The claim stays as it is: the
# step that is running may still record what it did, and nothing else.
CANCEL = Statement(
    """
    UPDATE {workflow_status} SET status = 'CANCELLED', queue_name = NULL, deduplication_id = NULL,
        started_at_epoch_ms = NULL, not_before_epoch_ms = NULL, completed_at = {now_ms},
        updated_at = {now_ms}
    WHERE workflow_uuid {any_of(workflow_ids)} AND status IN (
        'PENDING', 'ENQUEUED', 'DELAYED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
    RETURNING workflow_uuid
    """
)

DESCENDANTS = Statement(
    """
    WITH RECURSIVE family (workflow_uuid) AS (
        SELECT workflow_uuid FROM {workflow_status} WHERE workflow_uuid {any_of(workflow_ids)}
        UNION
        SELECT child.workflow_uuid FROM {workflow_status} AS child
        JOIN family ON child.parent_workflow_id = family.workflow_uuid)
    SELECT workflow_uuid FROM family
    """
)


@dataclass(frozen=True, slots=True)
class Command:
    """One call that changes runs by id, with the caller's record if it is made in workflow code."""

    workflow_ids: tuple[str, ...]
    with_children: bool = False
    queue_name: str | None = None
    record: StepRow | None = None


class Commanded(NamedTuple):
    """What became of a command: the runs it changed, or the ids it does not know."""

    recorded: Recorded | None
    changed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def cancel_all(tx: Tx, commands: Sequence[Command]) -> list[Commanded]:
    """Cancel runs that have not succeeded or failed; unknown ids are ignored."""
    return [_cancel(tx, command) for command in commands]


def _cancel(tx: Tx, command: Command) -> Commanded:
    recorded = _recorded(tx, command)
    if recorded is not None and recorded.verdict != "kept":
        return Commanded(recorded)
    ids = list(command.workflow_ids)
    if command.with_children:
        ids = [row[0] for row in tx.all(DESCENDANTS, workflow_ids=ids)]
    return Commanded(recorded, tuple(row[0] for row in tx.all(CANCEL, workflow_ids=ids)))


def _recorded(tx: Tx, command: Command) -> Recorded | None:
    return record_pending(tx, [command.record])[0] if command.record is not None else None


def _cancelled_topics(_: Command, answer: Commanded) -> Iterable[Topic]:
    for workflow_id in answer.changed:
        yield Topic("cancel", workflow_id)
        yield Topic("done", workflow_id)
    if answer.changed:
        yield SLOT_FREED


cancel: Final = Write("cancel", cancel_all, _cancelled_topics, rank=60)

# A run whose owner is alive goes on by itself; it must be cancelled first to be moved.
RESUME = Statement(
    """
    UPDATE {workflow_status} SET status = 'ENQUEUED', queue_name = :queue_name,
        recovery_attempts = 0, claim_returns = 0, claim_error = NULL, deduplication_id = NULL,
        workflow_deadline_epoch_ms = NULL, delay_until_epoch_ms = NULL, completed_at = NULL,
        not_before_epoch_ms = NULL, updated_at = {now_ms}
    WHERE workflow_uuid {any_of(workflow_ids)} AND (
        status IN ('ENQUEUED', 'DELAYED', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
        OR status = 'PENDING' AND (not_before_epoch_ms IS NOT NULL OR NOT EXISTS (
            SELECT 1 FROM {perdure_executors} AS owner
            WHERE owner.incarnation_id = {workflow_status}.incarnation_id
              AND owner.lease_until_epoch_ms > {now_ms})))
    RETURNING workflow_uuid
    """
)

KNOWN = Statement(
    "SELECT workflow_uuid FROM {workflow_status} WHERE workflow_uuid {any_of(workflow_ids)}"
)


def resume_all(tx: Tx, commands: Sequence[Command]) -> list[Commanded]:
    """Queue stopped runs again with a fresh budget; one unknown id, and nothing changes."""
    return [_resume(tx, command) for command in commands]


def _resume(tx: Tx, command: Command) -> Commanded:
    ids = list(command.workflow_ids)
    known = {row[0] for row in tx.all(KNOWN, workflow_ids=ids)}
    unknown = tuple(workflow_id for workflow_id in ids if workflow_id not in known)
    if unknown:
        return Commanded(None, (), unknown)
    recorded = _recorded(tx, command)
    if recorded is not None and recorded.verdict != "kept":
        return Commanded(recorded)
    queue_name = command.queue_name or INTERNAL_QUEUE
    changed = tx.all(RESUME, workflow_ids=ids, queue_name=queue_name)
    return Commanded(recorded, tuple(row[0] for row in changed))


def _resumed_topics(command: Command, answer: Commanded) -> Iterable[Topic]:
    if answer.changed:
        yield Topic("queue", command.queue_name or INTERNAL_QUEUE)


resume: Final = Write("resume", resume_all, _resumed_topics, rank=61)

DUE = Statement(
    """
    SELECT workflow_uuid FROM {workflow_status}
    WHERE status IN ('PENDING', 'ENQUEUED', 'DELAYED') AND workflow_deadline_epoch_ms <= {now_ms}
      AND (application_name IS NULL OR application_name = :application_name)
    LIMIT :batch
    """
)


@SingleRead
def due(tx: Tx, application_name: str, batch: int) -> list[str]:
    """Active runs of the application whose deadline is over."""
    return [row[0] for row in tx.all(DUE, application_name=application_name, batch=batch)]
