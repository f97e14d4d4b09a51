"""The life of a run's row: admission, child launch, outcome, hand-back, dead letter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from dbos.lifecycle import TERMINAL
from dbos.storage.protocol import SingleRead, Statement, Topic, Tx, Write
from dbos.storage.rows import (
    RUN_COLUMNS,
    Admitted,
    ChildLaunch,
    FinishRow,
    Launched,
    NewRun,
    Outcome,
)
from dbos.storage.steps import record_pending

_COLUMNS = ", ".join(RUN_COLUMNS)

ANY_QUEUE = Topic("queue", "")
"""Rung when something changed on a queue that the writer does not know."""

SLOT_FREED = ANY_QUEUE
"""Rung when a run left such a queue."""

ADMIT = Statement(
    f"""
    INSERT INTO {{workflow_status}} ({_COLUMNS}, created_at, updated_at)
    SELECT {", ".join(f"r.{column}" for column in RUN_COLUMNS)}, {{now_ms}}, {{now_ms}}
    FROM {{rows}} WHERE TRUE
    ON CONFLICT (workflow_uuid) DO UPDATE SET updated_at = {{now_ms}}
    RETURNING workflow_uuid, status, name, class_name, config_name, queue_name, owner_xid, output,
        error, serialization
    """,
    RUN_COLUMNS,
)


def admit_rows(tx: Tx, runs: Sequence[NewRun]) -> list[Admitted]:
    """Create runs, or find the ones that have these ids already.

    A row whose claim is ours is new, or is our own earlier commit whose acknowledgement was lost.
    """
    answers: list[Admitted | None] = [None] * len(runs)
    for round_of_distinct_ids in _rounds(runs):
        found = {
            row[0]: Admitted(*row)
            for row in tx.all(ADMIT, rows=[runs[index] for index in round_of_distinct_ids])
        }
        for index in round_of_distinct_ids:
            answers[index] = found[runs[index].workflow_uuid]
    return [answer for answer in answers if answer is not None]


def _rounds(runs: Sequence[NewRun]) -> list[list[int]]:
    """Indices in rounds without a repeated id: one upsert statement cannot touch a row twice.

    Rows are locked in the order of a round: that of the ids, but for enqueued runs, which keep the
    order in which they came.
    """
    if len({run.workflow_uuid for run in runs}) == len(runs):

        def locking_order(index: int) -> tuple[bool, str]:
            run = runs[index]
            return (True, "") if run.queue_name is not None else (False, run.workflow_uuid)

        return [sorted(range(len(runs)), key=locking_order)]
    by_id: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        by_id.setdefault(run.workflow_uuid, []).append(index)
    return [
        [index for index in round_ if index is not None] for round_ in zip_longest(*by_id.values())
    ]


def _admitted_topics(run: NewRun, _: Admitted) -> Iterable[Topic]:
    if run.queue_name is not None:
        yield Topic("queue", run.queue_name)


admit: Final = Write("admit", admit_rows, _admitted_topics, rank=10)


FORGET = Statement(
    """
    DELETE FROM {operation_outputs} WHERE EXISTS (
        SELECT 1 FROM {rows} WHERE r.workflow_uuid = operation_outputs.workflow_uuid
          AND r.function_id = operation_outputs.function_id)
    """,
    {"workflow_uuid": "text", "function_id": "integer"},
)


def launch_children(tx: Tx, launches: Sequence[ChildLaunch]) -> list[Launched]:
    """Create each child and record its launch in the parent, if the parent may still do so."""
    recorded = record_pending(tx, [launch.record for launch in launches])
    allowed = [
        launch.child
        for launch, answer in zip(launches, recorded, strict=True)
        if answer.verdict == "kept"
    ]
    admitted = iter(admit_rows(tx, allowed) if allowed else [])
    places = [next(admitted) if answer.verdict == "kept" else None for answer in recorded]
    is_foreign = [
        place is not None and not _same_target(launch.child, place)
        for launch, place in zip(launches, places, strict=True)
    ]
    refused = [
        launch.record for launch, foreign in zip(launches, is_foreign, strict=True) if foreign
    ]
    if refused:
        # The launch fails, and a launch that failed is not recorded.
        tx.run(FORGET, rows=refused)
    return [
        Launched(None if foreign else answer, place)
        for answer, place, foreign in zip(recorded, places, is_foreign, strict=True)
    ]


def _same_target(run: NewRun, found: Admitted) -> bool:
    return (found.name, found.class_name, found.config_name) == (
        run.name,
        run.class_name,
        run.config_name,
    )


def _launched_topics(launch: ChildLaunch, _: Launched) -> Iterable[Topic]:
    if launch.child.queue_name is not None:
        yield Topic("queue", launch.child.queue_name)


launch_child: Final = Write("launch_child", launch_children, _launched_topics, rank=15)

FINISH = Statement(
    """
    UPDATE {workflow_status} SET status = r.status, output = r.output, error = r.error,
        updated_at = {now_ms}, completed_at = {now_ms}, deduplication_id = NULL,
        not_before_epoch_ms = NULL
    FROM {rows}
    WHERE {workflow_status}.workflow_uuid = r.workflow_uuid
      AND {workflow_status}.owner_xid = r.claim AND {workflow_status}.status = 'PENDING'
    RETURNING {workflow_status}.workflow_uuid
    """,
    {
        "workflow_uuid": "text",
        "status": "text",
        "output": "text",
        "error": "text",
        "claim": "text",
        "queue": "text",
    },
)

# Batches lock their rows in the order of the ids, so that two of them never wait for each other.
# One row alone needs no order.
FINISH_MANY = Statement(
    FINISH.text.replace(
        "FROM {rows}",
        """FROM (
        SELECT r.* FROM {rows} JOIN {workflow_status} AS owned
          ON owned.workflow_uuid = r.workflow_uuid
        ORDER BY owned.workflow_uuid {lock(owned)}) AS r""",
    ),
    FINISH.columns,
)

OWNERS = Statement(
    """
    SELECT workflow_uuid, owner_xid, status, output, error FROM {workflow_status}
    WHERE workflow_uuid {any_of(workflow_ids)}
    """
)


def finish_rows(tx: Tx, rows: Sequence[FinishRow]) -> list[bool]:
    """Write outcomes whose claim holds; tell for each whether it is the recorded one."""
    statement = FINISH if len(rows) == 1 else FINISH_MANY
    accepted = {row[0] for row in tx.all(statement, rows=rows)}
    if len(accepted) == len(rows):
        return [True] * len(rows)
    # Two attempts of a run may end in one batch, so an accepted id alone does not tell whose
    # outcome it was.
    ids = [row.workflow_uuid for row in rows]
    stored = {row[0]: row[1:] for row in tx.all(OWNERS, workflow_ids=ids)}
    return [
        stored.get(row.workflow_uuid) == (row.claim, row.status, row.output, row.error)
        for row in rows
    ]


def _finished_topics(row: FinishRow, accepted: bool) -> Iterable[Topic]:
    if accepted:
        yield Topic("done", row.workflow_uuid)
        if row.queue is not None:
            yield Topic("queue", row.queue)


finish: Final = Write("finish", finish_rows, _finished_topics, rank=90, single=True)

OUTCOME = Statement(
    """
    SELECT workflow_uuid, status, output, error, serialization FROM {workflow_status}
    WHERE workflow_uuid = :workflow_id
    """
)


@SingleRead
def outcome(tx: Tx, workflow_id: str) -> Outcome | None:
    """The run's status and stored outcome; None if there is no such run."""
    row = tx.one(OUTCOME, workflow_id=workflow_id)
    return Outcome(*row) if row else None


