"""How a run ends: the table of every way a body can come to its end, direct and in background."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from dbos.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded,
    DBOSSerializationError,
    RestoredError,
)
from tests.behaviour.application import Application
from tests.behaviour.flavours import Body, Flavour, registered


class Odd(BaseException):
    """Neither an Exception nor one of the two that everybody knows."""


def ending(api: Flavour, act: Callable[[], Any]) -> Body:
    @api.workflow()
    async def body() -> Any:
        return act()

    return body


def raising(error: BaseException) -> Callable[[], Any]:
    def act() -> None:
        raise error

    return act


def test_a_returned_value_is_a_success(app: Application, api: Flavour) -> None:
    body = ending(api, lambda: {"total": 3})

    async def scenario() -> tuple[Any, Any]:
        with SetWorkflowID("direct"):
            direct = await body()
        with SetWorkflowID("background"):
            handle = await api.start(body)
        return direct, await api.result(handle)

    assert api.run(scenario) == ({"total": 3}, {"total": 3})
    for run in ("direct", "background"):
        assert app.column(run, "status") == "SUCCESS"
        assert app.column(run, "error") is None
        assert app.column(run, "completed_at") is not None


def test_an_exception_is_an_error_and_the_caller_gets_the_very_object(
    app: Application, api: Flavour
) -> None:
    error = LookupError("missing", 4)
    body = ending(api, raising(error))

    async def direct() -> None:
        with SetWorkflowID("direct"):
            await body()

    async def background() -> None:
        with SetWorkflowID("background"):
            handle = await api.start(body)
        await api.result(handle)

    with pytest.raises(LookupError) as from_call:
        api.run(direct)
    with pytest.raises(LookupError) as from_handle:
        api.run(background)

    assert from_call.value is error
    assert from_handle.value is error
    for run in ("direct", "background"):
        assert app.column(run, "status") == "ERROR"
        assert app.column(run, "output") is None
        assert app.column(run, "completed_at") is not None


def test_a_result_that_cannot_be_stored_is_an_error(app: Application, api: Flavour) -> None:
    body = ending(api, lambda: {"lock": threading.Lock()})

    async def direct() -> None:
        with SetWorkflowID("direct"):
            await body()

    async def background() -> None:
        with SetWorkflowID("background"):
            handle = await api.start(body)
        await api.result(handle)

    for scenario in (direct, background):
        with pytest.raises(DBOSSerializationError) as caught:
            api.run(scenario)
        assert caught.value.path == "result['lock']"
    assert app.column("direct", "status") == app.column("background", "status") == "ERROR"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Odd("odd")])
def test_a_base_exception_passes_through_a_direct_call_and_records_nothing(
    app: Application, error: BaseException
) -> None:
    @DBOS.workflow(name="interrupted")
    def interrupted() -> None:
        raise error

    with pytest.raises(type(error)) as caught, SetWorkflowID("direct"):
        interrupted()

    assert caught.value is error
    assert app.column("direct", "status") == "PENDING"
    assert app.column("direct", "completed_at") is None


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Odd("odd")])
def test_a_base_exception_ends_a_background_run_as_an_error_of_that_name(
    app: Application, error: BaseException
) -> None:
    @DBOS.workflow(name="interrupted")
    def interrupted() -> None:
        raise error

    with SetWorkflowID("background"):
        handle = DBOS.start_workflow(interrupted)

    with pytest.raises(RestoredError) as caught:
        handle.get_result()
    assert type(error).__qualname__ in caught.value.name
    assert app.column("background", "status") == "ERROR"
    with pytest.raises(RestoredError):
        DBOS.get_result("background")


def test_the_thread_of_a_background_run_survives_a_system_exit(shop: Application) -> None:
    shop.launch(max_executor_threads=1)

    @DBOS.workflow()
    def leave() -> None:
        raise SystemExit

    @DBOS.workflow()
    def stay() -> str:
        return "here"

    gone = DBOS.start_workflow(leave)
    with pytest.raises(RestoredError):
        gone.get_result()

    assert DBOS.start_workflow(stay).get_result() == "here"


def test_an_interrupted_async_run_on_our_loop_is_an_error_and_the_loop_lives_on(
    app: Application,
) -> None:
    @DBOS.workflow()
    async def leave() -> None:
        raise Odd("odd")

    @DBOS.workflow()
    async def stay() -> str:
        return "here"

    gone = DBOS.start_workflow(leave)
    with pytest.raises(RestoredError):
        gone.get_result()

    assert DBOS.start_workflow(stay).get_result() == "here"


def test_a_task_cancelled_from_outside_records_nothing_and_is_handed_back(
    app: Application,
) -> None:
    begun = asyncio.Event()

    @DBOS.workflow()
    async def wait() -> None:
        begun.set()
        await asyncio.sleep(60)

    async def call() -> None:
        with SetWorkflowID("cancelled"):
            await wait()

    async def scenario() -> None:
        task = asyncio.create_task(call())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())

    assert app.column("cancelled", "status") == "PENDING"


def test_a_run_handed_back_is_finished_after_the_next_launch(app: Application) -> None:
    is_first = app.once()

    @DBOS.workflow()
    def interrupted() -> str:
        if is_first():
            raise KeyboardInterrupt
        return "finished"

    with pytest.raises(KeyboardInterrupt), SetWorkflowID("interrupted"):
        interrupted()
    app.relaunch()

    assert DBOS.get_result("interrupted") == "finished"


def test_a_run_handed_back_is_finished_one_lease_later_if_the_process_lives_on(
    shop: Application,
) -> None:
    shop.launch(failover={"lease_seconds": 1.0})
    is_first = shop.once()

    @DBOS.workflow()
    def interrupted() -> str:
        if is_first():
            raise KeyboardInterrupt
        return "finished"

    with pytest.raises(KeyboardInterrupt), SetWorkflowID("interrupted"):
        interrupted()

    assert DBOS.get_result("interrupted") == "finished"


def test_an_error_can_always_be_stored(app: Application, api: Flavour) -> None:
    error = ValueError("bad", threading.Lock())
    body = ending(api, raising(error))

    async def call() -> None:
        with SetWorkflowID("failing"):
            await body()

    with pytest.raises(ValueError, match="bad"):
        api.run(call)
    with pytest.raises(ValueError, match="bad") as stored:
        api.run(call)

    assert stored.value is not error
    assert isinstance(stored.value.args[1], str)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("CANCELLED", DBOSAwaitedWorkflowCancelledError),
        ("MAX_RECOVERY_ATTEMPTS_EXCEEDED", DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded),
    ],
)
def test_an_outcome_of_a_run_that_ended_otherwise_is_dropped_with_a_warning(
    app: Application,
    api: Flavour,
    log: pytest.LogCaptureFixture,
    status: str,
    expected: type[Exception],
) -> None:
    @api.workflow()
    async def body() -> str:
        app.change("UPDATE {workflow_status} SET status = ?", status)
        return "too late"

    async def call() -> None:
        with SetWorkflowID("late"):
            await body()

    with pytest.raises(expected, match="late"):
        api.run(call)

    assert app.column("late", "status") == status
    assert app.column("late", "output") is None
    assert "WARNING" in [r.levelname for r in log.records if "late" in r.getMessage()]


def test_a_run_that_was_taken_over_gets_the_outcome_of_its_new_owner(
    app: Application, api: Flavour
) -> None:
    @api.workflow()
    async def body() -> str:
        if app.column("moved", "owner_xid") != "somebody else":
            app.change("UPDATE {workflow_status} SET owner_xid = 'somebody else'")
            app.change(
                "UPDATE {workflow_status} SET status = 'SUCCESS', output = ?, completed_at = 1",
                '"theirs"',
            )
        return "mine"

    async def call() -> Any:
        with SetWorkflowID("moved"):
            return await body()

    assert api.run(call) == "theirs"


def test_a_background_run_is_finished_before_its_handle_says_so(
    app: Application, api: Flavour
) -> None:
    body = ending(api, lambda: 1)

    handle = DBOS.start_workflow(registered(body))

    assert handle.get_result() == 1
    assert app.column(handle.workflow_id, "status") == "SUCCESS"
