"""Sleeping: the wake time is stored first, and only the rest is slept after a restart."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dbos import DBOS
from dbos.error import DBOSUsageError
from tests.behaviour.application import Application
from tests.behaviour.flavours import Flavour
from tests.waiting.verbs import Verbs, start, until


def test_a_sleep_lasts_its_time_and_is_recorded_as_its_wake_time(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def sleeper() -> float:
        before = time.monotonic()
        await verbs.sleep(0)
        await verbs.sleep(-5)
        await verbs.sleep(0.2)
        return time.monotonic() - before

    assert start(sleeper, "sleeper").get_result() > 0.19

    [(number, name, output, error, child)] = app.records("sleeper")
    assert (number, name, error, child) == (1, "DBOS.sleep", None, None)
    [(started, completed)] = app.rows(
        "SELECT started_at_epoch_ms, completed_at_epoch_ms FROM {operation_outputs}"
    )
    assert completed == round(float(output) * 1000)
    assert completed - started == 200


def test_after_a_crash_only_the_rest_is_slept(app: Application, api: Flavour, verbs: Verbs) -> None:
    @api.workflow()
    async def sleeper() -> str:
        await verbs.sleep(3600)
        return "awake"

    start(sleeper, "sleeper")
    until(lambda: app.steps("sleeper"))
    app.kill()
    wake_at = str(time.time() + 0.3)
    app.change("UPDATE {operation_outputs} SET output = ?", wake_at)
    app.launch()

    assert DBOS.get_result("sleeper") == "awake"
    assert time.time() > float(wake_at) - 0.1
    assert app.records("sleeper")[0][2] == wake_at


def test_sleeping_belongs_to_workflow_code(app: Application, api: Flavour, verbs: Verbs) -> None:
    refusal = r"sleep\(\) must be called from within a workflow"

    @api.step()
    async def step(seconds: float) -> None:
        with pytest.raises(DBOSUsageError, match=refusal):
            await verbs.sleep(seconds)

    @api.workflow()
    async def workflow() -> None:
        await step(1)
        await step(0)

    async def scenario() -> None:
        for seconds in (1, 0, -1):
            with pytest.raises(DBOSUsageError, match=refusal):
                await verbs.sleep(seconds)
        await workflow()

    api.run(scenario)


def test_many_sleepers_hold_no_threads_when_they_are_async(app: Application) -> None:
    import threading

    @DBOS.workflow(name="sleeper")
    async def sleeper(number: int) -> Any:
        return await DBOS.recv_async(None, 3600)

    before = threading.active_count()
    for number in range(50):
        start(sleeper, f"sleeper{number}", number)
    until(lambda: app.count("operation_outputs") == 50)

    assert threading.active_count() < before + 25
