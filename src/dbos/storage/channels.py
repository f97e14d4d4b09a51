"""Wake-ups between processes, as text: topics to payloads and back (schema.md section 5)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from dbos.storage.protocol import Topic

# Kinds whose channels other clients of the same database know; the payload is the topic's key.
PUBLISHED = {
    "message": "dbos_notifications_channel",
    "event": "dbos_workflow_events_channel",
    "stream": "dbos_streams_channel",
}
OWN = "perdure_wakeups"
CHANNELS = (*PUBLISHED.values(), OWN)
EVERYTHING = "[]"
LONGEST_PAYLOAD = 7999
"""In bytes, by PostgreSQL's NOTIFY."""

_KINDS = {channel: kind for kind, channel in PUBLISHED.items()}


def to_text(topics: Collection[Topic]) -> str:
    """Topics as the JSON array of an outbox row. An executor that ended concerns everybody."""
    if any(topic.kind == "executors" for topic in topics):
        return EVERYTHING
    return msgspec.json.encode([[topic.kind, topic.key] for topic in topics]).decode()


def from_text(text: str) -> list[Topic] | None:
    """Topics of such an array; None means that anything may have changed."""
    try:
        pairs = msgspec.json.decode(text, type=list[tuple[str, str]])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    return [Topic(kind, key) for kind, key in pairs] or None


def notifications(topics: Sequence[Topic]) -> list[tuple[str, str]]:
    """The distinct channels and payloads that tell of topics."""
    distinct = dict.fromkeys(topics)
    pairs = [(PUBLISHED[topic.kind], topic.key) for topic in distinct if topic.kind in PUBLISHED]
    others = [topic for topic in distinct if topic.kind not in PUBLISHED]
    told = [pair for pair in pairs if len(pair[1].encode()) <= LONGEST_PAYLOAD]
    if others:
        text = to_text(others)
        told.append((OWN, text if len(text.encode()) <= LONGEST_PAYLOAD else EVERYTHING))
    if len(told) < len(pairs) + bool(others):
        told.append((OWN, EVERYTHING))
    return list(dict.fromkeys(told))


def topics_of(channel: str, payload: str) -> list[Topic] | None:
    """The topics that a notification tells of; None means that anything may have changed."""
    kind = _KINDS.get(channel)
    return from_text(payload) if kind is None else [Topic(kind, payload)]
