"""Rewinding: an ended run goes back to a step, and all that came later is taken back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from dbos.lifecycle import ACTIVE
from dbos.storage.forks import LATEST_EVENTS
from dbos.storage.management import is_refused, recorded_by
from dbos.storage.past_starts import keep_starts
from dbos.storage.protocol import Statement, Topic, Tx, Write
from dbos.storage.rows import Recorded, StepRow


@dataclass(frozen=True, slots=True)
class Rewinding:
    """One call that rewinds, with the caller's record if it is made in workflow code."""

    workflow_id: str
    start_step: int
    claim: str
    queue_name: str
    queue_partition_key: str | None
    application_version: str | None
    record: StepRow | None = None


class Rewound(NamedTuple):
    """What became of a rewind."""

    outcome: Literal["rewound", "unknown", "active", "refused"]
    recorded: Recorded | None = None
    former_claim: str | None = None
    """The claim of the attempt that ended."""


# Held from the look on, so that nobody makes it active meanwhile.
HOLD = Statement(
    """
    UPDATE {workflow_status} SET was_forked_from = was_forked_from
    WHERE workflow_uuid = :workflow_id RETURNING status, owner_xid
    """
)

# The fresh claim shuts out an attempt that was cancelled and still finishes a step: its record
# would come back after it was taken back.
REOPEN = Statement(
    """
    UPDATE {workflow_status} SET status = 'ENQUEUED', owner_xid = :claim, incarnation_id = NULL,
        queue_name = :queue_name, queue_partition_key = :queue_partition_key,
        application_version = :application_version, code_hash = NULL, output = NULL, error = NULL,
        recovery_attempts = 0, claim_returns = 0, claim_error = NULL, deduplication_id = NULL,
        workflow_deadline_epoch_ms = NULL, delay_until_epoch_ms = NULL, completed_at = NULL,
        started_at_epoch_ms = NULL, not_before_epoch_ms = NULL, updated_at = {now_ms}
    WHERE workflow_uuid = :workflow_id
    """
)

DROP_STEPS = Statement(
    """
    DELETE FROM {operation_outputs}
    WHERE workflow_uuid = :workflow_id AND function_id >= :start_step
    """
)

DROP_EVENTS = Statement(
    """
    DELETE FROM {workflow_events} WHERE workflow_uuid = :workflow_id AND key IN (
        SELECT key FROM {workflow_events_history}
        WHERE workflow_uuid = :workflow_id AND function_id >= :start_step)
    """
)

DROP_EVENT_HISTORY = Statement(
    """
    DELETE FROM {workflow_events_history}
    WHERE workflow_uuid = :workflow_id AND function_id >= :start_step
    """
)

DROP_ENTRIES = Statement(
    "DELETE FROM {streams} WHERE workflow_uuid = :workflow_id AND function_id >= :start_step"
)

# Only tasks of one run that wrote to one stream side by side leave holes.
MISPLACED = Statement(
    """
    SELECT entry.key, entry."offset", entry.place FROM (
        SELECT key, "offset", ROW_NUMBER() OVER (PARTITION BY key ORDER BY "offset") - 1 AS place
        FROM {streams} WHERE workflow_uuid = :workflow_id) AS entry
    WHERE entry."offset" <> entry.place ORDER BY entry.key, entry."offset"
    """
)

MOVE_ENTRY = Statement(
    """
    UPDATE {streams} SET "offset" = :place
    WHERE workflow_uuid = :workflow_id AND key = :key AND "offset" = :entry
    """
)

DROP_MESSAGES = Statement(
    """
    DELETE FROM {notifications}
    WHERE destination_uuid = :workflow_id AND consumed = TRUE
      AND consumed_function_id >= :start_step
    """
)


def rewind_all(tx: Tx, rewindings: Sequence[Rewinding]) -> list[Rewound]:
    """Take ended runs back to a step and queue them, or say why not."""
    return [_rewind(tx, rewinding) for rewinding in rewindings]


def _rewind(tx: Tx, rewinding: Rewinding) -> Rewound:
    state = tx.one(HOLD, workflow_id=rewinding.workflow_id)
    if state is None:
        return Rewound("unknown")
    # A token of ours tells of an own commit whose acknowledgement was lost.
    is_done = state[1] == rewinding.claim
    if state[0] in ACTIVE and not is_done:
        return Rewound("active")
    recorded = recorded_by(tx, rewinding.record)
    if is_refused(recorded):
        return Rewound("refused", recorded)
    if not is_done:
        _take_back(tx, rewinding)
    return Rewound("rewound", recorded, None if is_done else state[1])


def _take_back(tx: Tx, rewinding: Rewinding) -> None:
    span = {"workflow_id": rewinding.workflow_id, "start_step": rewinding.start_step}
    keep_starts(tx, [rewinding.workflow_id])
    tx.run(
        REOPEN,
        workflow_id=rewinding.workflow_id,
        claim=rewinding.claim,
        queue_name=rewinding.queue_name,
        queue_partition_key=rewinding.queue_partition_key,
        application_version=rewinding.application_version,
    )
    tx.run(DROP_STEPS, **span)
    tx.run(DROP_EVENTS, **span)
    tx.run(DROP_EVENT_HISTORY, **span)
    tx.run(LATEST_EVENTS, workflow_id=rewinding.workflow_id)
    tx.run(DROP_ENTRIES, **span)
    for key, entry, place in tx.all(MISPLACED, workflow_id=rewinding.workflow_id):
        tx.run(MOVE_ENTRY, workflow_id=rewinding.workflow_id, key=key, entry=entry, place=place)
    tx.run(DROP_MESSAGES, **span)


def _rewound_topics(rewinding: Rewinding, rewound: Rewound) -> Iterable[Topic]:
    if rewound.outcome == "rewound":
        yield Topic("cancel", rewinding.workflow_id)
        yield Topic("queue", rewinding.queue_name)


rewind: Final = Write("rewind", rewind_all, _rewound_topics, rank=65)
