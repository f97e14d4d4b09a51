"""Step numbering: how many ids each call takes, and under which name it is recorded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from dbos.error import DBOSNonExistentWorkflowError, DBOSUnexpectedStepError
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Body, Flavour


async def called(workflow: Body, *args: Any) -> Any:
    with SetWorkflowID("run"):
        return await workflow(*args)


@pytest.fixture
def child(app: Application, api: Flavour) -> Body:
    @api.workflow()
    async def child(fails: bool = False) -> str | None:
        if fails:
            raise LookupError("child failed")
        return DBOS.workflow_id

    return child


def test_a_direct_child_takes_two_ids(app: Application, api: Flavour, child: Body) -> None:
    @api.workflow()
    async def run() -> Any:
        return await child()

    api.run(called, run)

    assert app.records("run") == [
        (1, "child", None, None, "run-1"),
        (2, "DBOS.getResult", '"run-1"', None, "run-1"),
    ]


def test_the_error_of_a_direct_child_is_recorded_under_its_second_id(
    app: Application, api: Flavour, child: Body
) -> None:
    @api.workflow()
    async def run() -> str:
        try:
            await child(True)
        except LookupError as error:
            return str(error)
        return ""

    assert api.run(called, run) == "child failed"
    assert [(row[0], row[1], row[3] is not None) for row in app.records("run")] == [
        (1, "child", False),
        (2, "DBOS.getResult", True),
    ]


def test_a_start_takes_one_id_and_its_result_another(
    app: Application, api: Flavour, child: Body
) -> None:
    @api.workflow()
    async def run() -> Any:
        handle = await api.start(child)
        return [await api.result(handle), await api.result_of(handle.workflow_id)]

    api.run(called, run)

    assert app.records("run") == [
        (1, "child", None, None, "run-1"),
        (2, "DBOS.getResult", '"run-1"', None, "run-1"),
        (3, "DBOS.getResult", '"run-1"', None, None),
    ]


def test_statuses_take_one_id_each(app: Application, api: Flavour, child: Body) -> None:
    @api.workflow()
    async def run() -> Any:
        handle = await api.start(child)
        await api.result(handle)
        await api.status(handle)
        await api.status_of(handle.workflow_id)
        await api.status_of("nowhere")
        await api.retrieve(handle.workflow_id)

    api.run(called, run)

    assert app.steps("run")[2:] == [(number, "DBOS.getStatus") for number in (3, 4, 5, 6)]


def test_unchecked_retrieval_and_ids_take_none(app: Application, api: Flavour, child: Body) -> None:
    @api.workflow()
    async def run() -> Any:
        handle = await api.retrieve("anything", existing_workflow=False)
        handle.get_workflow_id()
        return DBOS.workflow_id, await child()

    api.run(called, run)

    assert app.steps("run") == [(1, "child"), (2, "DBOS.getResult")]


def test_sleep_takes_one_id_and_records_its_wake_time(app: Application, api: Flavour) -> None:
    @api.workflow()
    async def run() -> None:
        await api.sleep(0.05)

    api.run(called, run)

    [(started, completed, output)] = app.rows(
        "SELECT started_at_epoch_ms, completed_at_epoch_ms, output FROM {operation_outputs}"
    )
    assert app.steps("run") == [(1, "DBOS.sleep")]
    assert completed - started == 50
    assert round(float(output) * 1000) == completed


@pytest.mark.parametrize("seconds", [0, -1, -0.5])
def test_a_sleep_that_does_not_sleep_takes_no_id(
    app: Application, api: Flavour, seconds: float
) -> None:
    @api.workflow()
    async def run() -> None:
        await api.sleep(seconds)

    api.run(called, run)

    assert app.steps("run") == []


def test_an_operation_that_fails_takes_its_id_but_is_not_recorded(
    app: Application, api: Flavour, child: Body
) -> None:
    @api.workflow()
    async def run() -> None:
        with pytest.raises(DBOSNonExistentWorkflowError):
            await api.retrieve("nowhere")
        await child()

    api.run(called, run)

    assert app.steps("run") == [(2, "child"), (3, "DBOS.getResult")]


def test_calls_inside_a_step_take_no_ids(app: Application, api: Flavour) -> None:
    @api.step()
    async def look() -> Any:
        return await api.status_of("nowhere")

    @api.step()
    async def after() -> None:
        return None

    @api.workflow()
    async def run() -> None:
        await look()
        await after()

    api.run(called, run)

    assert app.steps("run") == [(1, "look"), (2, "after")]


def test_async_operations_take_their_ids_when_their_coroutines_are_created(
    app: Application,
) -> None:
    @DBOS.step(name="note")
    async def note(word: str) -> str:
        return word

    @DBOS.workflow()
    async def run() -> list[str]:
        first, second, third = note("a"), note("b"), note("c")
        return [await third, await second, await first]

    async def scenario() -> Any:
        with SetWorkflowID("run"):
            return await run()

    assert asyncio.run(scenario()) == ["c", "b", "a"]
    assert [row[2] for row in app.records("run")] == ['"a"', '"b"', '"c"']


def test_a_coroutine_that_is_never_awaited_keeps_its_empty_id(app: Application) -> None:
    @DBOS.step(name="note")
    async def note(word: str) -> str:
        return word

    @DBOS.workflow()
    async def run() -> str:
        note("dropped").close()
        return await note("kept")

    async def scenario() -> Any:
        with SetWorkflowID("run"):
            return await run()

    assert asyncio.run(scenario()) == "kept"
    assert app.steps("run") == [(2, "note")]


def test_a_replay_that_calls_something_else_ends_with_a_clear_error(
    app: Application, api: Flavour
) -> None:
    is_first = app.once()

    @api.step()
    async def one() -> None:
        return None

    @api.step()
    async def other() -> None:
        return None

    @api.workflow()
    async def fickle() -> None:
        if is_first():
            await one()
            app.cut_power()
        await other()

    with pytest.raises(PowerCut):
        api.run(called, fickle)
    app.launch()

    with pytest.raises(
        DBOSUnexpectedStepError, match="Check that your workflow is deter"
    ) as caught:
        DBOS.get_result("run")
    error = caught.value
    assert (error.workflow_id, error.step_id) == ("run", 1)
    assert (error.expected_name, error.recorded_name) == ("other", "one")
    for word in ("one", "other", "patch", "fork", "version"):
        assert word in str(error)
    assert app.column("run", "status") == "ERROR"


def test_a_sleep_is_durable_and_a_recovered_workflow_sleeps_only_the_rest(
    app: Application, api: Flavour
) -> None:
    is_first = app.once()

    @api.step()
    async def go_on() -> None:
        if is_first():
            app.cut_power()

    @api.workflow()
    async def nap() -> str:
        await api.sleep(0.2)
        await go_on()
        await api.sleep(0.01)
        return "rested"

    with pytest.raises(PowerCut):
        api.run(called, nap)
    first = app.records("run")
    app.launch()

    assert DBOS.get_result("run") == "rested"
    assert app.records("run")[0] == first[0]
    assert app.steps("run") == [(1, "DBOS.sleep"), (2, "go_on"), (3, "DBOS.sleep")]
