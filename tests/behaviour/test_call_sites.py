"""Who may call what: workflow code, steps, and code outside; and what the context shows there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos import DBOS, DBOSContextEnsure, SetWorkflowID
from dbos.error import DBOSUsageError
from tests.behaviour.application import Application
from tests.behaviour.flavours import Flavour


def test_a_workflow_cannot_be_called_or_started_in_a_step(app: Application, api: Flavour) -> None:
    refused: list[Exception] = []

    @api.workflow()
    async def inner() -> None:
        raise AssertionError("must not run")

    @api.step()
    async def step() -> None:
        with pytest.raises(DBOSUsageError) as called:
            await inner()
        with pytest.raises(DBOSUsageError) as started:
            await api.start(inner)
        refused.extend((called.value, started.value))

    @api.workflow()
    async def outer() -> None:
        await step()

    async def scenario() -> None:
        await outer()

    api.run(scenario)

    assert all(isinstance(error, AssertionError) for error in refused)
    assert all("inner" in str(error) for error in refused)
    assert app.count("workflow_status") == 1


def test_sleep_belongs_in_workflow_code(app: Application, api: Flavour) -> None:
    @api.step()
    async def step() -> None:
        await api.sleep(1)

    @api.workflow()
    async def run() -> None:
        await step()

    async def inside_a_step() -> None:
        await run()

    async def outside() -> None:
        await api.sleep(1)

    for scenario in (outside, inside_a_step):
        with pytest.raises(DBOSUsageError, match="must be called from within a workflow"):
            api.run(scenario)


def test_results_and_statuses_can_be_read_in_a_step_unrecorded(
    app: Application, api: Flavour
) -> None:
    @api.workflow()
    async def other() -> int:
        return 3

    @api.step()
    async def look() -> list[Any]:
        status = await api.status_of("other")
        handle = await api.retrieve("other")
        return [status.status, await api.result_of("other"), await api.result(handle)]

    @api.workflow()
    async def run() -> Any:
        return await look()

    async def scenario() -> Any:
        with SetWorkflowID("other"):
            await other()
        with SetWorkflowID("run"):
            return await run()

    assert api.run(scenario) == ["SUCCESS", 3, 3]
    assert app.steps("run") == [(1, "look")]


def test_run_step_in_a_step_is_a_plain_call(app: Application, api: Flavour) -> None:
    async def plain() -> Any:
        return DBOS.step_id

    @api.step()
    async def outer() -> Any:
        return await api.run_step({"name": "inner"}, plain)

    @api.workflow()
    async def run() -> Any:
        return await outer()

    async def scenario() -> Any:
        with SetWorkflowID("run"):
            return await run()

    assert api.run(scenario) == 1
    assert app.steps("run") == [(1, "outer")]


def test_the_context_names_the_workflow_and_the_step_and_nothing_outside(
    app: Application, api: Flavour
) -> None:
    @api.step()
    async def step() -> Any:
        return DBOS.workflow_id, DBOS.step_id

    @api.workflow()
    async def run() -> Any:
        return [(DBOS.workflow_id, DBOS.step_id), await step()]

    async def scenario() -> Any:
        with SetWorkflowID("run"):
            inside = await run()
        return inside, (DBOS.workflow_id, DBOS.step_id, DBOS.step_status)

    assert api.run(scenario) == ([("run", None), ("run", 1)], (None, None, None))


def test_no_context_is_left_behind_by_a_workflow_that_failed(
    app: Application, api: Flavour
) -> None:
    @api.workflow()
    async def fail() -> None:
        raise LookupError

    async def scenario() -> Any:
        with pytest.raises(LookupError):
            await fail()
        return DBOS.workflow_id

    assert api.run(scenario) is None


def test_each_async_workflow_has_a_context_of_its_own(app: Application) -> None:
    @DBOS.workflow()
    async def run() -> list[str | None]:
        seen = [DBOS.workflow_id]
        await asyncio.sleep(0)
        seen.append(DBOS.workflow_id)
        return seen

    async def named(workflow_id: str) -> list[str | None]:
        with SetWorkflowID(workflow_id):
            return await run()

    async def scenario() -> Any:
        return await asyncio.gather(*(named(word) for word in "abc"))

    assert asyncio.run(scenario()) == [[word, word] for word in "abc"]


def test_a_context_can_be_ensured_anywhere(app: Application, api: Flavour) -> None:
    async def scenario() -> Any:
        with DBOSContextEnsure():
            return DBOS.workflow_id

    assert api.run(scenario) is None
