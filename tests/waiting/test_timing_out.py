"""Workflow timeouts: who is cancelled at the deadline, and who is not."""

from __future__ import annotations

import threading

import pytest

from dbos import DBOS, SetWorkflowID, SetWorkflowTimeout
from dbos.error import DBOSAwaitedWorkflowCancelledError
from tests.behaviour.application import Application
from tests.behaviour.flavours import Body, Flavour
from tests.waiting.verbs import Verbs, start, until


@pytest.fixture
def sleeper(app: Application, api: Flavour, verbs: Verbs) -> Body:
    @api.workflow()
    async def sleeper() -> str:
        await verbs.sleep(3600)
        return "awake"

    return sleeper


def test_a_direct_and_a_started_run_are_cancelled_at_their_deadline(
    app: Application, api: Flavour, sleeper: Body
) -> None:
    async def scenario() -> None:
        with SetWorkflowTimeout(0.1):
            with SetWorkflowID("started"):
                handle = await api.start(sleeper)
            with pytest.raises(DBOSAwaitedWorkflowCancelledError), SetWorkflowID("direct"):
                await sleeper()
        with pytest.raises(DBOSAwaitedWorkflowCancelledError):
            await api.result(handle)

    api.run(scenario)

    for run in ("started", "direct"):
        assert app.column(run, "status") == "CANCELLED"
        late_ms = app.column(run, "completed_at") - app.column(run, "workflow_deadline_epoch_ms")
        assert 0 <= late_ms < 5_000


def test_the_deadline_reaches_the_whole_tree_but_nobody_who_is_detached(
    app: Application, api: Flavour, verbs: Verbs, sleeper: Body
) -> None:
    @api.workflow()
    async def parent() -> None:
        await api.start(sleeper)
        with SetWorkflowTimeout(None):
            await api.start(sleeper)
        with SetWorkflowTimeout(3600):
            await api.start(sleeper)
        await verbs.sleep(3600)

    with SetWorkflowTimeout(0.3):
        start(parent, "parent")

    for run in ("parent", "parent-1"):
        with pytest.raises(DBOSAwaitedWorkflowCancelledError):
            DBOS.get_result(run)
    assert app.column("parent-2", "status") == app.column("parent-3", "status") == "PENDING"


def test_a_block_that_is_entered_within_itself_ends_with_its_outer_end(
    app: Application, api: Flavour
) -> None:
    @api.workflow()
    async def idle() -> None: ...

    async def scenario() -> None:
        hour = SetWorkflowTimeout(3600)
        with hour:
            with hour:
                pass
            with SetWorkflowID("inside"):
                await idle()
        with SetWorkflowID("outside"):
            await idle()

    api.run(scenario)

    assert app.column("inside", "workflow_timeout_ms") == 3_600_000
    assert app.column("outside", "workflow_timeout_ms") is None


def test_threads_that_share_a_block_keep_what_is_around_it_apart(app: Application) -> None:
    shared, both_inside = SetWorkflowTimeout(3600), threading.Barrier(2)
    seen: list[str | None] = []

    @DBOS.workflow(name="inner")
    def inner() -> None:
        with shared:
            both_inside.wait(30)
            both_inside.wait(30)

    with SetWorkflowID("running"):
        running = DBOS.start_workflow(inner)
    with shared:
        both_inside.wait(30)
    seen.append(DBOS.workflow_id)
    both_inside.wait(30)
    running.get_result()

    assert seen == [None]


def test_a_deadline_that_passed_while_nobody_ran_cancels_before_any_code_runs(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    lives: list[int] = []

    @api.workflow()
    async def worker() -> None:
        lives.append(1)
        await verbs.sleep(3600)

    with SetWorkflowTimeout(3600):
        start(worker, "worker")
    until(lambda: app.steps("worker"))
    app.kill()
    app.change("UPDATE {workflow_status} SET workflow_deadline_epoch_ms = 1000")
    app.launch()

    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        DBOS.get_result("worker")
    assert lives == [1]


def test_a_deadline_is_kept_for_a_run_that_nobody_here_can_run(app: Application) -> None:
    app.change(
        "INSERT INTO {workflow_status} (workflow_uuid, status, name, queue_name,"
        " application_name, workflow_deadline_epoch_ms)"
        " VALUES ('queued', 'ENQUEUED', 'x', 'q', 'shop', 1000),"
        " ('foreign', 'ENQUEUED', 'x', 'q', 'another', 1000)"
    )

    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        DBOS.get_result("queued")
    assert app.column("foreign", "status") == "ENQUEUED"
