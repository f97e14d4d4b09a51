"""The history of a run: recording its operations under a claim, and loading them for replay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from dbos.storage.protocol import Row, SingleRead, Statement, Tx, Write
from dbos.storage.rows import STEP_COLUMNS, Recorded, RecordedStep, StepRow

KEPT = Recorded("kept", "PENDING")

# The claim is checked and the run's row locked in the statement that inserts, in id order, so that
# a takeover and a record can never pass each other. The run's status rides back with the answer.
RECORD = Statement(
    """
    INSERT INTO {operation_outputs} (
        workflow_uuid, function_id, function_name, output, error, child_workflow_id,
        started_at_epoch_ms, completed_at_epoch_ms, serialization, application_name, record_order)
    SELECT r.workflow_uuid, r.function_id, r.function_name, r.output, r.error, r.child_workflow_id,
        r.started_at_epoch_ms, r.completed_at_epoch_ms, r.serialization, r.application_name,
        r.record_order
    FROM {rows}
    JOIN {workflow_status} AS owned
      ON owned.workflow_uuid = r.workflow_uuid AND owned.owner_xid = r.claim
    WHERE owned.status = 'PENDING' OR :any_status
    ORDER BY r.workflow_uuid, r.function_id {lock_share(owned)}
    ON CONFLICT (workflow_uuid, function_id) DO NOTHING
    RETURNING workflow_uuid, function_id,
        (SELECT now.status FROM {workflow_status} AS now
         WHERE now.workflow_uuid = operation_outputs.workflow_uuid)
    """,
    STEP_COLUMNS,
)

EXAMINE = Statement(
    """
    SELECT r.workflow_uuid, r.function_id, run.owner_xid, run.status,
        step.function_id, step.function_name, step.output, step.error, step.child_workflow_id
    FROM {rows}
    LEFT JOIN {workflow_status} AS run ON run.workflow_uuid = r.workflow_uuid
    LEFT JOIN {operation_outputs} AS step
      ON step.workflow_uuid = r.workflow_uuid AND step.function_id = r.function_id
    """,
    {"workflow_uuid": "text", "function_id": "integer"},
)


def record_rows(tx: Tx, rows: Sequence[StepRow]) -> list[Recorded]:
    """Record operations whose claim holds, whatever became of the run's status meanwhile."""
    return _record(tx, rows, any_status=True)


def record_pending(tx: Tx, rows: Sequence[StepRow]) -> list[Recorded]:
    """Record operations while the claim holds and the run is PENDING: a cancel refuses them."""
    return _record(tx, rows, any_status=False)


record: Final = Write("record", record_rows, rank=20, single=True)
record_wait: Final = Write("record_wait", record_pending, rank=20, single=True)

LOAD = Statement(
    """
    SELECT workflow_uuid, function_id, function_name, output, error, child_workflow_id,
    serialization,
        record_order, started_at_epoch_ms, completed_at_epoch_ms
    FROM {operation_outputs}
    WHERE workflow_uuid {any_of(workflow_ids)}
    ORDER BY workflow_uuid, function_id
    """
)


@SingleRead
def load(tx: Tx, workflow_ids: Sequence[str]) -> list[RecordedStep]:
    """The recorded operations of these runs, by run and step id."""
    return [RecordedStep(*row) for row in tx.all(LOAD, workflow_ids=list(workflow_ids))]


CLAIMS = Statement(
    """
    SELECT run.workflow_uuid, run.owner_xid, run.status FROM {workflow_status} AS run
    WHERE run.workflow_uuid {any_of(workflow_ids)} ORDER BY run.workflow_uuid {lock_share(run)}
    """
)


class ClaimedWrite(Protocol):
    """A write of a run that has no record of its own."""

    @property
    def workflow_uuid(self) -> str: ...

    @property
    def claim(self) -> str: ...


def check_claims(tx: Tx, writes: Sequence[ClaimedWrite]) -> list[Recorded]:
    """Judge writes without records: their claims must hold, and hold until the commit."""
    ids = sorted({write.workflow_uuid for write in writes})
    runs = {row[0]: (row[1], row[2]) for row in tx.all(CLAIMS, workflow_ids=ids)}
    verdicts: list[Recorded] = []
    for write in writes:
        owner, status = runs.get(write.workflow_uuid, (None, None))
        if owner != write.claim:
            verdicts.append(Recorded("lost", status))
        else:
            verdicts.append(Recorded("kept" if status == "PENDING" else "cancelled", status))
    return verdicts


LOAD_ONE = Statement(LOAD.text.replace("ORDER BY", "AND function_id = :step_id ORDER BY"))


def find_one(tx: Tx, workflow_id: str, step_id: int) -> RecordedStep | None:
    """One recorded operation, if there is one."""
    row = tx.one(LOAD_ONE, workflow_ids=[workflow_id], step_id=step_id)
    return RecordedStep(*row) if row else None


def load_one(tx: Tx, workflow_id: str, step_id: int) -> RecordedStep:
    """One recorded operation that is known to exist."""
    found = find_one(tx, workflow_id, step_id)
    assert found is not None
    return found


def _record(tx: Tx, rows: Sequence[StepRow], *, any_status: bool) -> list[Recorded]:
    kept: dict[tuple[str, int], str] = {
        (workflow_id, step_id): status
        for workflow_id, step_id, status in tx.all(RECORD, rows=rows, any_status=any_status)
    }
    if len(kept) == len(rows) and all(status == "PENDING" for status in kept.values()):
        return [KEPT] * len(rows)
    if len({(row.workflow_uuid, row.function_id) for row in rows}) < len(rows):
        # Two attempts of a run record the same step, and one has lost its claim. The rows that came
        # back do not tell which one was kept, so each is asked about alone.
        return [_record(tx, [row], any_status=any_status)[0] for row in rows]
    return judged(tx, rows, kept)


def judged(tx: Tx, rows: Sequence[StepRow], kept: Mapping[tuple[str, int], str]) -> list[Recorded]:
    """The verdicts on rows of different steps; those not kept are asked about."""
    missing = [row for row in rows if (row.workflow_uuid, row.function_id) not in kept]
    verdicts = _examine(tx, missing) if missing else {}
    return [
        verdicts[key] if key in verdicts else Recorded("kept", kept[key])
        for key in ((row.workflow_uuid, row.function_id) for row in rows)
    ]


def _examine(tx: Tx, rows: Sequence[StepRow]) -> dict[tuple[str, int], Recorded]:
    found: Iterable[Row] = tx.all(EXAMINE, rows=rows)
    stored = {(row[0], row[1]): row[2:] for row in found}
    return {
        (row.workflow_uuid, row.function_id): _judge(
            row, stored[row.workflow_uuid, row.function_id]
        )
        for row in rows
    }


def _judge(row: StepRow, stored: Row) -> Recorded:
    owner, status, step_id, name, output, error, child = stored
    if owner != row.claim:
        return Recorded("lost", status)
    if step_id is None:
        return Recorded("cancelled", status)
    # The same content under the same claim is our own earlier commit whose acknowledgement was
    # lost.
    ours = (name, output, error, child) == (
        row.function_name,
        row.output,
        row.error,
        row.child_workflow_id,
    )
    return Recorded("kept" if ours else "conflict", status)