ENDED = Statement(
    """
    SELECT workflow_uuid FROM {workflow_status}
    WHERE workflow_uuid {any_of(workflow_ids)} AND status {any_of(terminal)}
    """
)


@SingleRead
def ended(tx: Tx, workflow_ids: Sequence[str]) -> list[str]:
    """Those of these runs that have ended, in whatever way."""
    rows = tx.all(ENDED, workflow_ids=list(workflow_ids), terminal=sorted(TERMINAL))
    return [row[0] for row in rows]


STATUSES = Statement(
    "SELECT workflow_uuid, status FROM {workflow_status} WHERE workflow_uuid {any_of(workflow_ids)}"
)


@SingleRead
def over(tx: Tx, workflow_ids: Sequence[str]) -> list[str]:
    """Those of these runs that have ended or are not there: who awaits a deleted one must know."""
    statuses = {row[0]: row[1] for row in tx.all(STATUSES, workflow_ids=list(workflow_ids))}
    return [
        workflow_id
        for workflow_id in workflow_ids
        if statuses.get(workflow_id) is None or statuses[workflow_id] in TERMINAL
    ]


@SingleRead
def claims(tx: Tx, workflow_ids: Sequence[str]) -> dict[str, tuple[str | None, str]]:
    """The claim and status of each of these runs that exists."""
    return {row[0]: (row[1], row[2]) for row in tx.all(OWNERS, workflow_ids=list(workflow_ids))}


