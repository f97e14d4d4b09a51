"""Resuming: from the recorded steps, to the first deadlines, and only what has stopped."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowTimeout
from dbos.error import DBOSAwaitedWorkflowCancelledError, DBOSNonExistentWorkflowError
from tests.behaviour.application import Application
from tests.behaviour.flavours import Flavour
from tests.waiting.verbs import Verbs, paused, start, until, until_recorded


def test_interrupted_waits_go_on_to_their_first_deadlines(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def sleep() -> str:
        await verbs.sleep(3600)
        return "slept"

    @api.workflow()
    async def receive() -> Any:
        return await verbs.recv(None, 3600)

    @api.workflow()
    async def observe() -> Any:
        return await verbs.get_event("nobody", "key", 3600)

    runs = {"sleep": sleep, "receive": receive, "observe": observe}
    for name, body in runs.items():
        start(body, name)
    until_recorded(app, *runs)
    DBOS.cancel_workflows(list(runs))
    before = {name: app.records(name) for name in runs}
    app.change("UPDATE {operation_outputs} SET output = ?", str(time.time() - 1))

    handles = DBOS.resume_workflows(list(runs))

    assert [handle.get_result() for handle in handles] == ["slept", None, None]
    assert [name for rows in before.values() for _, name, *_ in rows] == ["DBOS.sleep"] * 3
    assert app.steps("receive") == [(1, "DBOS.recv"), (2, "DBOS.sleep")]


def test_an_unknown_id_changes_nothing_and_finished_and_running_runs_are_left_alone(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    gate, reached = threading.Event(), threading.Semaphore(0)

    @api.workflow()
    async def worker(is_slow: bool) -> str:
        if is_slow:
            reached.release()
            await paused(api, gate)
        return "ok"

    start(worker, "finished", False).get_result()
    start(worker, "running", True)
    assert reached.acquire(timeout=30)
    app.change(
        "INSERT INTO {workflow_status} (workflow_uuid, status, name)"
        " VALUES ('cancelled', 'CANCELLED', 'nothing')"
    )

    async def scenario() -> None:
        with pytest.raises(DBOSNonExistentWorkflowError, match="nobody"):
            await verbs.resume_workflow("nobody")
        with pytest.raises(DBOSNonExistentWorkflowError):
            await verbs.resume_workflows(["cancelled", "nobody"])
        assert app.column("cancelled", "status") == "CANCELLED"
        assert await verbs.resume_workflows([]) == []
        handles = await verbs.resume_workflows(["finished", "running", "cancelled"])
        assert [handle.workflow_id for handle in handles] == ["finished", "running", "cancelled"]
        assert await api.result(handles[0]) == "ok"

    api.run(scenario)
    owner = app.column("running", "incarnation_id")
    gate.set()

    assert DBOS.get_result("running") == "ok"
    assert owner == DBOS.incarnation_id
    assert app.column("running", "recovery_attempts") == 1
    assert app.column("cancelled", "status") == "ENQUEUED"
    assert app.column("cancelled", "queue_name") == "_dbos_internal_queue"
    assert app.column("cancelled", "completed_at") is None


def test_a_dead_lettered_run_is_resumed_with_a_fresh_budget_onto_the_given_queue(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    app.change(
        "INSERT INTO {workflow_status} (workflow_uuid, status, name, recovery_attempts,"
        " deduplication_id, workflow_deadline_epoch_ms, workflow_timeout_ms, completed_at)"
        " VALUES ('dead', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', 'nothing', 101, 'd', 5, 6, 7)"
    )

    async def scenario() -> None:
        await verbs.resume_workflow("dead", queue_name="later")

    api.run(scenario)

    columns = {
        "status": "ENQUEUED",
        "queue_name": "later",
        "recovery_attempts": 0,
        "deduplication_id": None,
        "workflow_deadline_epoch_ms": None,
        "workflow_timeout_ms": 6,
        "completed_at": None,
    }
    assert {column: app.column("dead", column) for column in columns} == columns


def test_a_resume_drops_the_deadline_and_a_stored_timeout_starts_anew(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def worker() -> Any:
        return await verbs.recv(None, 3600)

    with SetWorkflowTimeout(0.05):
        handle = start(worker, "worker")
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    first = app.column("worker", "workflow_deadline_epoch_ms")
    app.change("UPDATE {workflow_status} SET workflow_timeout_ms = 3600000")
    DBOS.send("worker", "go")

    assert DBOS.resume_workflow("worker").get_result() == "go"
    assert app.column("worker", "workflow_deadline_epoch_ms") > first + 3_000_000


def test_an_interrupted_asyncio_wait_records_no_split(app: Application) -> None:
    @DBOS.workflow(name="worker")
    async def worker() -> list[Any]:
        slow = DBOS.get_event_async("nobody", "key", 3600)
        fast = DBOS.recv_async(None, 3600)
        done, pending = await DBOS.asyncio_wait([slow, fast], return_when="FIRST_COMPLETED")
        for future in pending:
            future.cancel()
        return [future.result() for future in done]

    start(worker, "worker")
    until(lambda: len(app.steps("worker")) == 2)
    DBOS.cancel_workflow("worker")
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        DBOS.get_result("worker")
    time.sleep(0.1)  # Long enough for a wrong record to be written.
    assert len(app.steps("worker")) == 2
    handle = DBOS.resume_workflow("worker")
    DBOS.send("worker", "came")

    assert handle.get_result() == ["came"]
    assert (5, "DBOS.asyncio_wait") in app.steps("worker")
    assert asyncio.iscoroutinefunction(worker)
