"""Handles: results, statuses, waiting, and what does not disturb a run."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID, WorkflowStatus
from dbos.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSInvalidInputError,
    DBOSNonExistentWorkflowError,
    DBOSSerializationError,
)
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Body, Flavour


@pytest.fixture
def double(app: Application, api: Flavour) -> Body:
    @api.workflow()
    async def double(number: int) -> int:
        return 2 * number

    return double


def test_a_handle_names_its_run(api: Flavour, double: Body) -> None:
    async def scenario() -> Any:
        with SetWorkflowID("named"):
            handle = await api.start(double, 1)
        await api.result(handle)
        return handle

    handle = api.run(scenario)

    assert handle.workflow_id == handle.get_workflow_id() == "named"


def test_a_result_can_be_asked_for_again(api: Flavour, double: Body) -> None:
    async def scenario() -> list[Any]:
        handle = await api.start(double, 4)
        by_id = await api.result_of(handle.workflow_id)
        retrieved = await api.retrieve(handle.workflow_id)
        return [
            by_id,
            await api.result(handle),
            await api.result(handle),
            await api.result(retrieved),
        ]

    assert api.run(scenario) == [8, 8, 8, 8]


def test_a_status_tells_the_whole_story_of_a_run(
    app: Application, api: Flavour, double: Body
) -> None:
    async def scenario() -> WorkflowStatus:
        with SetWorkflowID("told"):
            handle = await api.start(double, number=21)
        await api.result(handle)
        status: WorkflowStatus = await api.status(handle)
        return status

    status = api.run(scenario)

    assert status.workflow_id == "told"
    assert status.status == "SUCCESS"
    assert status.name == "double"
    assert status.input == {"args": (), "kwargs": {"number": 21}}
    assert status.output == 42
    assert status.error is None
    assert status.class_name is None
    assert status.config_name is None
    assert status.queue_name is None
    assert status.executor_id == "local"
    assert status.incarnation_id == DBOS.incarnation_id
    assert status.app_version == "v1"
    assert status.application_name == "shop"
    assert status.recovery_attempts == 1
    assert status.was_forked_from is False
    assert status.payload_errors is None
    assert status.created_at <= status.completed_at
    assert "workflow_id" in vars(status)


def test_a_status_shows_the_error_of_a_run_that_failed(app: Application, api: Flavour) -> None:
    @api.workflow()
    async def fail() -> None:
        raise LookupError("no")

    async def scenario() -> Any:
        handle = await api.start(fail)
        with pytest.raises(LookupError):
            await api.result(handle)
        return await api.status_of(handle.workflow_id)

    status = api.run(scenario)

    assert status.status == "ERROR"
    assert isinstance(status.error, LookupError)
    assert status.output is None


def test_the_status_of_an_unknown_run_is_none_or_an_error_of_its_handle(
    app: Application, api: Flavour
) -> None:
    async def scenario() -> Any:
        assert await api.status_of("nowhere") is None
        handle = await api.retrieve("nowhere", existing_workflow=False)
        await api.status(handle)

    with pytest.raises(DBOSNonExistentWorkflowError, match="nowhere"):
        api.run(scenario)


def test_no_handle_is_made_for_what_can_be_no_id(app: Application, api: Flavour) -> None:
    unusable: list[Any] = [None, "", 3, "a\0"]

    async def scenario() -> None:
        for bad in unusable:
            with pytest.raises(DBOSInvalidInputError, match="workflow"):
                await api.retrieve(bad, existing_workflow=False)

    api.run(scenario)


def test_a_cancelled_run_is_reported_to_whoever_awaits_it(
    app: Application, api: Flavour, double: Body
) -> None:
    async def scenario() -> None:
        with SetWorkflowID("stopped"):
            await double(1)
        app.change("UPDATE {workflow_status} SET status = 'CANCELLED'")
        await api.result_of("stopped")

    with pytest.raises(DBOSAwaitedWorkflowCancelledError, match="was cancelled"):
        api.run(scenario)


def test_a_handle_reports_the_recorded_outcome_after_a_cancel_was_resumed(
    app: Application, api: Flavour, double: Body
) -> None:
    async def scenario() -> Any:
        with SetWorkflowID("resumed"):
            await double(1)
        handle = await api.retrieve("resumed")
        app.change("UPDATE {workflow_status} SET status = 'CANCELLED'")
        with pytest.raises(DBOSAwaitedWorkflowCancelledError):
            await api.result(handle)
        app.change("UPDATE {workflow_status} SET status = 'SUCCESS'")
        return await api.result(handle)

    assert api.run(scenario) == 2


def test_an_id_without_a_run_is_waited_for(app: Application) -> None:
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(DBOS.get_result("awaited")))

    @DBOS.workflow()
    def appear() -> int:
        return 5

    waiting.start()
    with SetWorkflowID("awaited"):
        appear()
    waiting.join(10)

    assert answers == [5]


def test_a_run_deleted_while_it_is_awaited_is_an_error(app: Application, api: Flavour) -> None:
    begun, go = threading.Event(), threading.Event()
    app.change(
        "INSERT INTO {workflow_status} (workflow_uuid, status, name)"
        " VALUES ('gone', 'ENQUEUED', 'x')"
    )
    errors: list[BaseException] = []

    async def wait() -> None:
        handle = await api.retrieve("gone")
        begun.set()
        await handle_result(handle)

    async def handle_result(handle: Any) -> None:
        if api.is_async:
            await handle.get_result(polling_interval_sec=0.05)
        else:
            handle.get_result(polling_interval_sec=0.05)

    def run() -> None:
        try:
            api.run(wait)
        except DBOSNonExistentWorkflowError as error:
            errors.append(error)
        go.set()

    threading.Thread(target=run, daemon=True).start()
    assert begun.wait(10)
    assert not go.wait(0.3)
    app.change("DELETE FROM {workflow_status}")

    assert go.wait(10)
    assert "gone" in str(errors[0])


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf"), "1"])
def test_a_polling_interval_must_be_a_positive_number(
    app: Application, api: Flavour, double: Body, interval: Any
) -> None:
    async def scenario() -> None:
        handle = await api.start(double, 1)
        await api.result(handle)
        outcome = handle.get_result(polling_interval_sec=interval)
        if api.is_async:
            await outcome

    with pytest.raises(DBOSInvalidInputError, match="polling_interval_sec"):
        api.run(scenario)


def test_cancelling_a_task_that_awaits_a_result_leaves_the_run_alone(app: Application) -> None:
    go = threading.Event()

    @DBOS.workflow()
    def slow() -> str:
        go.wait(10)
        return "done"

    async def scenario() -> str:
        handle = DBOS.start_workflow(slow)
        waiting = asyncio.create_task(DBOS.get_result_async(handle.workflow_id))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go.set()
        return str(await DBOS.get_result_async(handle.workflow_id))

    assert asyncio.run(scenario()) == "done"


def test_a_dropped_handle_loses_nothing_and_makes_no_noise(app: Application) -> None:
    complaints: list[dict[str, Any]] = []

    @DBOS.workflow()
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("dropped")

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
        with SetWorkflowID("dropped"):
            await DBOS.start_workflow_async(fail)
        gc.collect()
        with pytest.raises(LookupError):
            await DBOS.get_result_async("dropped")
        gc.collect()

    asyncio.run(scenario())

    assert complaints == []
    assert app.column("dropped", "status") == "ERROR"


def test_a_handle_cannot_be_stored_and_the_error_says_what_to_pass(
    app: Application, api: Flavour, double: Body
) -> None:
    @api.workflow()
    async def returns_a_handle() -> Any:
        return await api.start(double, 1)

    async def scenario() -> None:
        await returns_a_handle()

    with pytest.raises(DBOSSerializationError, match="workflow_id"):
        api.run(scenario)


def test_in_a_workflow_results_and_statuses_are_recorded_and_replayed(
    app: Application, api: Flavour, double: Body
) -> None:
    seen: list[Any] = []
    is_first = app.once()

    @api.workflow()
    async def parent() -> list[Any]:
        handle = await api.start(double, 3)
        result = await api.result(handle)
        status = await api.status(handle)
        seen.append([result, status.status, status.output])
        if is_first():
            app.cut_power()
        return [result, status.status, status.output]

    async def first_life() -> None:
        with SetWorkflowID("parent"):
            await parent()

    with pytest.raises(PowerCut):
        api.run(first_life)
    app.change("DELETE FROM {workflow_status} WHERE workflow_uuid = 'parent-1'")
    app.launch()

    assert DBOS.get_result("parent") == [6, "SUCCESS", 6]
    assert seen == [[6, "SUCCESS", 6]] * 2
