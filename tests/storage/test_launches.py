"""Launches of children: one that fails leaves no record, and takes nobody else's along."""

from __future__ import annotations

from dbos.storage import workflows
from dbos.storage.protocol import Database, Statement
from dbos.storage.rows import ChildLaunch, StepRow
from tests.storage.waiting_runs import enqueue, waiting

RECORDS = Statement("SELECT workflow_uuid, child_workflow_id FROM {operation_outputs}")


def launch(parent: str, name: str) -> ChildLaunch:
    """The launch of the child `shared` by a parent that is running."""
    record = StepRow(parent, 1, name, None, None, "json", 1, 2, 1, f"claim of {parent}", "shared")
    child = waiting("shared", name=name, owner_xid=f"token of {parent}")
    return ChildLaunch(child, record)


def test_of_two_launches_of_one_id_in_one_batch_the_one_that_fits_stays_recorded(
    database: Database,
) -> None:
    for parent in ("first", "second"):
        enqueue(database, waiting(parent, status="PENDING", owner_xid=f"claim of {parent}"))

    with database.write() as tx:
        launched = workflows.launch_children(tx, [launch("first", "ship"), launch("second", "pay")])

    with database.read() as tx:
        records = tx.all(RECORDS)
    assert [one.recorded is not None for one in launched] == [True, False]
    assert [tuple(record) for record in records] == [("first", "shared")]
