"""Delays, attributes, retention and the global timeout."""

from __future__ import annotations

from typing import Any

import pytest

from dbos import DBOS
from dbos.error import DBOSInvalidInputError
from tests.behaviour.application import Application
from tests.behaviour.flavours import Flavour
from tests.waiting.verbs import Verbs, start, until, until_recorded


def insert(app: Application, workflow_id: str, status: str, **columns: Any) -> None:
    """A run as another program leaves it."""
    names = ["workflow_uuid", "status", "name", "application_name", *columns]
    marks = ", ".join("?" * len(names))
    values = (workflow_id, status, "nothing", "shop", *columns.values())
    app.change(f"INSERT INTO {{workflow_status}} ({', '.join(names)}) VALUES ({marks})", *values)


def ids(app: Application) -> list[str]:
    rows = app.rows("SELECT workflow_uuid FROM {workflow_status} ORDER BY workflow_uuid")
    return [row[0] for row in rows]


def test_a_delay_is_moved_for_delayed_workflows_only(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    for workflow_id, status in (("delayed", "DELAYED"), ("other", "DELAYED"), ("done", "SUCCESS")):
        insert(app, workflow_id, status, delay_until_epoch_ms=4_000_000_000_000)

    async def scenario() -> None:
        await verbs.set_workflow_delay("delayed", delay_until_epoch_ms=5_000_000_000_000)
        await verbs.set_workflow_delay("other", delay_seconds=10**8)
        await verbs.set_workflow_delay("done", delay_seconds=0)
        await verbs.set_workflow_delay("nobody", delay_seconds=0)
        for options, text in (
            ({}, "Must specify either"),
            ({"delay_seconds": 1, "delay_until_epoch_ms": 1}, "not both"),
            ({"delay_seconds": -1}, ">= 0"),
            ({"delay_until_epoch_ms": -1}, ">= 0"),
        ):
            with pytest.raises(DBOSInvalidInputError, match=text):
                await verbs.set_workflow_delay("delayed", **options)

    api.run(scenario)

    assert app.column("delayed", "delay_until_epoch_ms") == 5_000_000_000_000
    moved = app.column("other", "delay_until_epoch_ms")
    # The delay is counted by our idea of the database's clock, which is a millisecond or two off.
    assert abs(app.column("other", "updated_at") - (moved - 10**11)) < 60_000
    assert app.column("done", "delay_until_epoch_ms") == 4_000_000_000_000


def test_attributes_are_replaced_merged_or_cleared(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    insert(app, "run", "SUCCESS")

    async def attributes() -> Any:
        return (await api.status_of("run")).attributes

    async def scenario() -> list[Any]:
        seen: list[Any] = []
        for change, merge in (
            ({"a": 1, "b": {"c": 1}}, False),
            ({"b": {"d": 2}, "e": None}, True),
            (None, True),
            ({"f": 3}, False),
            (None, False),
            (None, True),
            ({"g": 4}, True),
        ):
            await verbs.update_workflow_attributes("run", change, merge=merge)
            seen.append(await attributes())
        await verbs.update_workflow_attributes("nobody", {"a": 1})
        for bad, text in (([1], "must be a dict"), ({"a": object()}, "must be JSON-serializable")):
            with pytest.raises(DBOSInvalidInputError, match=text):
                await verbs.update_workflow_attributes("run", bad)
        return seen

    assert api.run(scenario) == [
        {"a": 1, "b": {"c": 1}},
        {"a": 1, "b": {"d": 2}, "e": None},
        {"a": 1, "b": {"d": 2}, "e": None},
        {"f": 3},
        None,
        None,
        {"g": 4},
    ]


def test_switches_are_true_or_false_and_no_text_that_looks_like_it(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    insert(app, "run", "ENQUEUED", queue_name="nobody", attributes='{"a": 1}')
    insert(app, "child", "ENQUEUED", queue_name="nobody", parent_workflow_id="run")

    async def scenario() -> None:
        for bad in ("false", None, 0):
            with pytest.raises(DBOSInvalidInputError, match="cancel_children"):
                await verbs.cancel_workflow("run", cancel_children=bad)
            with pytest.raises(DBOSInvalidInputError, match="delete_children"):
                await verbs.delete_workflows(["run"], delete_children=bad)
            with pytest.raises(DBOSInvalidInputError, match="merge"):
                await verbs.update_workflow_attributes("run", {"b": 1}, merge=bad)

    api.run(scenario)

    assert ids(app) == ["child", "run"]
    assert [app.column(workflow_id, "status") for workflow_id in ids(app)] == ["ENQUEUED"] * 2
    assert DBOS.list_workflows(workflow_id="run")[0].attributes == {"a": 1}


def test_a_workflow_records_what_it_steers(app: Application, api: Flavour, verbs: Verbs) -> None:
    @api.workflow()
    async def steering() -> None:
        await verbs.set_workflow_delay("nobody", delay_seconds=1)
        await verbs.update_workflow_attributes("nobody", None)
        await verbs.cancel_workflows([])
        await verbs.garbage_collect(1)
        await verbs.global_timeout(1)
        await verbs.resume_workflows([])

    start(steering, "steering").get_result()

    assert app.steps("steering") == [
        (1, "DBOS.setWorkflowDelay"),
        (2, "DBOS.updateWorkflowAttributes"),
        (3, "DBOS.cancelWorkflow"),
        (4, "DBOS.resumeWorkflow"),
    ]


def test_garbage_goes_by_completion_time_and_families_with_unfinished_members_stay(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    for number, status in enumerate(("SUCCESS", "ERROR", "CANCELLED", "SUCCESS"), 1):
        insert(app, f"old-{number}", status, completed_at=number, created_at=100 - number)
    insert(app, "grandparent", "SUCCESS", completed_at=1)
    insert(app, "parent", "SUCCESS", completed_at=1, parent_workflow_id="grandparent")
    insert(app, "active", "ENQUEUED", queue_name="nobody", parent_workflow_id="parent")
    insert(app, "child", "SUCCESS", completed_at=1, parent_workflow_id="active")
    insert(app, "foreign", "SUCCESS", completed_at=1)
    app.change(
        "UPDATE {workflow_status} SET application_name = 'other' WHERE workflow_uuid = 'foreign'"
    )
    family = ["active", "child", "foreign", "grandparent"]

    async def scenario() -> list[Any]:
        return [
            await verbs.garbage_collect(),
            await verbs.garbage_collect(3, batch_size=1),
            ids(app),
            await verbs.garbage_collect(rows_threshold=1, batch_size=None),
            ids(app),
        ]

    deleted = api.run(scenario)

    assert deleted[:2] == [0, 2]
    assert deleted[2] == [*family, "old-3", "old-4", "parent"]
    assert deleted[3:] == [1, [*family, "old-4", "parent"]]
    for options in ({"batch_size": 0}, {"rows_threshold": -1}, {"cutoff_epoch_timestamp_ms": -1}):
        with pytest.raises(DBOSInvalidInputError):
            DBOS.garbage_collect(**options)


def test_the_global_timeout_cancels_active_workflows_by_their_age(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    stopped: list[str] = []

    @api.workflow()
    async def worker() -> None:
        try:
            await verbs.recv("t", 3600)
        except BaseException as error:
            stopped.append(type(error).__name__)
            raise

    start(worker, "running")
    until_recorded(app, "running")
    for workflow_id, created_at in (("old", 10), ("edge", 20), ("young", 30)):
        insert(app, workflow_id, "ENQUEUED", queue_name="nobody", created_at=created_at)
    insert(app, "done", "SUCCESS", created_at=1)

    async def scenario() -> list[int]:
        return [await verbs.global_timeout(20), await verbs.global_timeout(4_000_000_000_000)]

    assert api.run(scenario) == [2, 2]
    with pytest.raises(Exception, match="was cancelled"):
        DBOS.get_result("running")
    until(lambda: stopped == ["DBOSWorkflowCancelledError"])
    assert app.column("done", "status") == "SUCCESS"
