"""The records of a durable wait: what was found, the deadline, or that nothing came in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from dbos.storage.protocol import Tx
from dbos.storage.rows import Recorded, StepRow
from dbos.storage.steps import check_claims, find_one, load_one, record_pending

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


def record_looks(
    tx: Tx,
    looks: Sequence[Look],
    payloads: Sequence[Payload | None],
    record: Callable[[Tx, Sequence[StepRow]], list[Recorded]] = record_pending,
) -> list[Seen]:
    """Record each look under its run's claim: the payload if any, else deadline or miss."""
    endings = [_ending(look, payload) for look, payload in zip(looks, payloads, strict=True)]
    rows = [row for row in endings if row is not None]
    deadlines = [look.deadline for look in looks if look.deadline is not None]
    verdicts = record(tx, rows + deadlines) if rows or deadlines else []
    # Taken in order, not by key: two attempts of one run may look in the same batch.
    of_endings, of_deadlines = iter(verdicts[: len(rows)]), iter(verdicts[len(rows) :])
    seen: list[Seen] = []
    for look, ending in zip(looks, endings, strict=True):
        of_deadline = next(of_deadlines) if look.deadline is not None else None
        of_ending = next(of_endings) if ending is not None else None
        seen.append(_seen(tx, ending, of_ending, of_deadline))
    return seen


def recorded_before(tx: Tx, look: Look) -> Seen | None:
    """What an earlier commit of this look recorded, if its acknowledgement was lost."""
    row = look.found
    stored = find_one(tx, row.workflow_uuid, row.function_id)
    if stored is None:
        return None
    return Seen(check_claims(tx, [row])[0], True, False, stored.output, stored.serialization)


def _ending(look: Look, payload: Payload | None) -> StepRow | None:
    if payload is None:
        return look.missed
    return msgspec.structs.replace(look.found, output=payload[0], serialization=payload[1])


def _seen(
    tx: Tx, ending: StepRow | None, verdict: Recorded | None, of_deadline: Recorded | None
) -> Seen:
    if ending is None or verdict is None:
        return Seen(of_deadline or Recorded("kept", "PENDING"), False, False, None, None)
    if verdict.verdict == "conflict":
        # An earlier look recorded its find, and the acknowledgement was lost: that one counts.
        stored = load_one(tx, ending.workflow_uuid, ending.function_id)
        return Seen(
            Recorded("kept", verdict.status), True, False, stored.output, stored.serialization
        )
    is_fresh = verdict.verdict == "kept"
    return Seen(verdict, is_fresh, is_fresh, ending.output, ending.serialization)
