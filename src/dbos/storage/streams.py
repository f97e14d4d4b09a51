"""Streams: append-only entries of a run under a key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbos.storage.events import judged
from dbos.storage.protocol import SingleRead, Statement, Topic, Tx, Write
from dbos.storage.rows import Recorded, StepRow

CLOSED = '"__DBOS_STREAM_CLOSED__"'
CLOSED_FORMAT = "portable_json"


@dataclass(frozen=True, slots=True)
class StreamWriting:
    """One entry to append.

    A step may be attempted again: its n-th write to a key is the same logical write in every
    attempt.
    """

    workflow_uuid: str
    key: str
    value: str
    serialization: str
    function_id: int
    claim: str
    record: StepRow | None
    number: int
    """Which write of its step to this key it is, from 1."""


class Tail(NamedTuple):
    """Where a stream ends, and how many of its entries each operation wrote."""

    next_offset: int
    by_operation: dict[int, int]


TAILS = Statement(
    """
    SELECT stream.workflow_uuid, stream.key, stream.function_id, MAX(stream."offset"), COUNT(*)
    FROM {rows} JOIN {streams} AS stream
      ON stream.workflow_uuid = r.workflow_uuid AND stream.key = r.key
    GROUP BY stream.workflow_uuid, stream.key, stream.function_id
    """,
    {"workflow_uuid": "text", "key": "text"},
)

APPEND = Statement(
    """
    INSERT INTO {streams} (workflow_uuid, key, value, "offset", function_id, serialization)
    SELECT r.workflow_uuid, r.key, r.value, r.entry, r.function_id, r.serialization FROM {rows}
    """,
    {
        "workflow_uuid": "text",
        "key": "text",
        "value": "text",
        "entry": "integer",
        "function_id": "integer",
        "serialization": "text",
    },
)


def write_all(tx: Tx, writings: Sequence[StreamWriting]) -> list[Recorded]:
    """Append entries, each with its record; what an earlier attempt wrote is not written again."""
    verdicts = judged(tx, writings)
    kept = [
        writing
        for writing, verdict in zip(writings, verdicts, strict=True)
        if verdict.verdict == "kept"
    ]
    if kept:
        appended = _placed(kept, _tails(tx, kept))
        if appended:
            tx.run(APPEND, rows=appended)
    return verdicts


def _tails(tx: Tx, writings: Iterable[StreamWriting]) -> dict[tuple[str, str], Tail]:
    keys = {(writing.workflow_uuid, writing.key) for writing in writings}
    rows = [{"workflow_uuid": workflow_id, "key": key} for workflow_id, key in sorted(keys)]
    tails = {key: Tail(0, {}) for key in keys}
    for workflow_id, key, function_id, last, count in tx.all(TAILS, rows=rows):
        tail = tails[workflow_id, key]
        tail.by_operation[function_id] = count
        tails[workflow_id, key] = Tail(max(tail.next_offset, last + 1), tail.by_operation)
    return tails


def _placed(
    writings: Iterable[StreamWriting], tails: dict[tuple[str, str], Tail]
) -> list[dict[str, object]]:
    """The entries that are new, each at the next offset of its stream."""
    rows: list[dict[str, object]] = []
    for writing in writings:
        key = (writing.workflow_uuid, writing.key)
        tail = tails[key]
        if tail.by_operation.get(writing.function_id, 0) >= writing.number:
            continue
        tail.by_operation[writing.function_id] = writing.number
        rows.append(
            {
                "workflow_uuid": writing.workflow_uuid,
                "key": writing.key,
                "value": writing.value,
                "entry": tail.next_offset,
                "function_id": writing.function_id,
                "serialization": writing.serialization,
            }
        )
        tails[key] = Tail(tail.next_offset + 1, tail.by_operation)
    return rows


def stream_topic(workflow_id: str, key: str) -> Topic:
    """What a reader of this stream waits for."""
    return Topic("stream", f"{workflow_id}::{key}")


def _written_topics(writing: StreamWriting, recorded: Recorded) -> Iterable[Topic]:
    if recorded.verdict == "kept":
        yield stream_topic(writing.workflow_uuid, writing.key)


write_stream: Final = Write("write_stream", write_all, _written_topics, rank=42)


class Entry(NamedTuple):
    """What a reader finds at an offset: an entry, the end, or nothing yet."""

    value: str | None
    serialization: str | None
    run_status: str | None
    """None: there is no such run."""
    is_closed: bool
    """Whether the stream was closed at this offset or before it."""


ENTRY = Statement(
    """
    SELECT stream.value, stream.serialization, run.status, EXISTS (
        SELECT 1 FROM {streams} AS ending
        WHERE ending.workflow_uuid = :workflow_id AND ending.key = :key
          AND ending."offset" <= :entry AND ending.value = :closed
          AND ending.serialization = :closed_format)
    FROM {workflow_status} AS run LEFT JOIN {streams} AS stream
      ON stream.workflow_uuid = run.workflow_uuid AND stream.key = :key AND stream."offset" = :entry
    WHERE run.workflow_uuid = :workflow_id
    """
)


@SingleRead
def entry(tx: Tx, workflow_id: str, key: str, offset: int) -> Entry:
    """The entry at an offset, with the status of the run that writes the stream."""
    row = tx.one(
        ENTRY,
        workflow_id=workflow_id,
        key=key,
        entry=offset,
        closed=CLOSED,
        closed_format=CLOSED_FORMAT,
    )
    return Entry(*row) if row else Entry(None, None, None, False)


LENGTHS = Statement(
    """
    SELECT r.workflow_uuid, r.key, (SELECT COUNT(*) FROM {streams} AS stream
        WHERE stream.workflow_uuid = r.workflow_uuid AND stream.key = r.key)
    FROM {rows}
    """,
    {"workflow_uuid": "text", "key": "text"},
)


@SingleRead
def lengths(tx: Tx, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """How many entries each of these streams has."""
    rows = [{"workflow_uuid": workflow_id, "key": key} for workflow_id, key in keys]
    return {(row[0], row[1]): row[2] for row in tx.all(LENGTHS, rows=rows)}
