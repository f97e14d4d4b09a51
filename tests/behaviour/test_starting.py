"""Ids and starts: which id a run gets, and what the same id means the second time."""

from __future__ import annotations

import logging
import threading
import uuid
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowAttributes, SetWorkflowID, SetWorkflowTimeout
from dbos.error import (
    DBOSConflictingWorkflowError,
    DBOSNonExistentWorkflowError,
    DBOSSerializationError,
    DBOSWorkflowFunctionNotFoundError,
    DBOSWorkflowIDInUseError,
)
from tests.behaviour.application import Application
from tests.behaviour.flavours import Body, Flavour, registered


@pytest.fixture
def echo(app: Application, api: Flavour) -> Body:
    """A workflow that returns its own id."""

    @api.workflow()
    async def echo(*_: object) -> str | None:
        return DBOS.workflow_id

    return echo


def test_without_an_id_each_run_gets_a_fresh_uuid(api: Flavour, echo: Body) -> None:
    async def scenario() -> tuple[str, str]:
        return await echo(), await echo()

    first, second = api.run(scenario)

    assert str(uuid.UUID(first)) == first
    assert first != second


def test_the_first_workflow_of_a_block_gets_its_id_and_later_ones_fresh_ids(
    api: Flavour, echo: Body, log: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> tuple[str, str]:
        with SetWorkflowID("wanted"):
            return await echo(), await echo()

    first, second = api.run(scenario)

    assert first == "wanted"
    assert str(uuid.UUID(second)) == second
    assert [r.levelname for r in log.records if "SetWorkflowID" in r.getMessage()] == ["WARNING"]


def test_an_id_that_was_not_used_ends_with_its_block(api: Flavour, echo: Body) -> None:
    async def scenario() -> str:
        with SetWorkflowID("unused"):
            pass
        return str(await echo())

    assert api.run(scenario) != "unused"


def test_nested_blocks_restore_the_outer_id(api: Flavour, echo: Body) -> None:
    async def scenario() -> tuple[str, str]:
        with SetWorkflowID("outer"):
            with SetWorkflowID("inner"):
                inner = await echo()
            return inner, await echo()

    assert api.run(scenario) == ("inner", "outer")


def test_a_block_does_not_swallow_exceptions(app: Application) -> None:
    with pytest.raises(KeyError), SetWorkflowID("id"), SetWorkflowTimeout(5):
        raise KeyError


def test_children_derive_their_ids_from_the_step_that_launched_them(
    app: Application, api: Flavour, echo: Body
) -> None:
    @api.workflow()
    async def parent() -> list[Any]:
        direct = await echo()
        handle = await api.start(echo)
        return [direct, handle.workflow_id, await api.result(handle)]

    async def scenario() -> Any:
        with SetWorkflowID("parent"):
            return await parent()

    assert api.run(scenario) == ["parent-1", "parent-3", "parent-3"]
    assert app.column("parent-1", "parent_workflow_id") == "parent"


def test_children_can_be_given_an_id(app: Application, api: Flavour, echo: Body) -> None:
    @api.workflow()
    async def parent() -> list[Any]:
        with SetWorkflowID("chosen"):
            first = await echo()
            second = await echo()
        return [first, second]

    async def scenario() -> Any:
        with SetWorkflowID("parent"):
            return await parent()

    assert api.run(scenario) == ["chosen", "parent-3"]
    assert app.steps("parent") == [
        (1, "echo"),
        (2, "DBOS.getResult"),
        (3, "echo"),
        (4, "DBOS.getResult"),
    ]


def test_the_same_id_runs_the_body_once_and_returns_the_recorded_result(
    app: Application, api: Flavour, log: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []
    DBOS.logger.setLevel(logging.DEBUG)

    @api.workflow()
    async def pay(amount: int) -> int:
        ran.append(amount)
        return amount

    async def scenario(amount: int) -> Any:
        with SetWorkflowID("payment"):
            return await pay(amount)

    assert [api.run(scenario, 1), api.run(scenario, 2)] == [1, 1]
    assert ran == [1]
    assert any("already run with status SUCCESS" in r.getMessage() for r in log.records)


def test_the_same_id_raises_the_recorded_error_again(app: Application, api: Flavour) -> None:
    ran: list[int] = []

    @api.workflow()
    async def fail() -> None:
        ran.append(1)
        raise LookupError("gone", 7)

    async def scenario() -> None:
        with SetWorkflowID("failing"):
            await fail()

    errors = []
    for _ in range(2):
        with pytest.raises(LookupError) as caught:
            api.run(scenario)
        errors.append(caught.value.args)

    assert errors == [("gone", 7), ("gone", 7)]
    assert ran == [1]


def test_starting_the_same_id_again_returns_a_handle_of_the_first_run(
    app: Application, api: Flavour
) -> None:
    @api.workflow()
    async def keep(value: str) -> str:
        return value

    async def scenario() -> list[Any]:
        results = []
        for value in ("first", "second"):
            with SetWorkflowID("kept"):
                results.append(await api.result(await api.start(keep, value)))
        return results

    assert api.run(scenario) == ["first", "first"]


def test_a_direct_call_waits_for_a_run_that_is_under_way(app: Application) -> None:
    begun, go = threading.Event(), threading.Event()

    @DBOS.workflow()
    def slow() -> str:
        begun.set()
        go.wait(10)
        return "slow result"

    with SetWorkflowID("slow"):
        DBOS.start_workflow(slow)
    assert begun.wait(10)
    answers: list[str] = []

    def call() -> None:
        with SetWorkflowID("slow"):
            answers.append(slow())

    caller = threading.Thread(target=call)
    caller.start()
    go.set()
    caller.join(10)

    assert answers == ["slow result"]


def test_the_same_id_for_another_function_is_a_conflict(
    app: Application, api: Flavour, echo: Body
) -> None:
    @api.workflow()
    async def other() -> None:
        raise AssertionError("must not run")

    async def call() -> None:
        with SetWorkflowID("taken"):
            await echo()
        with SetWorkflowID("taken"):
            await other()

    async def start() -> None:
        with SetWorkflowID("taken"):
            await api.start(other)

    with pytest.raises(DBOSConflictingWorkflowError, match="taken"):
        api.run(call)
    with pytest.raises(DBOSConflictingWorkflowError, match="taken"):
        api.run(start)
    assert app.column("taken", "status") == "SUCCESS"


def test_an_id_in_use_can_be_rejected(app: Application, api: Flavour, echo: Body) -> None:
    async def scenario() -> None:
        with SetWorkflowID("once", workflow_id_reuse_policy="reject"):
            await echo()

    api.run(scenario)
    with pytest.raises(DBOSWorkflowIDInUseError) as caught:
        api.run(scenario)

    assert caught.value.workflow_id == "once"
    assert caught.value.workflow_status == "SUCCESS"
    assert caught.value.workflow_name == "echo"


def test_a_started_run_is_durable_when_the_call_returns(app: Application, api: Flavour) -> None:
    go = threading.Event()

    @DBOS.workflow()
    def hold(word: str) -> str:
        go.wait(10)
        return word

    handle = DBOS.start_workflow(hold, "x")
    status = app.column(handle.workflow_id, "status")
    go.set()

    assert status == "PENDING"
    assert handle.get_result() == "x"


def test_the_run_is_durable_before_the_body_of_a_direct_call_starts(
    app: Application, api: Flavour
) -> None:
    @api.workflow()
    async def look() -> Any:
        return app.column("looking", "status")

    async def scenario() -> Any:
        with SetWorkflowID("looking"):
            return await look()

    assert api.run(scenario) == "PENDING"


def test_arguments_that_cannot_be_stored_create_no_run(
    app: Application, api: Flavour, echo: Body
) -> None:
    async def call() -> None:
        await echo({"client": threading.Lock()})

    async def start() -> None:
        await api.start(echo, "fine", object())

    with pytest.raises(DBOSSerializationError, match="args") as first:
        api.run(call)
    with pytest.raises(DBOSSerializationError) as second:
        api.run(start)

    assert first.value.path == "args[0]['client']"
    assert second.value.path == "args[1]"
    assert isinstance(second.value, TypeError)
    assert app.count("workflow_status") == 0


def test_a_child_whose_arguments_cannot_be_stored_fails_the_call_in_the_parent(
    app: Application, api: Flavour, echo: Body
) -> None:
    @api.workflow()
    async def parent() -> str:
        try:
            await echo(object())
        except DBOSSerializationError as error:
            return str(error.path)
        return "no error"

    async def scenario() -> Any:
        return await parent()

    assert api.run(scenario) == "args[0]"
    assert app.count("workflow_status") == 1


def test_only_decorated_functions_can_be_started(app: Application, api: Flavour) -> None:
    async def plain() -> None:
        return None

    async def scenario() -> None:
        await api.start(plain)

    with pytest.raises(DBOSWorkflowFunctionNotFoundError, match="is not registered"):
        api.run(scenario)


def test_a_step_can_be_started_like_a_workflow(app: Application, api: Flavour) -> None:
    @api.step()
    async def add(left: int, right: int) -> int:
        return left + right

    async def scenario() -> Any:
        with SetWorkflowID("adding"):
            return await api.result(await api.start(add, 1, right=2))

    assert api.run(scenario) == 3
    assert app.column("adding", "name") == "<temp>.add"
    assert app.steps("adding") == [(1, "add")]


def test_start_workflow_takes_async_functions_and_works_under_a_loop(
    app: Application, api: Flavour, echo: Body
) -> None:
    async def scenario() -> Any:
        return DBOS.start_workflow(registered(echo))

    handle = api.run(scenario)

    assert handle.get_result() == handle.workflow_id


def test_attributes_are_attached_to_runs_of_the_block_and_not_to_their_children(
    app: Application, api: Flavour, echo: Body
) -> None:
    @api.workflow()
    async def parent() -> Any:
        return await echo()

    async def scenario() -> Any:
        with SetWorkflowID("tagged"), SetWorkflowAttributes({"team": "blue"}):
            child = await parent()
        return await api.status_of("tagged"), await api.status_of(child)

    mine, child = api.run(scenario)

    assert mine.attributes == {"team": "blue"}
    assert child.attributes is None


def test_the_outer_id_and_timeout_are_not_visible_inside_a_body(
    app: Application, api: Flavour, echo: Body
) -> None:
    @api.workflow()
    async def parent() -> Any:
        return await echo()

    async def scenario() -> Any:
        with SetWorkflowID("outer"), SetWorkflowTimeout(1000):
            return await parent()

    assert api.run(scenario) == "outer-1"
    assert app.column("outer", "workflow_timeout_ms") == 1_000_000
    assert app.column("outer-1", "workflow_timeout_ms") is None
    assert app.column("outer-1", "workflow_deadline_epoch_ms") == app.column(
        "outer", "workflow_deadline_epoch_ms"
    )


def test_a_retrieved_id_must_exist_unless_told_otherwise(
    app: Application, api: Flavour, echo: Body
) -> None:
    async def strict() -> None:
        await api.retrieve("nowhere")

    async def lenient() -> Any:
        return (await api.retrieve("nowhere", existing_workflow=False)).workflow_id

    with pytest.raises(
        DBOSNonExistentWorkflowError, match="Non-existent target workflow ID: nowhere"
    ):
        api.run(strict)
    assert api.run(lenient) == "nowhere"
