"""Steps: what is recorded, what a replay returns, and what passes through unrecorded."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from dbos.error import DBOSException, DBOSSerializationError
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Body, Flavour


async def called(workflow: Body, *args: Any) -> Any:
    """Call a workflow under the id `run`."""
    with SetWorkflowID("run"):
        return await workflow(*args)


def test_a_step_is_recorded_with_its_output_before_the_call_returns(
    app: Application, api: Flavour
) -> None:
    @api.step()
    async def pack(item: str) -> list[str]:
        return [item]

    @api.workflow()
    async def ship() -> Any:
        box = await pack("lamp")
        return box, app.records("run")

    _, during = api.run(called, ship)

    assert during == [(1, "pack", '["lamp"]', None, None)]


def test_a_step_that_raises_is_recorded_with_its_error(app: Application, api: Flavour) -> None:
    error = LookupError("gone")

    @api.step()
    async def fetch() -> None:
        raise error

    @api.workflow()
    async def caught() -> bool:
        try:
            await fetch()
        except LookupError as raised:
            return raised is error
        return False

    assert api.run(called, caught) is True
    [(_, name, output, recorded, _)] = app.records("run")
    assert (name, output) == ("fetch", None)
    assert "LookupError" in recorded


def test_a_result_that_cannot_be_stored_is_the_error_of_its_step_and_is_not_retried(
    app: Application, api: Flavour
) -> None:
    ran: list[int] = []

    @api.step(retries_allowed=True, interval_seconds=0, max_attempts=5)
    async def open_socket() -> Any:
        ran.append(1)
        return {"lock": threading.Lock()}

    @api.workflow()
    async def use() -> str:
        try:
            await open_socket()
        except DBOSSerializationError as error:
            return str(error.path)
        return "stored"

    assert api.run(called, use) == "result['lock']"
    assert ran == [1]
    assert app.records("run")[0][3] is not None


def test_a_base_exception_passes_through_a_step_unrecorded(app: Application, api: Flavour) -> None:
    @api.step()
    async def die() -> None:
        raise PowerCut

    @api.workflow()
    async def run() -> None:
        await die()

    with pytest.raises(PowerCut):
        api.run(called, run)

    assert app.steps("run") == []


def test_the_live_caller_gets_the_original_object(app: Application, api: Flavour) -> None:
    original = {"a": [1]}

    @api.step()
    async def make() -> dict[str, list[int]]:
        return original

    @api.workflow()
    async def run() -> bool:
        return await make() is original

    assert api.run(called, run) is True


def test_only_the_outer_of_two_nested_steps_is_recorded(app: Application, api: Flavour) -> None:
    attempts: list[int] = []

    @api.step(retries_allowed=True, interval_seconds=0)
    async def inner() -> int:
        attempts.append(1)
        raise LookupError("inner")

    @api.step()
    async def outer() -> str:
        try:
            await inner()
        except LookupError:
            return "inner failed once"
        return "inner worked"

    @api.workflow()
    async def run() -> Any:
        return await outer()

    assert api.run(called, run) == "inner failed once"
    assert attempts == [1]
    assert app.steps("run") == [(1, "outer")]


def test_outside_a_workflow_a_step_is_a_plain_call_without_retries(
    app: Application, api: Flavour
) -> None:
    attempts: list[int] = []

    @api.step(retries_allowed=True, interval_seconds=0)
    async def fail() -> None:
        attempts.append(1)
        raise LookupError("plain")

    with pytest.raises(LookupError):
        api.run(fail)

    assert attempts == [1]
    assert app.count("operation_outputs") == app.count("workflow_status") == 0


def test_a_step_is_a_plain_function_without_an_instance(shop: Application, api: Flavour) -> None:
    @api.step()
    async def add(left: int, right: int) -> int:
        return left + right

    async def scenario() -> Any:
        return await add(1, right=2)

    assert api.run(scenario) == 3


def test_run_step_records_any_function_under_its_qualified_or_given_name(
    app: Application, api: Flavour
) -> None:
    async def fetch(item: str, *, loud: bool = False) -> str:
        return item.upper() if loud else item

    @api.workflow()
    async def run() -> list[Any]:
        return [
            await api.run_step(None, fetch, "a"),
            await api.run_step({"name": "loudly"}, fetch, "b", loud=True),
            await api.run_step({}, fetch, "c"),
        ]

    assert api.run(called, run) == ["a", "B", "c"]
    assert app.steps("run") == [
        (1, fetch.__qualname__),
        (2, "loudly"),
        (3, fetch.__qualname__),
    ]


def test_run_step_takes_lambdas(app: Application) -> None:
    @DBOS.workflow()
    def run() -> int:
        return DBOS.run_step(None, lambda: 7)

    with SetWorkflowID("run"):
        assert run() == 7
    assert app.steps("run")[0][1].endswith("<lambda>")


def test_run_step_uses_the_name_of_a_decorated_function_and_the_options_of_the_call(
    app: Application,
) -> None:
    attempts: list[int] = []

    @DBOS.step(name="registered", retries_allowed=True, interval_seconds=0, max_attempts=9)
    def fail() -> None:
        attempts.append(1)
        raise LookupError("no")

    @DBOS.workflow()
    def run() -> str:
        try:
            DBOS.run_step(None, fail)
        except LookupError:
            return "one attempt"
        return "no error"

    with SetWorkflowID("run"):
        assert run() == "one attempt"
    assert attempts == [1]
    assert app.steps("run") == [(1, "registered")]


def test_run_step_runs_an_async_function_to_its_end(app: Application) -> None:
    async def fetch() -> str:
        return "fetched"

    @DBOS.workflow()
    def run() -> str:
        return DBOS.run_step(None, fetch)

    with SetWorkflowID("run"):
        assert run() == "fetched"


def test_run_step_outside_a_workflow_is_a_plain_call_that_needs_an_instance(
    shop: Application, api: Flavour
) -> None:
    async def fetch() -> str:
        return "fetched"

    async def scenario() -> Any:
        return await api.run_step(None, fetch)

    with pytest.raises(DBOSException, match="No DBOS was created yet"):
        api.run(scenario)
    shop.launch()

    assert api.run(scenario) == "fetched"
    assert shop.count("operation_outputs") == 0


def test_a_decorated_function_keeps_its_name_signature_and_kind(app: Application) -> None:
    @DBOS.workflow()
    def sync_workflow(left: int, right: int = 2) -> int:
        """Adds."""
        return left + right

    @DBOS.step()
    async def async_step(left: int) -> int:
        return left

    assert sync_workflow.__name__ == "sync_workflow"
    assert sync_workflow.__doc__ == "Adds."
    assert str(inspect.signature(sync_workflow)) == "(left: 'int', right: 'int' = 2) -> 'int'"
    assert not inspect.iscoroutinefunction(sync_workflow)
    assert inspect.iscoroutinefunction(async_step)
    assert list(inspect.signature(async_step).parameters) == ["left"]


def test_the_registered_name_is_the_qualified_name_unless_given(app: Application) -> None:
    @DBOS.step()
    def inner() -> None:
        return None

    @DBOS.workflow()
    def run() -> None:
        inner()

    with SetWorkflowID("run"):
        run()

    here = test_the_registered_name_is_the_qualified_name_unless_given.__name__
    assert app.column("run", "name") == f"{here}.<locals>.run"
    assert app.steps("run") == [(1, f"{here}.<locals>.inner")]


def test_decorated_methods_bind_as_methods_do(app: Application) -> None:
    class Oven:
        heat = 200

        @DBOS.step()
        def bake(self, what: str) -> str:
            return f"{what} at {self.heat}"

        @DBOS.step()
        async def bake_async(self, what: str) -> str:
            return f"{what} at {self.heat}"

    assert Oven().bake("bread") == "bread at 200"
    assert inspect.iscoroutinefunction(Oven().bake_async)


def test_a_step_name_may_not_begin_like_ours(shop: Application) -> None:
    with pytest.raises(DBOSException, match=r"DBOS\."):

        @DBOS.step(name="DBOS.mine")
        def mine() -> None:
            return None
