"""Messages: sending them to runs, all of a call or none, together with the record of the call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from dbos.storage.protocol import Statement, Topic, Tx, Write
from dbos.storage.rows import Recorded, StepRow
from dbos.storage.steps import record_pending

NO_TOPIC = "__null__topic__"
"""The stored form of topic None."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message to store. Messages of a call are stored in the order of their positions."""

    message_uuid: str
    destination_uuid: str
    topic: str
    message: str
    serialization: str
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """One call that sends: all of its messages or none, with the caller's record if any."""

    messages: tuple[Message, ...]
    record: StepRow | None = None
    to_forks: bool = False


class Sent(NamedTuple):
    """What became of a call that sends."""

    recorded: Recorded | None
    unknown_destination: str | None = None
    delivered: Sequence[Message] = ()
    """What was stored: the messages of the call, and their copies for forks."""


EXISTING = Statement(
    "SELECT workflow_uuid FROM {workflow_status} WHERE workflow_uuid {any_of(workflow_ids)}"
)

FORKS = Statement(
    """
    WITH RECURSIVE family (workflow_uuid, origin) AS (
        SELECT workflow_uuid, workflow_uuid FROM {workflow_status}
        WHERE workflow_uuid {any_of(workflow_ids)}
        UNION
        SELECT fork.workflow_uuid, family.origin FROM {workflow_status} AS fork
        JOIN family ON fork.forked_from = family.workflow_uuid)
    SELECT origin, workflow_uuid FROM family WHERE origin <> workflow_uuid
    """
)

INSERT = Statement(
    """
    INSERT INTO {notifications} (message_uuid, destination_uuid, topic, message, serialization)
    SELECT r.message_uuid, r.destination_uuid, r.topic, r.message, r.serialization
    FROM {rows} {quietly} WHERE TRUE ORDER BY r.position
    ON CONFLICT (message_uuid) DO NOTHING
    """,
    {
        "position": "integer",
        "message_uuid": "text",
        "destination_uuid": "text",
        "topic": "text",
        "message": "text",
        "serialization": "text",
    },
)


def send_all(tx: Tx, sendings: Sequence[Sending]) -> list[Sent]:
    """Store the messages of each call whose destinations all exist, and record the call."""
    known = _existing(tx, sendings)
    recordable = [
        sending.record
        for sending in sendings
        if sending.record is not None and _unknown(sending, known) is None
    ]
    verdicts = iter(record_pending(tx, recordable) if recordable else [])
    answers: list[Sent] = []
    messages: list[Message] = []
    for sending in sendings:
        unknown = _unknown(sending, known)
        recorded = next(verdicts) if unknown is None and sending.record is not None else None
        delivered: Sequence[Message] = ()
        if unknown is None and (recorded is None or recorded.verdict == "kept"):
            delivered = _with_forks(tx, sending) if sending.to_forks else sending.messages
            messages.extend(delivered)
        answers.append(Sent(recorded, unknown, delivered))
    if messages:
        tx.run(INSERT, rows=[_positioned(index, row) for index, row in enumerate(messages)])
    return answers


def _existing(tx: Tx, sendings: Sequence[Sending]) -> set[str]:
    ids = {message.destination_uuid for sending in sendings for message in sending.messages}
    return {row[0] for row in tx.all(EXISTING, workflow_ids=sorted(ids))}


def _unknown(sending: Sending, known: set[str]) -> str | None:
    for message in sending.messages:
        if message.destination_uuid not in known:
            return message.destination_uuid
    return None


def _with_forks(tx: Tx, sending: Sending) -> list[Message]:
    """Each message, and a copy of it for every fork of its destination."""
    delivered: list[Message] = []
    origins = sorted({message.destination_uuid for message in sending.messages})
    forks: dict[str, list[str]] = {}
    for origin, fork in tx.all(FORKS, workflow_ids=origins):
        forks.setdefault(origin, []).append(fork)
    for message in sending.messages:
        delivered.append(message)
        delivered += [
            replace(message, message_uuid=_copy_id(message, fork), destination_uuid=fork)
            for fork in forks.get(message.destination_uuid, ())
        ]
    return delivered


def _copy_id(message: Message, fork: str) -> str:
    key = message.idempotency_key
    return f"{message.message_uuid}::{fork}" if key is None else keyed_message_id(fork, key)


def keyed_message_id(destination: str, key: str) -> str:
    """The id that makes an idempotency key count once per destination.

    The plain form is the one of databases in use. It would be ambiguous for parts that hold its
    separator; those are hashed.
    """
    if "::" not in destination and "::" not in key:
        return f"{key}::{destination}"
    return hashlib.sha256(f"{len(key)}:{key}{destination}".encode()).hexdigest()


def _positioned(position: int, row: Message) -> dict[str, object]:
    return {
        "position": position,
        "message_uuid": row.message_uuid,
        "destination_uuid": row.destination_uuid,
        "topic": row.topic,
        "message": row.message,
        "serialization": row.serialization,
    }


def message_topic(workflow_id: str, topic: str) -> Topic:
    """What a receiver of this topic waits for."""
    return Topic("message", f"{workflow_id}::{topic}")


def _sent_topics(_: Sending, sent: Sent) -> Iterable[Topic]:
    for message in sent.delivered:
        yield message_topic(message.destination_uuid, message.topic)


send: Final = Write("send", send_all, _sent_topics, rank=40)


SEND_ONE = Statement(
    INSERT.text.replace(
        "FROM {rows}",
        "FROM {rows} JOIN {workflow_status} AS destination"
        " ON destination.workflow_uuid = r.destination_uuid",
    )
    + " RETURNING message_uuid",
    INSERT.columns,
)


def send_single(tx: Tx, messages: Sequence[Message]) -> list[Sent]:
    """Store single messages that nobody records, in one statement; most calls are of this kind."""
    rows = [_positioned(index, message) for index, message in enumerate(messages)]
    stored = {row[0] for row in tx.all(SEND_ONE, rows=rows)}
    missing = {row.destination_uuid for row in messages if row.message_uuid not in stored}
    # A message that was not stored has an unknown destination, or a key that was seen before.
    unknown: set[str] = set()
    if missing:
        known = {row[0] for row in tx.all(EXISTING, workflow_ids=sorted(missing))}
        unknown = missing - known
    return [
        Sent(None, row.destination_uuid if row.destination_uuid in unknown else None)
        for row in messages
    ]


def _single_topics(message: Message, sent: Sent) -> Iterable[Topic]:
    if sent.unknown_destination is None:
        yield message_topic(message.destination_uuid, message.topic)


send_one: Final = Write("send_one", send_single, _single_topics, rank=40, single=True)
