"""Changes to runs by id, or with all descendants: cancel, resume, delete, delay, attributes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from dbos.storage.past_starts import keep_starts, keep_statement
from dbos.storage.protocol import Row, Statement, Topic, Tx, Write
from dbos.storage.recovery import INTERNAL_QUEUE
from dbos.storage.rows import Recorded, StepRow
from dbos.storage.steps import record_pending
from dbos.storage.workflows import ANY_QUEUE, LEAVE_QUEUE, SLOT_FREED

# A cancelled run leaves its queue and frees its deduplication id. The claim stays as it is: the
# step that is running may still record what it did, and nothing else. Rows are locked in the order
# of their ids, as in every batch, so that two batches never wait for each other.
CANCELLED_COLUMNS = f"""status = 'CANCELLED', {LEAVE_QUEUE}, deduplication_id = NULL,
        started_at_epoch_ms = CASE WHEN rate_limited THEN started_at_epoch_ms END,
        not_before_epoch_ms = NULL, completed_at = {{now_ms}}, updated_at = {{now_ms}}"""

CANCEL = Statement(
    f"""
    UPDATE {{workflow_status}} SET {CANCELLED_COLUMNS}
    WHERE workflow_uuid IN (
        SELECT run.workflow_uuid FROM {{workflow_status}} AS run
        WHERE run.workflow_uuid {{any_of(workflow_ids)}} AND run.status IN (
            'PENDING', 'ENQUEUED', 'DELAYED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
        ORDER BY run.workflow_uuid {{lock(run)}})
    RETURNING workflow_uuid, owner_xid
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

HOLD = Statement(
    """
    SELECT run.workflow_uuid FROM {workflow_status} AS run
    WHERE run.workflow_uuid {any_of(workflow_ids)} ORDER BY run.workflow_uuid {lock(run)}
    """
)


@dataclass(frozen=True, slots=True)
class Command:
    """One call that changes runs by id, with the caller's record if it is made in workflow code."""

    workflow_ids: tuple[str, ...]
    with_children: bool = False
    queue_name: str | None = None
    record: StepRow | None = None


class Stopped(NamedTuple):
    """A run that was taken from whoever runs it, and the claim that it had."""

    workflow_id: str
    claim: str | None


class Commanded(NamedTuple):
    """What became of a command: the runs it changed, or the ids it does not know."""

    recorded: Recorded | None
    changed: tuple[Stopped, ...] = ()
    unknown: tuple[str, ...] = ()


def is_refused(recorded: Recorded | None) -> bool:
    """Whether the caller may not record, so that what it asks for must not happen."""
    return recorded is not None and recorded.verdict != "kept"


def recorded_by(tx: Tx, record: StepRow | None) -> Recorded | None:
    """The caller's own record, if the call is made in workflow code."""
    return record_pending(tx, [record])[0] if record is not None else None


def cancel_all(tx: Tx, commands: Sequence[Command]) -> list[Commanded]:
    """Cancel runs that have not succeeded or failed; unknown ids are ignored."""
    return [_stop(tx, command, CANCEL) for command in commands]


def _stop(
    tx: Tx, command: Command, statement: Statement, *, keeps_starts: bool = False
) -> Commanded:
    recorded = recorded_by(tx, command.record)
    if is_refused(recorded):
        return Commanded(recorded)
    ids = list(command.workflow_ids)
    if command.with_children:
        ids = _family(tx, ids)
    if keeps_starts:
        keep_starts(tx, ids)
    return Commanded(recorded, stopped(tx.all(statement, workflow_ids=ids)))


def _family(tx: Tx, workflow_ids: Sequence[str]) -> list[str]:
    """Runs with all their descendants.

    Another process may be launching one more child. A run that is held launches none, so nobody is
    missing once all are held and there are no more of them.
    """
    held: list[str] = []
    while True:
        family = [row[0] for row in tx.all(DESCENDANTS, workflow_ids=workflow_ids)]
        if len(family) <= len(held):
            return family
        tx.run(HOLD, workflow_ids=family)
        held = family


def stopped(rows: Iterable[Row]) -> tuple[Stopped, ...]:
    """Runs as a statement returns them that takes them from their owners."""
    return tuple(Stopped(*row) for row in rows)


def cancelled_topics(_: object, changed: Sequence[Stopped]) -> Iterable[Topic]:
    """Tell those who run these runs, those who await them, and those who wait for their slots."""
    for workflow_id, _claim in changed:
        yield Topic("cancel", workflow_id)
        yield Topic("done", workflow_id)
    if changed:
        yield SLOT_FREED


def _stopped_topics(_: object, answer: Commanded) -> Iterable[Topic]:
    return cancelled_topics(_, answer.changed)


cancel: Final = Write("cancel", cancel_all, _stopped_topics, rank=60)

# Steps, events, streams and messages go with the run, by their foreign keys.
DELETE = Statement(
    """
    DELETE FROM {workflow_status} WHERE workflow_uuid {any_of(workflow_ids)}
    RETURNING workflow_uuid, owner_xid
    """
)


def delete_all(tx: Tx, commands: Sequence[Command]) -> list[Commanded]:
    """Delete runs with all that belongs to them; unknown ids are ignored."""
    return [_stop(tx, command, DELETE, keeps_starts=True) for command in commands]


delete: Final = Write("delete", delete_all, _stopped_topics, rank=62)

# A run whose owner is alive goes on by itself; it must be cancelled first to be moved.
_RESUMABLE = """
    run.status IN ('ENQUEUED', 'DELAYED', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
    OR run.status = 'PENDING' AND (run.not_before_epoch_ms IS NOT NULL OR NOT EXISTS (
        SELECT 1 FROM {perdure_executors} AS owner
        WHERE owner.incarnation_id = run.incarnation_id
          AND owner.lease_until_epoch_ms > {now_ms}))
"""

KEEP_RESUMED = keep_statement(_RESUMABLE)

RESUME = Statement(
    f"""
    UPDATE {{workflow_status}} AS run SET status = 'ENQUEUED', queue_name = :queue_name,
        recovery_attempts = 0, claim_returns = 0, claim_error = NULL, deduplication_id = NULL,
        workflow_deadline_epoch_ms = NULL, delay_until_epoch_ms = NULL, completed_at = NULL,
        started_at_epoch_ms = NULL, not_before_epoch_ms = NULL, updated_at = {{now_ms}}
    WHERE workflow_uuid {{any_of(workflow_ids)}} AND ({_RESUMABLE})
    RETURNING workflow_uuid, owner_xid
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
    recorded = recorded_by(tx, command.record)
    if is_refused(recorded):
        return Commanded(recorded)
    queue_name = command.queue_name or INTERNAL_QUEUE
    tx.run(KEEP_RESUMED, workflow_ids=ids)
    changed = tx.all(RESUME, workflow_ids=ids, queue_name=queue_name)
    return Commanded(recorded, stopped(changed))


def _resumed_topics(command: Command, answer: Commanded) -> Iterable[Topic]:
    if answer.changed:
        yield Topic("queue", command.queue_name or INTERNAL_QUEUE)


resume: Final = Write("resume", resume_all, _resumed_topics, rank=61)


@dataclass(frozen=True, slots=True)
class Delay:
    """A new delay of a run: so long from now, or until an instant."""

    workflow_id: str
    for_ms: int | None
    until_ms: int | None
    record: StepRow | None = None


DELAY = Statement(
    """
    UPDATE {workflow_status}
    SET delay_until_epoch_ms = COALESCE(:until_ms, {now_ms} + :for_ms), updated_at = {now_ms}
    WHERE workflow_uuid = :workflow_id AND status = 'DELAYED'
    """
)


def delay_all(tx: Tx, delays: Sequence[Delay]) -> list[Recorded | None]:
    """Move the end of delays; runs that are not delayed stay as they are."""
    return [_delay(tx, delay) for delay in delays]


def _delay(tx: Tx, delay: Delay) -> Recorded | None:
    recorded = recorded_by(tx, delay.record)
    if not is_refused(recorded):
        tx.run(DELAY, workflow_id=delay.workflow_id, for_ms=delay.for_ms, until_ms=delay.until_ms)
    return recorded


def _delayed_topics(_: Delay, recorded: Recorded | None) -> Iterable[Topic]:
    # The run may be due earlier than before, on whatever queue.
    return () if is_refused(recorded) else (ANY_QUEUE,)


set_delay: Final = Write("set_delay", delay_all, _delayed_topics, rank=63)


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """New attributes of a run as JSON text; with `merge` only these keys change."""

    workflow_id: str
    attributes: str | None
    merge: bool = False
    record: StepRow | None = None


TOUCH = Statement(
    """
    UPDATE {workflow_status} SET updated_at = {now_ms}
    WHERE workflow_uuid = :workflow_id RETURNING attributes
    """
)

SET_ATTRIBUTES = Statement(
    """
    UPDATE {workflow_status} SET attributes = :attributes {as_json}
    WHERE workflow_uuid = :workflow_id
    """
)


def change_attributes_all(tx: Tx, changes: Sequence[AttributeChange]) -> list[Recorded | None]:
    """Replace or extend attributes; unknown ids are ignored."""
    return [_change_attributes(tx, change) for change in changes]


def _change_attributes(tx: Tx, change: AttributeChange) -> Recorded | None:
    recorded = recorded_by(tx, change.record)
    if is_refused(recorded):
        return recorded
    stored = tx.one(TOUCH, workflow_id=change.workflow_id)
    if stored is not None:
        text = _merged(stored[0], change.attributes) if change.merge else change.attributes
        tx.run(SET_ATTRIBUTES, workflow_id=change.workflow_id, attributes=text)
    return recorded


def _merged(stored: Any, change: str | None) -> str | None:
    """The stored attributes with the given keys changed; PostgreSQL's come decoded."""
    held = msgspec.json.decode(stored) if isinstance(stored, str | bytes) else stored
    merged = (held or {}) | msgspec.json.decode(change or "{}")
    return None if stored is None and change is None else msgspec.json.encode(merged).decode()


change_attributes: Final = Write("change_attributes", change_attributes_all, rank=63)
