"""Receiving: the oldest message of a topic is consumed once, with the record of its step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from dbos.storage.messages import message_topic
from dbos.storage.protocol import SingleRead, Statement, Topic, Tx, Write
from dbos.storage.rows import STEP_COLUMNS, Recorded, StepRow
from dbos.storage.steps import judged
from dbos.storage.waits import Look, Payload, Seen, record_looks, recorded_before


@dataclass(frozen=True, slots=True)
class Receiving:
    """One look of a `recv`."""

    topic: str
    look: Look


# Messages stored before there was a sequence have none; they are the oldest.
PICK = Statement(
    """
    SELECT r.workflow_uuid, r.topic, message.message_uuid, message.message, message.serialization
    FROM {rows} JOIN {notifications} AS message ON message.message_uuid = (
        SELECT waiting.message_uuid FROM {notifications} AS waiting
        WHERE waiting.destination_uuid = r.workflow_uuid AND waiting.topic = r.topic
          AND waiting.consumed = FALSE
        ORDER BY {message_order(waiting)} LIMIT 1)
    """,
    {"workflow_uuid": "text", "topic": "text"},
)

CONSUME = Statement(
    """
    UPDATE {notifications} SET consumed = TRUE, consumed_function_id = r.function_id
    FROM {rows} WHERE {notifications}.message_uuid = r.message_uuid
    """,
    {"message_uuid": "text", "function_id": "integer"},
)


def receive_all(tx: Tx, receivings: Sequence[Receiving]) -> list[Seen]:
    """Consume the oldest message of each topic together with the record of its look."""
    keys = [
        {"workflow_uuid": receiving.look.found.workflow_uuid, "topic": receiving.topic}
        for receiving in receivings
    ]
    picked = {(row[0], row[1]): row[2:] for row in tx.all(PICK, rows=keys)}
    messages = [picked.get((key["workflow_uuid"], key["topic"])) for key in keys]
    seen = record_looks(
        tx,
        _looks(receivings),
        [None if message is None else (message[1], message[2]) for message in messages],
    )
    consumed = [
        {"message_uuid": message[0], "function_id": receiving.look.found.function_id}
        for receiving, message, answer in zip(receivings, messages, seen, strict=True)
        if message is not None and answer.is_fresh
    ]
    if consumed:
        tx.run(CONSUME, rows=consumed)
    return seen


# The same in one statement, for a database whose statements may change several tables: a round trip
# instead of five.
RECEIVE = Statement(
    """
    WITH wanted AS (SELECT * FROM {rows}),
    picked AS MATERIALIZED (
        SELECT w.workflow_uuid, w.topic, message.message_uuid, message.message,
            message.serialization
        FROM wanted AS w JOIN {notifications} AS message ON message.message_uuid = (
            SELECT waiting.message_uuid FROM {notifications} AS waiting
            WHERE waiting.destination_uuid = w.workflow_uuid AND waiting.topic = w.topic
              AND waiting.consumed = FALSE
            ORDER BY {message_order(waiting)} LIMIT 1)
        WHERE w.part = 'found'),
    recorded AS (
        INSERT INTO {operation_outputs} (
            workflow_uuid, function_id, function_name, output, error, child_workflow_id,
            started_at_epoch_ms, completed_at_epoch_ms, serialization, application_name,
            record_order)
        SELECT w.workflow_uuid, w.function_id, w.function_name,
            CASE w.part WHEN 'found' THEN p.message ELSE w.output END, w.error, w.child_workflow_id,
            w.started_at_epoch_ms, w.completed_at_epoch_ms,
            CASE w.part WHEN 'found' THEN p.serialization ELSE w.serialization END,
            w.application_name, w.record_order
        FROM wanted AS w
        JOIN {workflow_status} AS owned
          ON owned.workflow_uuid = w.workflow_uuid AND owned.owner_xid = w.claim
        LEFT JOIN picked AS p ON p.workflow_uuid = w.workflow_uuid AND p.topic = w.topic
        WHERE owned.status = 'PENDING' AND CASE w.part
            WHEN 'found' THEN p.message_uuid IS NOT NULL
            WHEN 'missed' THEN p.message_uuid IS NULL
            ELSE TRUE END
        ORDER BY w.workflow_uuid, w.function_id {lock_share(owned)}
        ON CONFLICT (workflow_uuid, function_id) DO NOTHING
        RETURNING workflow_uuid, function_id),
    consumed AS (
        UPDATE {notifications} SET consumed = TRUE, consumed_function_id = w.function_id
        FROM picked AS p
        JOIN wanted AS w
          ON w.workflow_uuid = p.workflow_uuid AND w.topic = p.topic AND w.part = 'found'
        JOIN recorded AS r
          ON r.workflow_uuid = w.workflow_uuid AND r.function_id = w.function_id
        WHERE {notifications}.message_uuid = p.message_uuid)
    SELECT w.workflow_uuid, w.function_id, w.part, r.function_id IS NOT NULL,
        p.message_uuid IS NOT NULL, p.message, p.serialization
    FROM wanted AS w
    LEFT JOIN picked AS p ON p.workflow_uuid = w.workflow_uuid AND p.topic = w.topic
    LEFT JOIN recorded AS r
      ON r.workflow_uuid = w.workflow_uuid AND r.function_id = w.function_id
    """,
    {**STEP_COLUMNS, "topic": "text", "part": "text"},
)


def receive_at_once(tx: Tx, receivings: Sequence[Receiving]) -> list[Seen]:
    """What `receive_all` does, in one statement."""
    places = {(look.found.workflow_uuid, look.found.function_id) for look in _looks(receivings)}
    if len(places) < len(receivings):
        # Two attempts of a run look, and one has lost its claim: the answer would not tell which.
        return [receive_at_once(tx, [receiving])[0] for receiving in receivings]
    wanted = [part for receiving in receivings for part in _parts(receiving)]
    found: dict[tuple[str, int], Payload] = {}
    kept: dict[tuple[str, int], str] = {}
    for run, step, part, is_recorded, is_found, message, format in tx.all(RECEIVE, rows=wanted):
        if is_recorded:
            kept[run, step] = "PENDING"
        if part == "found" and is_found:
            found[run, step] = (message, format)

    def recorded(tx: Tx, rows: Sequence[StepRow]) -> list[Recorded]:
        return judged(tx, rows, kept)

    looks = _looks(receivings)
    payloads = [found.get((look.found.workflow_uuid, look.found.function_id)) for look in looks]
    return record_looks(tx, looks, payloads, recorded)


def _looks(receivings: Sequence[Receiving]) -> list[Look]:
    return [receiving.look for receiving in receivings]


def _parts(receiving: Receiving) -> list[dict[str, Any]]:
    """The rows that a look may record, each with what has to be for it."""
    look = receiving.look
    parts = {"found": look.found, "deadline": look.deadline, "missed": look.missed}
    return [
        {**msgspec.structs.asdict(row), "topic": receiving.topic, "part": part}
        for part, row in parts.items()
        if row is not None
    ]


def receive_again(tx: Tx, receivings: Sequence[Receiving]) -> list[Seen]:
    """Receive after a commit in doubt: what it had consumed is found by its record."""
    return [
        recorded_before(tx, receiving.look) or receive_all(tx, [receiving])[0]
        for receiving in receivings
    ]


receive: Final = Write(
    "receive", receive_all, rank=45, again=receive_again, at_once=receive_at_once
)

ANY_WAITING = Statement(
    """
    SELECT DISTINCT r.workflow_uuid, r.topic FROM {rows} JOIN {notifications} AS message
      ON message.destination_uuid = r.workflow_uuid AND message.topic = r.topic
    WHERE message.consumed = FALSE
    """,
    {"workflow_uuid": "text", "topic": "text"},
)


@SingleRead
def any_waiting(tx: Tx, keys: Sequence[tuple[str, str]]) -> list[Topic]:
    """Those of these (workflow, topic) pairs for which a message waits."""
    rows = [{"workflow_uuid": workflow_id, "topic": topic} for workflow_id, topic in keys]
    return [message_topic(*row) for row in tx.all(ANY_WAITING, rows=rows)]
