"""Deleting: what goes with a workflow, and who hears of it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dbos import DBOS
from dbos.error import DBOSNonExistentWorkflowError
from tests.behaviour.application import Application
from tests.behaviour.flavours import Flavour
from tests.waiting.verbs import Verbs, paused, start, until, until_recorded, until_waited_for

TABLES = (
    "workflow_status",
    "operation_outputs",
    "workflow_events",
    "workflow_events_history",
    "streams",
    "notifications",
)


def test_everything_of_a_workflow_goes_and_its_id_starts_from_nothing(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def worker(value: int) -> Any:
        await verbs.set_event("key", value)
        await verbs.write_stream("stream", value)
        return [value, await verbs.recv("t", 30)]

    handle = start(worker, "worker", 1)
    DBOS.send("worker", "one", "t")
    DBOS.send("worker", "two", "t")
    handle.get_result()

    async def scenario() -> None:
        await verbs.delete_workflows(["worker", "nobody"])
        assert [app.count(table) for table in TABLES] == [0] * len(TABLES)
        assert await api.status_of("worker") is None

    api.run(scenario)
    again = start(worker, "worker", 2)
    DBOS.send("worker", "three", "t")

    assert again.get_result() == [2, "three"]


def test_a_running_workflow_stops_and_all_who_await_it_are_told(
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

    handle = start(worker, "worker")
    told: list[str] = []

    def wait(handle: Any) -> None:
        with pytest.raises(DBOSNonExistentWorkflowError, match="worker"):
            handle.get_result()
        told.append("told")

    waiters = [
        threading.Thread(target=wait, args=(which,))
        for which in (handle, DBOS.retrieve_workflow("worker"))
    ]
    for waiter in waiters:
        waiter.start()
    until_recorded(app, "worker")

    async def scenario() -> None:
        await verbs.delete_workflow("worker")

    api.run(scenario)

    for waiter in waiters:
        waiter.join(30)
    assert told == ["told"] * 2
    until(lambda: stopped == ["DBOSWorkflowConflictIDError"])
    assert app.count("workflow_status") == 0


def test_those_who_await_a_run_that_was_deleted_behind_our_back_are_told(
    app: Application, api: Flavour
) -> None:
    @api.workflow()
    async def worker() -> None: ...

    start(worker, "worker").get_result()
    app.change("UPDATE {workflow_status} SET status = 'ENQUEUED', queue_name = 'nobody'")
    told: list[str] = []

    def wait() -> None:
        with pytest.raises(DBOSNonExistentWorkflowError):
            DBOS.get_result("worker")
        told.append("told")

    waiter = threading.Thread(target=wait)
    waiter.start()
    until_waited_for("done", "worker")
    app.change("DELETE FROM {workflow_status}")

    waiter.join(30)
    assert told == ["told"]


def test_children_are_deleted_on_demand_only(app: Application, api: Flavour, verbs: Verbs) -> None:
    @api.workflow()
    async def grandchild() -> int:
        return 1

    @api.workflow()
    async def child() -> Any:
        return await api.result(await api.start(grandchild))

    @api.workflow()
    async def parent() -> Any:
        return await api.result(await api.start(child))

    for workflow_id in ("one", "two"):
        start(parent, workflow_id).get_result()

    async def scenario() -> None:
        await verbs.delete_workflow("one")
        await verbs.delete_workflow("two", delete_children=True)

    api.run(scenario)

    rows = app.rows("SELECT workflow_uuid FROM {workflow_status} ORDER BY workflow_uuid")
    assert rows == [("one-1",), ("one-1-1",)]


def test_a_workflow_that_deletes_records_it_and_one_that_deletes_itself_is_gone(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def deleter(target: str) -> str:
        await verbs.delete_workflow(target)
        await verbs.set_event("key", "after")
        return "done"

    assert start(deleter, "deleter", "nobody").get_result() == "done"
    handle = start(deleter, "suicide", "suicide")

    with pytest.raises(DBOSNonExistentWorkflowError):
        handle.get_result()
    assert app.steps("deleter") == [(1, "DBOS.deleteWorkflow"), (2, "DBOS.setEvent")]
    assert app.rows("SELECT workflow_uuid FROM {workflow_status}") == [("deleter",)]


def test_an_attempt_of_a_deleted_run_has_no_part_in_a_new_run_of_the_id(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    gate, reached, left = threading.Event(), threading.Event(), threading.Event()

    @api.workflow()
    async def worker(is_first: bool) -> str:
        if not is_first:
            return "new"
        reached.set()
        await paused(api, gate)
        try:
            await verbs.set_event("key", "old")
        finally:
            left.set()
        return "old"

    start(worker, "worker", True)
    assert reached.wait(30)
    DBOS.delete_workflow("worker")
    new = start(worker, "worker", False)
    result = new.get_result()
    gate.set()

    assert left.wait(30)
    assert result == "new"
    assert app.steps("worker") == []
    assert app.count("workflow_events") == 0
