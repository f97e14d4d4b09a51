"""Workflow timeouts: what is stored, inherited, replaced and cleared."""

from __future__ import annotations

from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID, SetWorkflowTimeout
from dbos.error import DBOSInvalidInputError
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Body, Flavour


@pytest.fixture
def noop(app: Application, api: Flavour) -> Body:
    @api.workflow()
    async def noop() -> None:
        return None

    return noop


def stored(app: Application, workflow_id: str) -> tuple[Any, Any]:
    return (
        app.column(workflow_id, "workflow_timeout_ms"),
        app.column(workflow_id, "workflow_deadline_epoch_ms"),
    )


def test_direct_and_started_runs_store_the_timeout_and_the_deadline(
    app: Application, api: Flavour, noop: Body
) -> None:
    async def scenario() -> None:
        with SetWorkflowTimeout(60):
            with SetWorkflowID("direct"):
                await noop()
            with SetWorkflowID("started"):
                await api.result(await api.start(noop))

    api.run(scenario)

    for run in ("direct", "started"):
        timeout, deadline = stored(app, run)
        created = app.column(run, "created_at")
        assert timeout == 60_000
        assert abs(deadline - created - 60_000) < 5_000


def test_a_timeout_ends_with_its_block_and_none_clears_it(
    app: Application, api: Flavour, noop: Body
) -> None:
    async def scenario() -> None:
        with SetWorkflowTimeout(60):
            with SetWorkflowTimeout(None), SetWorkflowID("cleared"):
                await noop()
            with SetWorkflowID("restored"):
                await noop()
        with SetWorkflowID("after"):
            await noop()

    api.run(scenario)

    assert stored(app, "cleared") == stored(app, "after") == (None, None)
    assert stored(app, "restored")[0] == 60_000


def test_children_inherit_the_deadline_and_an_explicit_timeout_replaces_it(
    app: Application, api: Flavour, noop: Body
) -> None:
    @api.workflow()
    async def parent() -> None:
        await noop()
        with SetWorkflowTimeout(10):
            await noop()
        with SetWorkflowTimeout(None):
            await noop()
        handle = await api.start(noop)
        await api.result(handle)

    async def scenario() -> None:
        with SetWorkflowID("parent"), SetWorkflowTimeout(100):
            await parent()

    api.run(scenario)

    deadline = stored(app, "parent")[1]
    assert stored(app, "parent-1") == (None, deadline)
    assert stored(app, "parent-3")[0] == 10_000
    assert stored(app, "parent-3")[1] < deadline
    assert stored(app, "parent-5") == (None, None)
    assert stored(app, "parent-7") == (None, deadline)


def test_a_recovered_run_keeps_its_first_deadline_and_its_children_inherit_it(
    app: Application, api: Flavour, noop: Body
) -> None:
    is_first = app.once()

    @api.workflow()
    async def parent() -> None:
        if is_first():
            app.cut_power()
        await noop()

    async def first_life() -> None:
        with SetWorkflowID("parent"), SetWorkflowTimeout(100):
            await parent()

    with pytest.raises(PowerCut):
        api.run(first_life)
    first = stored(app, "parent")
    app.launch()

    DBOS.get_result("parent")
    assert stored(app, "parent") == first
    assert stored(app, "parent-1") == (None, first[1])


@pytest.mark.parametrize("seconds", [0, -1, -0.001])
def test_a_timeout_must_be_positive(app: Application, seconds: float) -> None:
    with pytest.raises(DBOSInvalidInputError, match="Timeouts must be positive"):
        SetWorkflowTimeout(seconds)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 4e9, "5", True])
def test_a_timeout_must_be_a_number_of_seconds(app: Application, seconds: Any) -> None:
    with pytest.raises(DBOSInvalidInputError):
        SetWorkflowTimeout(seconds)
