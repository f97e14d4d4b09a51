"""Waiting for workflows: results by id, the first of several, and splits that are replayed."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from dbos import DBOS
from dbos.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded,
    DBOSInvalidInputError,
)
from tests.behaviour.application import Application
from tests.behaviour.flavours import Body, Flavour
from tests.waiting.verbs import Verbs, start, until, until_waited_for


@pytest.fixture
def echo(app: Application, api: Flavour, verbs: Verbs) -> Body:
    """Returns the first message it gets; a message `error` is raised."""

    @api.workflow()
    async def echo() -> Any:
        message = await verbs.recv(None, 3600)
        if message == "error":
            raise LookupError("no such thing")
        return message

    return echo


def test_a_result_by_id_is_waited_for_even_before_the_workflow_exists(
    app: Application, api: Flavour, verbs: Verbs, echo: Body
) -> None:
    results: list[Any] = []

    async def scenario() -> Any:
        return await verbs.get_result("later")

    def ask() -> None:
        results.append(api.run(scenario))

    asking = threading.Thread(target=ask)
    asking.start()
    until_waited_for("done", "later")
    start(echo, "later")
    DBOS.send("later", "here")
    asking.join(30)

    assert results == ["here"]


def test_how_a_workflow_ended_is_how_its_result_is_delivered(
    app: Application, api: Flavour, verbs: Verbs, echo: Body
) -> None:
    for name in ("failed", "cancelled"):
        start(echo, name)
    DBOS.send("failed", "error")
    DBOS.cancel_workflow("cancelled")
    app.change(
        "INSERT INTO {workflow_status} (workflow_uuid, status, name)"
        " VALUES ('dead', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', 'echo')"
    )
    endings: dict[str, type[Exception]] = {
        "failed": LookupError,
        "cancelled": DBOSAwaitedWorkflowCancelledError,
        "dead": DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded,
    }

    async def scenario() -> None:
        for name, ending in endings.items():
            with pytest.raises(ending):
                await verbs.get_result(name)
            with pytest.raises(ending):
                await api.result(await api.retrieve(name))

    api.run(scenario)


def test_the_first_to_end_wins_whatever_its_status_and_is_recorded(
    app: Application, api: Flavour, verbs: Verbs, echo: Body
) -> None:
    @api.workflow()
    async def judge() -> list[str]:
        racers = [await api.retrieve(name, existing_workflow=False) for name in ("a", "b", "c")]
        winners = []
        while racers:
            first = await verbs.wait_first(racers, polling_interval_sec=3600)
            racers.remove(first)
            winners.append(first.workflow_id)
        await verbs.recv(None, 3600)
        return winners

    for name in ("a", "b", "c"):
        start(echo, name)
    start(judge, "judge")
    until_waited_for("done", "b")
    DBOS.send("b", "error")
    until(lambda: len(app.steps("judge")) == 1)
    DBOS.cancel_workflow("c")
    until(lambda: len(app.steps("judge")) == 2)
    DBOS.send("a", 1)
    until(lambda: len(app.steps("judge")) == 4)
    app.kill()
    app.launch()
    DBOS.send("judge", "go")

    assert DBOS.get_result("judge") == ["b", "c", "a"]
    records = app.records("judge")
    assert [record[1] for record in records[:3]] == ["DBOS.waitFirst"] * 3
    assert ["b" in records[0][2], "c" in records[1][2], "a" in records[2][2]] == [True] * 3


def test_the_first_of_none_and_of_the_same_one_twice_is_refused(
    app: Application, api: Flavour, verbs: Verbs, echo: Body
) -> None:
    async def scenario() -> None:
        with pytest.raises(DBOSInvalidInputError, match="must not be empty"):
            await verbs.wait_first([])
        twice = [await api.retrieve("a", existing_workflow=False) for _ in range(2)]
        with pytest.raises(DBOSInvalidInputError, match="duplicate workflow IDs"):
            await verbs.wait_first(twice)
        with pytest.raises(DBOSInvalidInputError, match=r"at least 0\.001"):
            await verbs.wait_first(twice[:1], polling_interval_sec=0)
        for no_handles in (["a"], "a", None, [None], twice[0]):
            with pytest.raises(DBOSInvalidInputError, match="must be a list of workflow handles"):
                await verbs.wait_first(no_handles)

    api.run(scenario)


def test_the_handles_to_wait_for_may_come_from_anything_that_yields_them(
    app: Application, api: Flavour, verbs: Verbs, echo: Body
) -> None:
    async def scenario() -> Any:
        handles = [await api.retrieve(name) for name in "ab"]
        return [
            (await verbs.wait_first(made)).workflow_id
            for made in (tuple(handles), (handle for handle in handles))
        ]

    for name in "ab":
        start(echo, name)
    DBOS.send("b", "end")

    assert api.run(scenario) == ["b", "b"]


def test_giving_up_a_wait_leaves_the_workflow_alone(app: Application) -> None:
    @DBOS.workflow(name="echo")
    async def echo() -> Any:
        return await DBOS.recv_async(None, 3600)

    async def scenario() -> Any:
        handle = await DBOS.start_workflow_async(echo)
        for wait in (handle.get_result(), DBOS.get_result_async(handle.workflow_id)):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(wait, 0.05)
        await DBOS.send_async(handle.workflow_id, "unharmed")
        return await handle.get_result()

    assert asyncio.run(scenario()) == "unharmed"


def test_a_split_of_asyncio_wait_is_recorded_and_replayed(app: Application) -> None:
    @DBOS.workflow(name="splitter")
    async def splitter() -> list[Any]:
        first = DBOS.recv_async("a", 3600)
        second = DBOS.recv_async("b", 3600)
        tasks = [asyncio.ensure_future(first), asyncio.ensure_future(second)]
        done, pending = await DBOS.asyncio_wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        split = [[task in done for task in tasks], [task in pending for task in tasks]]
        none_done, _ = await DBOS.asyncio_wait(list(pending), timeout=0.01)
        split.append([bool(none_done)])
        await DBOS.recv_async("go", 3600)
        both, _ = await DBOS.asyncio_wait(tasks)
        return [*split, sorted(str(task.result()) for task in both)]

    start(splitter, "splitter")
    DBOS.send("splitter", "second", "b")
    until(lambda: len(app.steps("splitter")) == 6)
    app.kill()
    app.launch()
    DBOS.send("splitter", "first", "a")
    DBOS.send("splitter", "now", "go")

    assert DBOS.get_result("splitter") == [
        [False, True],
        [True, False],
        [False],
        ["first", "second"],
    ]
    names = dict(app.steps("splitter"))
    assert [names[number] for number in (5, 6, 9)] == ["DBOS.asyncio_wait"] * 3


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), "1"])
def test_in_a_workflow_the_limit_of_asyncio_wait_is_a_finite_number(
    app: Application, limit: Any
) -> None:
    @DBOS.workflow(name="waiter")
    async def waiter() -> None:
        done = asyncio.get_running_loop().create_future()
        await DBOS.asyncio_wait([done], timeout=limit)

    with pytest.raises(DBOSInvalidInputError, match="timeout must be"):
        start(waiter, "waiter").get_result()


def test_outside_a_workflow_asyncio_wait_is_that_of_asyncio(app: Application) -> None:
    async def scenario() -> Any:
        forever = asyncio.ensure_future(asyncio.sleep(3600))
        quick = asyncio.ensure_future(asyncio.sleep(0, "quick"))
        done, pending = await DBOS.asyncio_wait([forever, quick], return_when="FIRST_COMPLETED")
        forever.cancel()
        return done == {quick}, pending == {forever}

    assert asyncio.run(scenario()) == (True, True)
    assert app.count("operation_outputs") == 0
