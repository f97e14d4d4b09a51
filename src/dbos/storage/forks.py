"""Forks: a new run that has the history of another one up to a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from dbos.storage.management import is_refused, recorded_by
from dbos.storage.protocol import Statement, Topic, Tx, Write
from dbos.storage.rows import Recorded, StepRow


@dataclass(frozen=True, slots=True)
class Forking:
    """One call that forks, with the caller's record if it is made in workflow code."""

    source_id: str
    fork_id: str
    start_step: int
    claim: str
    queue_name: str
    queue_partition_key: str | None
    application_version: str | None
    timeout_ms: int | None
    replacement_children: Mapping[str, str]
    replacement_winners: Mapping[str, str]
    """The same ids in the form in which a step's output holds them."""
    must_be_new: bool = False
    """Whether a fork that has the id already refuses this one."""
    record: StepRow | None = None


class Forked(NamedTuple):
    """What became of a fork. `known`: a fork of the same source had the id already.

    What fails is not recorded. `id_taken` is `known` for a fork that must be new.
    """

    outcome: Literal["made", "known", "no_source", "id_in_use", "id_taken", "refused"]
    recorded: Recorded | None = None
    holder: tuple[str, str] | None = None
    """Status and name of the run that has the id."""


# Everything that a run records locks its row first, so the source stands still from here on.
HOLD = Statement(
    """
    UPDATE {workflow_status} SET was_forked_from = was_forked_from
    WHERE workflow_uuid = :source_id RETURNING workflow_uuid
    """
)

MARK = Statement(
    "UPDATE {workflow_status} SET was_forked_from = TRUE WHERE workflow_uuid = :source_id"
)

HOLDER = Statement(
    """
    SELECT forked_from, owner_xid, status, name FROM {workflow_status}
    WHERE workflow_uuid = :workflow_id
    """
)

INSERT = Statement(
    """
    INSERT INTO {workflow_status} (
        workflow_uuid, status, name, class_name, config_name, authenticated_user, assumed_role,
        authenticated_roles, inputs, serialization, application_id, application_name, attributes,
        owner_xid, forked_from, queue_name, queue_partition_key, application_version,
        workflow_timeout_ms, recovery_attempts, created_at, updated_at)
    SELECT :fork_id, 'ENQUEUED', name, class_name, config_name, authenticated_user, assumed_role,
        authenticated_roles, inputs, serialization, application_id, application_name, attributes,
        :claim, workflow_uuid, :queue_name, :queue_partition_key, :application_version,
        :timeout_ms, 0, {now_ms}, {now_ms}
    FROM {workflow_status} WHERE workflow_uuid = :source_id
    ON CONFLICT (workflow_uuid) DO NOTHING
    """
)

REMOVE = Statement("DELETE FROM {workflow_status} WHERE workflow_uuid = :workflow_id")

COPY_STEPS = Statement(
    """
    INSERT INTO {operation_outputs} (
        workflow_uuid, function_id, function_name, output, error, child_workflow_id,
        started_at_epoch_ms, completed_at_epoch_ms, serialization, application_name, record_order)
    SELECT :fork_id, step.function_id, step.function_name, step.output, step.error,
        COALESCE(r.replacement, step.child_workflow_id), step.started_at_epoch_ms,
        step.completed_at_epoch_ms, step.serialization, step.application_name, step.record_order
    FROM {operation_outputs} AS step LEFT JOIN {rows} ON r.child_id = step.child_workflow_id
    WHERE step.workflow_uuid = :source_id AND step.function_id < :start_step
    """,
    {"child_id": "text", "replacement": "text"},
)

# The first of several workflows to end is an id too, but not one that the step points to.
REPLACE_WINNERS = Statement(
    """
    UPDATE {operation_outputs}
    SET output = (SELECT r.replacement FROM {rows} WHERE r.winner = operation_outputs.output)
    WHERE workflow_uuid = :fork_id AND function_name = 'DBOS.waitFirst'
      AND output IN (SELECT r.winner FROM {rows})
    """,
    {"winner": "text", "replacement": "text"},
)