@dataclass(frozen=True, slots=True)
class HandBack:
    """A run that this process stops without an outcome."""

    workflow_uuid: str
    claim: str
    fresh_claim: str
    grace_ms: int


# The fresh claim shuts out whatever the interrupted attempt still tries to write.
HAND_BACK = Statement(
    """
    UPDATE {workflow_status} SET owner_xid = r.fresh_claim, updated_at = {now_ms},
        not_before_epoch_ms = {now_ms} + r.grace_ms
    FROM {rows}
    WHERE {workflow_status}.workflow_uuid = r.workflow_uuid
      AND {workflow_status}.owner_xid = r.claim AND {workflow_status}.status = 'PENDING'
    """,
    {"workflow_uuid": "text", "claim": "text", "fresh_claim": "text", "grace_ms": "integer"},
)


def hand_back_rows(tx: Tx, rows: Sequence[HandBack]) -> list[None]:
    """Leave runs PENDING and claimable: when this process ends, or after the grace period."""
    tx.run(HAND_BACK, rows=rows)
    return [None] * len(rows)


hand_back: Final = Write("hand_back", hand_back_rows, rank=95, single=True)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A claimed run that has used up its attempts."""

    workflow_uuid: str
    claim: str
    error: str | None


# A start that a rate limit counted goes on counting, so such a run keeps its queue and its start in
# the table; whoever lists it sees neither.
LEAVE_QUEUE = "queue_name = CASE WHEN rate_limited THEN queue_name END"

DEAD_LETTER = Statement(
    f"""
    UPDATE {{workflow_status}} SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', {LEAVE_QUEUE},
        error = r.error, deduplication_id = NULL, updated_at = {{now_ms}},
        completed_at = {{now_ms}}
    FROM {{rows}}
    WHERE {{workflow_status}}.workflow_uuid = r.workflow_uuid
      AND {{workflow_status}}.owner_xid = r.claim AND {{workflow_status}}.status = 'PENDING'
    """,
    {"workflow_uuid": "text", "claim": "text", "error": "text"},
)


def dead_letter_rows(tx: Tx, rows: Sequence[DeadLetter]) -> list[None]:
    tx.run(DEAD_LETTER, rows=rows)
    return [None] * len(rows)


def _dead_letter_topics(row: DeadLetter, _: None) -> Iterable[Topic]:
    yield Topic("done", row.workflow_uuid)
    yield SLOT_FREED


dead_letter: Final = Write("dead_letter", dead_letter_rows, _dead_letter_topics, rank=90)
