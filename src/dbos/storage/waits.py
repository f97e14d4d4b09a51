"""The records of a durable wait: what was found, the deadline, or that nothing came in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from dbos.storage.protocol import Tx
from dbos.storage.rows import Recorded, StepRow
from dbos.storage.steps import load_one, record_pending

Payload = tuple[str, str | None]
"""A stored value and its format."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look of a durable wait, with the rows it may record.

    `found` is completed with what was found. `deadline` is recorded with the first look; `missed`
    with the last one, when the time is over.
    """

    found: StepRow
    deadline: StepRow | None = None
    missed: StepRow | None = None


class Seen(NamedTuple):
    """What became of a look: the wait goes on, or its end is recorded."""

    recorded: Recorded
    is_done: bool
    is_fresh: bool
    """Whether this very look recorded what it found."""
    output: str | None
    serialization: str | None


def record_looks(tx: Tx, looks: Sequence[Look], payloads: Sequence[Payload | None]) -> list[Seen]:
    """Record each look under its run's claim: the payload if any, else deadline or miss."""
    endings = [_ending(look, payload) for look, payload in zip(looks, payloads, strict=True)]
    rows = [row for row in endings if row is not None]
    rows += [look.deadline for look in looks if look.deadline is not None]
    if not rows:
        return [_waiting(look) for look in looks]
    verdicts = {
        _key(row): verdict for row, verdict in zip(rows, record_pending(tx, rows), strict=True)
    }
    return [_seen(tx, look, ending, verdicts) for look, ending in zip(looks, endings, strict=True)]


def _ending(look: Look, payload: Payload | None) -> StepRow | None:
    if payload is None:
        return look.missed
    return msgspec.structs.replace(look.found, output=payload[0], serialization=payload[1])


def _seen(
    tx: Tx, look: Look, ending: StepRow | None, verdicts: dict[tuple[str, int], Recorded]
) -> Seen:
    if ending is None:
        return _waiting(look, verdicts.get(_key(look.deadline)) if look.deadline else None)
    verdict = verdicts[_key(ending)]
    if verdict.verdict == "conflict":
        # An earlier look recorded its find, and the acknowledgement was lost: that one counts.
        stored = load_one(tx, ending.workflow_uuid, ending.function_id)
        return Seen(
            Recorded("kept", verdict.status), True, False, stored.output, stored.serialization
        )
    is_fresh = verdict.verdict == "kept"
    return Seen(verdict, is_fresh, is_fresh, ending.output, ending.serialization)


def _waiting(look: Look, verdict: Recorded | None = None) -> Seen:
    return Seen(verdict or Recorded("kept", "PENDING"), False, False, None, None)


def _key(row: StepRow) -> tuple[str, int]:
    return row.workflow_uuid, row.function_id