COPY_EVENT_HISTORY = Statement(
    """
    INSERT INTO {workflow_events_history} (workflow_uuid, function_id, key, value, serialization)
    SELECT :fork_id, function_id, key, value, serialization FROM {workflow_events_history}
    WHERE workflow_uuid = :source_id AND function_id < :start_step
    """
)

LATEST_EVENTS = Statement(
    """
    INSERT INTO {workflow_events} (workflow_uuid, key, value, serialization)
    SELECT setting.workflow_uuid, setting.key, setting.value, setting.serialization
    FROM {workflow_events_history} AS setting
    WHERE setting.workflow_uuid = :workflow_id AND NOT EXISTS (
        SELECT 1 FROM {workflow_events_history} AS later
        WHERE later.workflow_uuid = setting.workflow_uuid AND later.key = setting.key
          AND later.function_id > setting.function_id)
    ON CONFLICT (workflow_uuid, key) DO UPDATE
        SET value = EXCLUDED.value, serialization = EXCLUDED.serialization
    """
)

# Tasks of an async run may have written in another order than that of their step ids. What is left
# out must not leave a hole, at which readers would wait.
COPY_STREAMS = Statement(
    """
    INSERT INTO {streams} (workflow_uuid, key, value, "offset", function_id, serialization)
    SELECT :fork_id, key, value, ROW_NUMBER() OVER (PARTITION BY key ORDER BY "offset") - 1,
        function_id, serialization
    FROM {streams} WHERE workflow_uuid = :source_id AND function_id < :start_step
    """
)


def fork_all(tx: Tx, forkings: Sequence[Forking]) -> list[Forked]:
    """Make forks, each with the history of its source below a step, or say why not."""
    return [_fork(tx, forking) for forking in forkings]


def _fork(tx: Tx, forking: Forking) -> Forked:
    if tx.one(HOLD, source_id=forking.source_id) is None:
        return Forked("no_source")
    is_new = _inserted(tx, forking)
    holder = tx.one(HOLDER, workflow_id=forking.fork_id)
    assert holder is not None
    named = (holder[2], holder[3] or "")
    if holder[0] != forking.source_id:
        return Forked("id_in_use", None, named)
    # A row with our token that is not new is our own commit whose acknowledgement was lost.
    is_ours = holder[1] == forking.claim
    if forking.must_be_new and not is_ours:
        return Forked("id_taken", None, named)
    recorded = recorded_by(tx, forking.record)
    if is_refused(recorded):
        if is_new:
            tx.run(REMOVE, workflow_id=forking.fork_id)
        return Forked("refused", recorded)
    if is_new:
        _copy(tx, forking)
    return Forked("made" if is_ours else "known", recorded, named)


def _inserted(tx: Tx, forking: Forking) -> bool:
    """Whether the fork's row is new: its id may be taken."""
    inserted = tx.run(
        INSERT,
        source_id=forking.source_id,
        fork_id=forking.fork_id,
        claim=forking.claim,
        queue_name=forking.queue_name,
        queue_partition_key=forking.queue_partition_key,
        application_version=forking.application_version,
        timeout_ms=forking.timeout_ms,
    )
    return inserted == 1


def _copy(tx: Tx, forking: Forking) -> None:
    tx.run(MARK, source_id=forking.source_id)
    if forking.start_step <= 1:
        # Nothing has a step id below 1.
        return
    span = {
        "source_id": forking.source_id,
        "fork_id": forking.fork_id,
        "start_step": forking.start_step,
    }
    children = [
        {"child_id": old, "replacement": new} for old, new in forking.replacement_children.items()
    ]
    tx.run(COPY_STEPS, rows=children, **span)
    if children:
        winners = [
            {"winner": old, "replacement": new} for old, new in forking.replacement_winners.items()
        ]
        tx.run(REPLACE_WINNERS, rows=winners, fork_id=forking.fork_id)
    tx.run(COPY_EVENT_HISTORY, **span)
    tx.run(LATEST_EVENTS, workflow_id=forking.fork_id)
    tx.run(COPY_STREAMS, **span)


def _forked_topics(forking: Forking, forked: Forked) -> Iterable[Topic]:
    if forked.outcome == "made":
        yield Topic("queue", forking.queue_name)


fork: Final = Write("fork", fork_all, _forked_topics, rank=64)
