"""Recovery: what a dead process left behind is finished, step by step as it was recorded."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from dbos.error import DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Flavour, registered


def test_a_killed_workflow_goes_on_after_its_last_recorded_step(
    app: Application, api: Flavour
) -> None:
    ran: list[str] = []
    is_first = app.once()

    @api.step()
    async def pack(box: str) -> str:
        ran.append("pack")
        return f"{box} packed"

    @api.step()
    async def ship(box: str) -> str:
        ran.append("ship")
        if is_first():
            app.cut_power()
        return f"{box} and shipped"

    @api.workflow()
    async def deliver(box: str) -> str:
        return str(await ship(await pack(box)))

    async def first_life() -> None:
        with SetWorkflowID("delivery"):
            await deliver("lamp")

    with pytest.raises(PowerCut):
        api.run(first_life)
    app.launch()

    assert DBOS.get_result("delivery") == "lamp packed and shipped"
    assert ran == ["pack", "ship", "ship"]
    assert app.steps("delivery") == [(1, "pack"), (2, "ship")]


def test_a_recovered_error_step_is_raised_and_not_run_again(app: Application, api: Flavour) -> None:
    ran: list[str] = []
    is_first = app.once()

    @api.step()
    async def charge() -> None:
        ran.append("charge")
        raise LookupError("no such card")

    @api.workflow()
    async def pay() -> str:
        try:
            await charge()
        except LookupError as error:
            if is_first():
                app.cut_power()
            return str(error)
        return "paid"

    async def first_life() -> None:
        with SetWorkflowID("payment"):
            await pay()

    with pytest.raises(PowerCut):
        api.run(first_life)
    app.launch()

    assert DBOS.get_result("payment") == "no such card"
    assert ran == ["charge"]


def test_an_orderly_shutdown_leaves_unfinished_work_to_the_next_launch(
    app: Application, api: Flavour
) -> None:
    is_first = app.once()

    @api.workflow()
    async def wait() -> str:
        if is_first():
            DBOS.destroy()
            raise PowerCut
        return "done"

    async def first_life() -> None:
        with SetWorkflowID("waiting"):
            await wait()

    with pytest.raises(PowerCut):
        api.run(first_life)
    app.launch()

    assert DBOS.get_result("waiting") == "done"


def test_each_recovery_counts_and_too_many_end_in_a_dead_letter(
    app: Application, api: Flavour, log: pytest.LogCaptureFixture
) -> None:
    lives = threading.Semaphore(0)

    @api.workflow(max_recovery_attempts=1)
    async def poison() -> None:
        lives.release()
        await api.sleep(3600)

    with SetWorkflowID("poisoned"):
        DBOS.start_workflow(registered(poison))
    assert lives.acquire(timeout=10)
    app.kill()
    app.launch()
    assert lives.acquire(timeout=10)
    app.kill()
    app.launch()

    with pytest.raises(DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded):
        DBOS.get_result("poisoned")
    assert not lives.acquire(blocking=False)
    assert app.column("poisoned", "status") == "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    assert app.column("poisoned", "completed_at") is not None
    assert app.column("poisoned", "queue_name") is None
    assert any("poisoned" in record.getMessage() for record in log.records)


def test_without_a_limit_a_workflow_is_recovered_again_and_again(
    app: Application, api: Flavour
) -> None:
    lives = threading.Semaphore(0)

    @api.workflow(max_recovery_attempts=None)
    async def tenacious() -> None:
        lives.release()
        await api.sleep(3600)

    with SetWorkflowID("tenacious"):
        DBOS.start_workflow(registered(tenacious))
    assert lives.acquire(timeout=10)
    app.change("UPDATE {workflow_status} SET recovery_attempts = 500")
    app.kill()
    app.launch()

    assert lives.acquire(timeout=10)


def test_calling_a_dead_lettered_id_again_only_awaits(app: Application, api: Flavour) -> None:
    ran: list[int] = []

    @api.workflow()
    async def count() -> None:
        ran.append(1)

    async def call() -> None:
        with SetWorkflowID("counted"):
            await count()

    api.run(call)
    app.change("UPDATE {workflow_status} SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'")

    with pytest.raises(DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded):
        api.run(call)
    assert ran == [1]


def test_recovery_restores_the_deadline_and_the_label(app: Application, api: Flavour) -> None:
    is_first = app.once()

    @api.workflow()
    async def wait() -> Any:
        if is_first():
            app.cut_power()
        return DBOS.workflow_id

    async def first_life() -> None:
        with SetWorkflowID("timed"):
            await wait()

    with pytest.raises(PowerCut):
        api.run(first_life)
    first_owner = app.column("timed", "incarnation_id")
    app.launch(executor_id="other-label")

    assert DBOS.get_result("timed") == "timed"
    assert app.column("timed", "executor_id") == "other-label"
    assert app.column("timed", "incarnation_id") == DBOS.incarnation_id != first_owner
    assert app.column("timed", "recovery_attempts") == 2


def test_a_run_of_another_version_and_source_is_left_alone(app: Application, api: Flavour) -> None:
    is_first = app.once()

    @api.workflow()
    async def stay() -> str:
        if is_first():
            app.cut_power()
        return "stayed"

    async def first_life() -> None:
        with SetWorkflowID("staying"):
            await stay()

    with pytest.raises(PowerCut):
        api.run(first_life)
    app.launch(application_version="v2", version_policy="exact")
    left = app.column("staying", "status")
    app.relaunch(application_version="v2", version_policy="compatible")

    assert left == "ENQUEUED"
    assert DBOS.get_result("staying") == "stayed"
    assert app.column("staying", "application_version") == "v2"


def test_a_run_of_a_single_step_recovers(app: Application, api: Flavour) -> None:
    is_first = app.once()

    @api.step()
    async def fetch(item: str) -> str:
        if is_first():
            app.cut_power()
        return f"{item} fetched"

    async def first_life() -> None:
        with SetWorkflowID("fetching"):
            handle = await api.start(fetch, "ball")
        await api.result(handle)

    with pytest.raises(BaseException):  # noqa: B017, PT011
        api.run(first_life)
    app.launch()

    assert DBOS.get_result("fetching") == "ball fetched"
    assert app.column("fetching", "name") == "<temp>.fetch"
