"""The content of a system database at one moment, for tests that compare what crashes leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from dbos.storage.protocol import Row, Statement, Tx


class RunState(NamedTuple):
    """A run as far as its history goes; who owns it does not count."""

    workflow_id: str
    status: str
    name: str | None
    output: str | None
    error: str | None
    forked_from: str | None = None
    """The run whose recorded operations it began with."""
    parent: str | None = None
    """The run that started it."""


class StepState(NamedTuple):
    """A recorded operation."""

    workflow_id: str
    step_id: int
    name: str
    output: str | None
    error: str | None
    child_workflow_id: str | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that runs have made durable."""

    runs: dict[str, RunState]
    steps: dict[tuple[str, int], StepState]
    events: frozenset[Row]
    """Workflow id, key, value."""
    streams: frozenset[Row]
    """Workflow id, key, offset, value."""
    messages: tuple[Row, ...]
    """Destination, topic, message, whether it was consumed; sorted."""
    repeated: tuple[tuple[str, int], ...] = ()
    """Steps with more than one row."""


RUNS = Statement(
    """
    SELECT workflow_uuid, status, name, output, error, forked_from, parent_workflow_id
    FROM {workflow_status}
    """
)

STEPS = Statement(
    """
    SELECT workflow_uuid, function_id, function_name, output, error, child_workflow_id
    FROM {operation_outputs}
    """
)

EVENTS = Statement("SELECT workflow_uuid, key, value FROM {workflow_events}")

STREAMS = Statement('SELECT workflow_uuid, key, "offset", value FROM {streams}')

MESSAGES = Statement("SELECT destination_uuid, topic, message, consumed FROM {notifications}")


def take(tx: Tx) -> Snapshot:
    """The content as one transaction sees it."""
    steps = [StepState(*row) for row in tx.all(STEPS)]
    by_id = {(step.workflow_id, step.step_id): step for step in steps}
    return Snapshot(
        runs={row[0]: RunState(*row) for row in tx.all(RUNS)},
        steps=by_id,
        events=frozenset(tx.all(EVENTS)),
        streams=frozenset(tx.all(STREAMS)),
        messages=tuple(sorted(((*row[:3], bool(row[3])) for row in tx.all(MESSAGES)), key=repr)),
        repeated=tuple(_repeated(steps)),
    )


COUNT_ACTIVE = Statement(
    """
    SELECT COUNT(*) FROM {workflow_status}
    WHERE status = 'PENDING' OR status = 'ENQUEUED' OR status = 'DELAYED'
    """
)

COUNT_WAITING = Statement("SELECT COUNT(*) FROM {workflow_status} WHERE status = 'ENQUEUED'")


def count_active(tx: Tx) -> int:
    """How many runs have not ended."""
    row = tx.one(COUNT_ACTIVE)
    return int(row[0]) if row else 0


def count_waiting(tx: Tx) -> int:
    """How many runs wait on a queue to be claimed."""
    row = tx.one(COUNT_WAITING)
    return int(row[0]) if row else 0


# As if the process had died just before it wrote the outcomes.
REOPEN = Statement(
    """
    UPDATE {workflow_status} SET status = 'PENDING', output = NULL, error = NULL,
        completed_at = NULL, incarnation_id = NULL
    WHERE status = 'SUCCESS' OR status = 'ERROR'
    """
)


def reopen(tx: Tx) -> int:
    """Forget all outcomes and keep the histories; the number of runs."""
    return tx.run(REOPEN)


def _repeated(steps: list[StepState]) -> list[tuple[str, int]]:
    seen: set[tuple[str, int]] = set()
    repeated: list[tuple[str, int]] = []
    for step in steps:
        key = (step.workflow_id, step.step_id)
        if key in seen:
            repeated.append(key)
        seen.add(key)
    return repeated
