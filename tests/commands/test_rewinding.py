"""Rewinding: the same run again from a step, and what is taken back."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dbos import DBOS
from dbos.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSException,
    DBOSInvalidInputError,
    DBOSNonExistentWorkflowError,
)
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Flavour
from tests.waiting.verbs import Verbs, start, until_recorded


def test_steps_events_streams_and_messages_from_the_step_on_are_taken_back(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    ran: list[str] = []

    @api.step()
    async def work(name: str) -> str:
        ran.append(name)
        return name

    @api.workflow()
    async def worker() -> Any:
        await verbs.set_event("state", "begun")
        await verbs.write_stream("log", "begun")
        first = await verbs.recv("t", 30)
        await work("middle")
        await verbs.set_event("state", "ended")
        await verbs.set_event("late", True)
        await verbs.write_stream("log", "ended")
        await verbs.close_stream("log")
        return [first, await verbs.recv("t", 30)]

    handle = start(worker, "worker")
    DBOS.send("worker", 1, "t")
    DBOS.send("worker", 2, "t")
    assert handle.get_result() == [1, 2]

    async def scenario() -> Any:
        again = await verbs.rewind_workflow("worker", start_step=5, queue_name="nobody")
        taken_back = (
            app.steps("worker"),
            await verbs.get_all_events("worker"),
            app.rows('SELECT "offset" FROM {streams}'),
            app.count("notifications"),
            app.column("worker", "status"),
            app.column("worker", "completed_at"),
            app.column("worker", "output"),
        )
        await verbs.resume_workflow("worker")
        await verbs.send("worker", 3, "t")
        result = await api.result(again)
        return taken_back, result, await verbs.read_all("worker", "log")

    taken_back, result, entries = api.run(scenario)

    names = ["DBOS.setEvent", "DBOS.writeStream", "DBOS.recv", "DBOS.sleep"]
    assert taken_back == (
        list(enumerate(names, 1)),
        {"state": "begun"},
        [(0,)],
        1,
        "ENQUEUED",
        None,
        None,
    )
    assert result == [1, 3]
    assert ran == ["middle", "middle"]
    assert entries == ["begun", "ended"]


def test_a_rewind_without_a_step_begins_anew_and_a_cancelled_run_can_be_rewound(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def worker() -> Any:
        return await verbs.recv("t", 3600)

    handle = start(worker, "worker")
    until_recorded(app, "worker")
    DBOS.cancel_workflow("worker")
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        handle.get_result()

    async def scenario() -> Any:
        again = await verbs.rewind_workflow("worker")
        await verbs.send("worker", "came", "t")
        return await api.result(again)

    assert api.run(scenario) == "came"


def test_active_unknown_and_bad_rewinds_are_refused(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def worker() -> Any:
        return await verbs.recv("t", 3600)

    start(worker, "worker")
    until_recorded(app, "worker")

    async def scenario() -> None:
        with pytest.raises(DBOSException, match="active"):
            await verbs.rewind_workflow("worker")
        with pytest.raises(DBOSNonExistentWorkflowError, match="nobody"):
            await verbs.rewind_workflow("nobody")
        for bad in (0, -1, "1"):
            with pytest.raises(DBOSInvalidInputError, match="start_step"):
                await verbs.rewind_workflow("worker", start_step=bad)

    api.run(scenario)

    assert app.column("worker", "status") == "PENDING"
    DBOS.send("worker", "on", "t")
    assert DBOS.get_result("worker") == "on"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_workflow_that_dies_around_a_rewind_or_a_delete_has_done_it_once(
    app: Application, api: Flavour, verbs: Verbs, moment: str
) -> None:
    runs: list[str] = []
    is_first, dead = app.once(), threading.Event()

    def die_at(here: str) -> None:
        if here == moment and is_first():
            app.kill()
            dead.set()
            raise PowerCut

    @api.workflow()
    async def worker() -> int:
        runs.append("run")
        return len(runs)

    @api.workflow()
    async def steering() -> Any:
        die_at("before")
        await verbs.delete_workflow("deleted")
        handle = await verbs.rewind_workflow("rewound")
        die_at("after")
        return await api.result(handle)

    start(worker, "deleted").get_result()
    start(worker, "rewound").get_result()
    start(steering, "steering")
    assert dead.wait(30)
    app.launch()

    assert DBOS.get_result("steering") == 3
    assert app.steps("steering") == [
        (1, "DBOS.deleteWorkflow"),
        (2, "DBOS.rewindWorkflow"),
        (3, "DBOS.getResult"),
    ]
    assert len(runs) == 3
    assert app.count("workflow_status") == 2
