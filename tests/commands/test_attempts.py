"""Cancel and resume while an attempt is still at work, and deadlines that are out of date."""

from __future__ import annotations

import threading
from typing import Any

from dbos import DBOS, SetWorkflowTimeout
from tests.behaviour.application import Application
from tests.behaviour.flavours import Flavour
from tests.waiting.verbs import Verbs, paused, start, until, until_recorded


def test_a_cancel_here_stops_the_very_next_operation(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    gate, reached, left = threading.Event(), threading.Event(), threading.Event()
    ran: list[str] = []

    @api.step()
    async def step() -> None:
        ran.append("step")

    @api.workflow()
    async def worker() -> None:
        reached.set()
        await paused(api, gate)
        try:
            await step()
        finally:
            left.set()

    start(worker, "worker")
    assert reached.wait(30)

    async def scenario() -> None:
        await verbs.cancel_workflow("worker")
        gate.set()

    api.run(scenario)

    assert left.wait(30)
    assert ran == []


def test_a_resumed_run_waits_for_its_old_attempt_to_wind_down(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    gate, reached = threading.Event(), threading.Event()
    at_work: list[int] = []
    together: list[int] = []
    attempts: list[str] = []

    @api.workflow()
    async def worker() -> str:
        attempts.append("attempt")
        at_work.append(1)
        together.append(len(at_work))
        try:
            if len(attempts) == 1:
                reached.set()
                await paused(api, gate)
                await verbs.set_event("key", "old")
            return f"attempt {len(attempts)}"
        finally:
            at_work.pop()

    start(worker, "worker")
    assert reached.wait(30)

    async def scenario() -> None:
        await verbs.cancel_workflow("worker")
        await verbs.resume_workflow("worker")

    api.run(scenario)
    until(lambda: app.column("worker", "recovery_attempts") == 1)
    gate.set()

    assert DBOS.get_result("worker") == "attempt 2"
    assert together == [1, 1]
    assert app.steps("worker") == []


def test_a_cancel_and_resume_behind_our_back_end_the_old_attempt(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def worker() -> Any:
        return await verbs.recv("t", 3600)

    start(worker, "worker")
    until_recorded(app, "worker")
    app.change(
        "UPDATE {workflow_status} SET status = 'ENQUEUED', queue_name = '_dbos_internal_queue',"
        " recovery_attempts = 0"
    )
    until(lambda: app.column("worker", "status") == "PENDING")
    DBOS.send("worker", "came", "t")

    assert DBOS.get_result("worker") == "came"
    assert app.column("worker", "recovery_attempts") == 1


def test_a_deadline_that_a_resume_has_dropped_cancels_nobody(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    gate, reached = threading.Event(), threading.Semaphore(0)

    @api.workflow()
    async def worker() -> str:
        reached.release()
        await paused(api, gate)
        return "in peace"

    with SetWorkflowTimeout(0.3):
        start(worker, "worker")
    assert reached.acquire(timeout=30)
    # As a resume from elsewhere leaves it, while the attempt here still knows its deadline.
    app.change(
        "UPDATE {workflow_status} SET workflow_deadline_epoch_ms = NULL, workflow_timeout_ms = NULL"
    )
    other = start(worker, "other")
    with SetWorkflowTimeout(0.5):
        timed = start(worker, "timed")
    until(lambda: app.column("timed", "status") == "CANCELLED")
    gate.set()

    assert DBOS.get_result("worker") == "in peace"
    assert other.get_result() == "in peace"
    assert timed.workflow_id == "timed"
