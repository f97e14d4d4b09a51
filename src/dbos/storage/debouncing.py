"""Postponing a debounced run: its arguments and its delay are replaced in one write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from dbos.storage.protocol import Statement, Topic, Tx, Write
from dbos.storage.rows import Recorded, StepRow
from dbos.storage.steps import find_one, record_pending


@dataclass(frozen=True, slots=True)
class Postponement:
    """A call for a key that a delayed run may hold already."""

    queue_name: str
    deduplication_id: str
    workflow_name: str
    application_name: str | None
    inputs: str
    serialization: str
    period_ms: int
    record: StepRow | None = None
    """The caller's record, in workflow code."""
    refusal: str | None = None
    """The stored error for the record, if something else holds the key."""


class Postponed(NamedTuple):
    """The run that was postponed; None if the key is free. Or somebody else holds it."""

    recorded: Recorded | None
    workflow_id: str | None
    is_refused: bool = False


class Holder(NamedTuple):
    """The run that holds a key."""

    workflow_id: str
    status: str
    name: str | None
    is_debounced: bool
    application_name: str | None
    is_due: bool


HOLDER = Statement(
    """
    SELECT run.workflow_uuid, run.status, run.name, run.is_debounced, run.application_name,
        COALESCE(run.delay_until_epoch_ms, 0) <= {now_ms}
    FROM {workflow_status} AS run
    WHERE run.queue_name = :queue_name AND run.deduplication_id = :deduplication_id {lock(run)}
    """
)

PUSH = Statement(
    """
    UPDATE {workflow_status} SET inputs = :inputs, serialization = :serialization,
        updated_at = {now_ms},
        delay_until_epoch_ms = CASE
            WHEN debounce_deadline_epoch_ms < {now_ms} + :period_ms THEN debounce_deadline_epoch_ms
            ELSE {now_ms} + :period_ms END
    WHERE workflow_uuid = :workflow_id
    """
)

# Once due, the key is free, whether the run has been promoted yet or not.
FREE = Statement(
    "UPDATE {workflow_status} SET deduplication_id = NULL WHERE workflow_uuid = :workflow_id"
)


def postpone_all(tx: Tx, calls: Sequence[Postponement]) -> list[Postponed]:
    """Postpone the runs that hold the keys of these calls; nothing where a key is free."""
    return [_postpone(tx, call) for call in calls]


def postpone_again(tx: Tx, calls: Sequence[Postponement]) -> list[Postponed]:
    """Once a commit is in doubt: the caller's record tells what was decided then."""
    return [_recorded_before(tx, call) or _postpone(tx, call) for call in calls]


def _postponed_topics(call: Postponement, answer: Postponed) -> Iterable[Topic]:
    # The run may be due earlier than before.
    return (Topic("queue", call.queue_name),) if answer.workflow_id is not None else ()


postpone: Final = Write("postpone", postpone_all, _postponed_topics, rank=17, again=postpone_again)


def _postpone(tx: Tx, call: Postponement) -> Postponed:
    row = tx.one(HOLDER, queue_name=call.queue_name, deduplication_id=call.deduplication_id)
    holder = None if row is None else Holder(*row)
    is_refused = holder is not None and not _is_same_work(holder, call)
    is_joined = holder is not None and not is_refused and _waits(holder)
    joined = holder.workflow_id if holder is not None and is_joined else None
    recorded = None
    if call.record is not None:
        record = msgspec.structs.replace(
            call.record, child_workflow_id=joined, error=call.refusal if is_refused else None
        )
        [recorded] = record_pending(tx, [record])
        if recorded.verdict != "kept":
            return Postponed(recorded, None)
    if joined is not None:
        tx.run(
            PUSH,
            workflow_id=joined,
            inputs=call.inputs,
            serialization=call.serialization,
            period_ms=call.period_ms,
        )
    elif holder is not None and not is_refused:
        tx.run(FREE, workflow_id=holder.workflow_id)
    return Postponed(recorded, joined, is_refused)


def _is_same_work(holder: Holder, call: Postponement) -> bool:
    return (
        bool(holder.is_debounced)
        and holder.name == call.workflow_name
        # A caller without a name is of no other application, and neither is a run without one.
        and (
            None in (holder.application_name, call.application_name)
            or holder.application_name == call.application_name
        )
    )


def _waits(holder: Holder) -> bool:
    return holder.status == "DELAYED" and not holder.is_due


def _recorded_before(tx: Tx, call: Postponement) -> Postponed | None:
    record = call.record
    known = None if record is None else find_one(tx, record.workflow_uuid, record.function_id)
    if known is None:
        return None
    kept = Recorded("kept", "PENDING")
    return Postponed(kept, known.child_workflow_id, known.error is not None)
