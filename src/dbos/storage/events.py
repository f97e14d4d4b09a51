"""Events: the last value a run set under a key, and its history for forks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dbos.storage.protocol import SingleRead, Statement, Topic, Tx, Write
from dbos.storage.rows import Recorded, StepRow
from dbos.storage.steps import check_claims, record_pending
from dbos.storage.waits import Look, Payload, Seen, record_looks


@dataclass(frozen=True, slots=True)
class EventSetting:
    """One `set_event`: recorded in workflow code, under the claim alone in a step."""

    workflow_uuid: str
    key: str
    value: str
    serialization: str
    function_id: int
    claim: str
    record: StepRow | None


_COLUMNS = {
    "workflow_uuid": "text",
    "key": "text",
    "value": "text",
    "serialization": "text",
    "function_id": "integer",
}

UPSERT = Statement(
    """
    INSERT INTO {workflow_events} (workflow_uuid, key, value, serialization)
    SELECT r.workflow_uuid, r.key, r.value, r.serialization FROM {rows} WHERE TRUE
    ON CONFLICT (workflow_uuid, key) DO UPDATE
        SET value = EXCLUDED.value, serialization = EXCLUDED.serialization
    """,
    _COLUMNS,
)

UPSERT_HISTORY = Statement(
    """
    INSERT INTO {workflow_events_history} (workflow_uuid, function_id, key, value, serialization)
    SELECT r.workflow_uuid, r.function_id, r.key, r.value, r.serialization FROM {rows} WHERE TRUE
    ON CONFLICT (workflow_uuid, function_id, key) DO UPDATE
        SET value = EXCLUDED.value, serialization = EXCLUDED.serialization
    """,
    _COLUMNS,
)


def set_all(tx: Tx, settings: Sequence[EventSetting]) -> list[Recorded]:
    """Set events, each with its record; of several for one key the last one stays."""
    verdicts = judged(tx, settings)
    kept = [
        setting
        for setting, verdict in zip(settings, verdicts, strict=True)
        if verdict.verdict == "kept"
    ]
    if kept:
        tx.run(UPSERT, rows=_last_by(kept, lambda row: (row.workflow_uuid, row.key)))
        tx.run(
            UPSERT_HISTORY,
            rows=_last_by(kept, lambda row: (row.workflow_uuid, row.function_id, row.key)),
        )
    return verdicts


def judged(tx: Tx, writes: Sequence[Any]) -> list[Recorded]:
    """Record the writes made in workflow code, and check the claims of those made in steps."""
    recorded = [write for write in writes if write.record is not None]
    unrecorded = [write for write in writes if write.record is None]
    records = iter(record_pending(tx, [write.record for write in recorded]) if recorded else [])
    claims = iter(check_claims(tx, unrecorded) if unrecorded else [])
    return [next(records if write.record is not None else claims) for write in writes]


def _last_by(
    rows: Sequence[EventSetting], key: Callable[[EventSetting], tuple[Any, ...]]
) -> list[EventSetting]:
    return list({key(row): row for row in rows}.values())


def event_topic(workflow_id: str, key: str) -> Topic:
    """What a reader of this event waits for."""
    return Topic("event", f"{workflow_id}::{key}")


def _set_topics(setting: EventSetting, recorded: Recorded) -> Iterable[Topic]:
    if recorded.verdict == "kept":
        yield event_topic(setting.workflow_uuid, setting.key)


set_event: Final = Write("set_event", set_all, _set_topics, rank=41)

READ = Statement(
    """
    SELECT event.workflow_uuid, event.key, event.value, event.serialization
    FROM {rows} JOIN {workflow_events} AS event
      ON event.workflow_uuid = r.workflow_uuid AND event.key = r.key
    """,
    {"workflow_uuid": "text", "key": "text"},
)


def _values(tx: Tx, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Payload]:
    rows = [{"workflow_uuid": workflow_id, "key": key} for workflow_id, key in keys]
    return {(row[0], row[1]): (row[2], row[3]) for row in tx.all(READ, rows=rows)}


@dataclass(frozen=True, slots=True)
class Observing:
    """One look of a `get_event` in workflow code."""

    workflow_id: str
    key: str
    look: Look


def observe_all(tx: Tx, observings: Sequence[Observing]) -> list[Seen]:
    """Record the value of each event that is set; else the deadline or the miss."""
    keys = [(observing.workflow_id, observing.key) for observing in observings]
    values = _values(tx, keys)
    return record_looks(
        tx, [observing.look for observing in observings], [values.get(key) for key in keys]
    )


observe: Final = Write("observe_event", observe_all, rank=46)


@SingleRead
def value_of(tx: Tx, workflow_id: str, key: str) -> Payload | None:
    """The stored value of one event."""
    return _values(tx, [(workflow_id, key)]).get((workflow_id, key))


@SingleRead
def any_set(tx: Tx, keys: Sequence[tuple[str, str]]) -> list[Topic]:
    """Those of these events that are set."""
    return [event_topic(*key) for key in _values(tx, keys)]


ALL = Statement(
    """
    SELECT key, value, serialization FROM {workflow_events}
    WHERE workflow_uuid = :workflow_id ORDER BY key
    """
)


@SingleRead
def all_of(tx: Tx, workflow_id: str) -> list[tuple[str, str, str | None]]:
    """All events of a run: key, value and format."""
    return [(row[0], row[1], row[2]) for row in tx.all(ALL, workflow_id=workflow_id)]
