"""Cancelling: where a run stops, what is recorded of it, and who is told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID, StepOptions
from dbos.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSNonExistentWorkflowError,
    DBOSWorkflowCancelledError,
)
from tests.behaviour.application import Application
from tests.behaviour.flavours import Flavour
from tests.waiting.verbs import Verbs, paused, start, until, until_recorded, until_waited_for

PROMPT_S = 5.0
"""How long the end of a body is waited for before the test gives up."""


def test_every_wait_ends_promptly_and_records_no_result(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    stopped: dict[str, str] = {}

    async def by_handle() -> Any:
        return await api.result(await api.retrieve("never", existing_workflow=False))

    async def first() -> Any:
        never = await api.retrieve("never", existing_workflow=False)
        return await verbs.wait_first([never, await api.retrieve("nor", existing_workflow=False)])

    waits: dict[str, Callable[[], Awaitable[Any]]] = {
        "sleep": lambda: verbs.sleep(3600),
        "recv": lambda: verbs.recv("t", 3600),
        "get_event": lambda: verbs.get_event("never", "key", 3600),
        "by_handle": by_handle,
        "get_result": lambda: verbs.get_result("never"),
        "wait_first": first,
        "read_stream": lambda: verbs.read_all("read_stream", "s"),
        "read_stream_offset": lambda: verbs.read_stream_offset("read_stream", "s", 3),
    }

    @api.workflow()
    async def waiter(kind: str) -> None:
        try:
            await waits[kind]()
        except Exception as error:
            stopped[kind] = f"swallowed {error}"
        except BaseException as error:
            stopped[kind] = type(error).__name__
            raise

    handles = [start(waiter, kind, kind) for kind in waits]
    until_recorded(app, "sleep", "recv", "get_event")
    for kind, key in (("done", "never"), ("done", "nor"), ("stream", "read_stream::s")):
        until_waited_for(kind, key)

    DBOS.cancel_workflows(list(waits))

    for handle in handles:
        with pytest.raises(DBOSAwaitedWorkflowCancelledError):
            handle.get_result()
    until(lambda: len(stopped) == len(waits))
    assert stopped == dict.fromkeys(waits, DBOSWorkflowCancelledError.__name__)
    recorded = {kind: app.steps(kind) for kind in waits if app.steps(kind)}
    assert recorded == {
        "sleep": [(1, "DBOS.sleep")],
        "recv": [(2, "DBOS.sleep")],
        "get_event": [(2, "DBOS.sleep")],
    }


def test_a_run_between_steps_stops_at_its_next_operation_recorded_or_not(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    gate, reached = threading.Event(), threading.Event()
    swallowed: list[str] = []
    ran: list[str] = []

    @api.step()
    async def step() -> None:
        ran.append("step")

    @api.workflow()
    async def worker() -> None:
        reached.set()
        await paused(api, gate)
        for operation, args in ((step, ()), (verbs.set_event, ("key", 1)), (verbs.sleep, (1,))):
            try:
                await operation(*args)
            except BaseException as error:
                swallowed.append(type(error).__name__)

    start(worker, "worker")
    assert reached.wait(30)
    DBOS.cancel_workflow("worker")

    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        DBOS.get_result("worker")
    time_of_cancel = app.column("worker", "completed_at")
    time.sleep(0.2)  # A cancel is noticed up to a second later; the lookout needs one turn.
    gate.set()
    until(lambda: len(swallowed) == 3)
    assert swallowed == [DBOSWorkflowCancelledError.__name__] * 3
    assert ran == []
    assert app.steps("worker") == []
    assert app.column("worker", "completed_at") == time_of_cancel


def test_a_step_that_runs_is_finished_and_recorded_and_the_next_one_does_not_begin(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    gate, reached, ended = threading.Event(), threading.Event(), threading.Event()
    ran: list[str] = []

    @api.step()
    async def slow() -> str:
        reached.set()
        await paused(api, gate)
        ran.append("slow")
        return "done"

    @api.step()
    async def after() -> None:
        ran.append("after")

    @api.workflow()
    async def worker() -> str:
        try:
            word = await slow()
            await after()
            return str(word)
        finally:
            ended.set()

    handle = start(worker, "worker")
    assert reached.wait(30)
    DBOS.cancel_workflow("worker")
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    gate.set()
    assert ended.wait(30)

    assert ran == ["slow"]
    assert app.steps("worker") == [(1, "slow")]
    assert app.column("worker", "status") == "CANCELLED"
    resumed = DBOS.resume_workflow("worker")
    assert resumed.get_result() == "done"
    assert ran == ["slow", "after"]


def test_after_its_last_operation_the_body_ends_and_its_outcome_is_refused(
    app: Application, api: Flavour
) -> None:
    gate, reached, ended = threading.Event(), threading.Event(), threading.Event()

    @api.workflow()
    async def worker() -> str:
        reached.set()
        await paused(api, gate)
        ended.set()
        return "finished"

    handle = start(worker, "worker")
    assert reached.wait(30)
    DBOS.cancel_workflow("worker")
    gate.set()

    assert ended.wait(30)
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    assert app.column("worker", "status") == "CANCELLED"
    assert app.column("worker", "output") is None


@pytest.mark.parametrize("is_async", [False, True])
def test_a_preemptible_step_is_stopped_and_runs_again_after_a_resume(
    app: Application, is_async: bool
) -> None:
    reached = threading.Semaphore(0)
    endings: list[str] = []
    is_first = app.once()

    async def body() -> str:
        reached.release()
        try:
            await asyncio.sleep(3600 if is_first() else 0)
        except asyncio.CancelledError:
            endings.append("cancelled")
            raise
        return "done"

    options: StepOptions = {"name": "body", "preemptible": True}

    @DBOS.workflow(name="worker")
    async def on_a_loop() -> str:
        return await DBOS.run_step_async(options, body)

    @DBOS.workflow(name="sync worker")
    def on_a_thread() -> str:
        return DBOS.run_step(options, body)

    with SetWorkflowID("worker"):
        handle = DBOS.start_workflow(on_a_loop) if is_async else DBOS.start_workflow(on_a_thread)
    assert reached.acquire(timeout=30)
    DBOS.cancel_workflow("worker")
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    until(lambda: endings)

    assert app.steps("worker") == []
    assert DBOS.resume_workflow("worker").get_result() == "done"
    assert app.steps("worker") == [(1, "body")]


def test_tasks_that_wait_beside_the_one_that_finds_out_are_stopped_too(app: Application) -> None:
    gate, reached, ended = threading.Event(), threading.Event(), threading.Event()

    @DBOS.step(name="slow")
    async def slow() -> None:
        reached.set()
        await asyncio.to_thread(gate.wait, 30)

    @DBOS.workflow(name="worker")
    async def worker() -> None:
        await asyncio.wait(
            [asyncio.create_task(slow()), asyncio.create_task(DBOS.sleep_async(3600))]
        )
        ended.set()

    start(worker, "worker")
    assert reached.wait(30)
    until(lambda: app.steps("worker"))
    DBOS.cancel_workflow("worker")
    gate.set()

    assert ended.wait(PROMPT_S)


def test_what_a_cancelled_run_is_left_with_and_who_is_left_alone(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def finished() -> str:
        return "ok"

    start(finished, "finished").get_result()
    for status in ("ENQUEUED", "DELAYED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "ERROR"):
        app.change(
            "INSERT INTO {workflow_status} (workflow_uuid, status, name, queue_name,"
            " deduplication_id, started_at_epoch_ms) VALUES (?, ?, 'x', 'q', ?, 1)",
            *(status, status, status),
        )

    async def scenario() -> None:
        await verbs.cancel_workflow("nobody")
        await verbs.cancel_workflows([])
        await verbs.cancel_workflows(
            ["nobody", "finished", "ENQUEUED", "DELAYED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "ERROR"]
        )

    api.run(scenario)

    for run in ("ENQUEUED", "DELAYED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"):
        assert app.column(run, "status") == "CANCELLED"
        assert app.column(run, "completed_at") is not None
        for column in ("queue_name", "deduplication_id", "started_at_epoch_ms"):
            assert app.column(run, column) is None
    assert app.column("ERROR", "status") == "ERROR"
    assert app.column("ERROR", "queue_name") == "q"
    assert DBOS.get_result("finished") == "ok"


def test_children_are_cancelled_only_on_demand_and_then_down_the_whole_tree(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def family(depth: int) -> None:
        if depth:
            await api.start(family, depth - 1)
        await verbs.sleep(3600)

    for root in ("alone", "whole"):
        start(family, root, 2)
        until_recorded(app, f"{root}-1-1")
    DBOS.cancel_workflow("alone")
    DBOS.cancel_workflow("whole", cancel_children=True)

    def status(suffix: str) -> tuple[str, str]:
        return app.column(f"alone{suffix}", "status"), app.column(f"whole{suffix}", "status")

    assert status("") == ("CANCELLED", "CANCELLED")
    assert status("-1") == status("-1-1") == ("PENDING", "CANCELLED")


def test_a_parent_sees_its_cancelled_child_as_an_ordinary_recorded_error(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def child() -> None:
        await verbs.sleep(3600)

    @api.workflow()
    async def parent() -> list[str]:
        errors: list[str] = []
        try:
            await child()
        except Exception as error:
            errors.append(type(error).__name__)
        try:
            await api.result(await api.start(child))
        except Exception as error:
            errors.append(type(error).__name__)
        return errors

    handle = start(parent, "parent")
    until(lambda: app.rows("SELECT 1 FROM {operation_outputs} WHERE workflow_uuid = 'parent-1'"))
    DBOS.cancel_workflow("parent-1")
    until(lambda: app.rows("SELECT 1 FROM {operation_outputs} WHERE workflow_uuid = 'parent-3'"))
    DBOS.cancel_workflow("parent-3")

    assert handle.get_result() == [DBOSAwaitedWorkflowCancelledError.__name__] * 2
    records = app.records("parent")
    assert [record[1] for record in records] == [
        "child",
        "DBOS.getResult",
        "child",
        "DBOS.getResult",
    ]
    assert [record[3] is not None for record in records] == [False, True, False, True]


def test_commands_from_workflow_code_are_recorded_and_not_given_again(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def sleeper() -> None:
        await verbs.recv(None, 3600)

    @api.workflow()
    async def chief() -> str:
        await verbs.cancel_workflow("sleeper")
        await verbs.cancel_workflows(["sleeper", "nobody"])
        await verbs.resume_workflow("sleeper")
        try:
            await verbs.resume_workflows(["sleeper", "nobody"])
        except DBOSNonExistentWorkflowError:
            await verbs.recv(None, 3600)
        return "done"

    start(sleeper, "sleeper")
    until(lambda: app.steps("sleeper"))
    start(chief, "chief")
    until(lambda: len(app.steps("chief")) == 4)
    app.kill()
    app.launch()
    DBOS.send_bulk([])
    DBOS.send("chief", "go")
    DBOS.send("sleeper", "go")

    assert DBOS.get_result("chief") == "done"
    assert DBOS.get_result("sleeper") is None
    assert app.steps("chief") == [
        (1, "DBOS.cancelWorkflow"),
        (2, "DBOS.cancelWorkflow"),
        (3, "DBOS.resumeWorkflow"),
        (5, "DBOS.recv"),
        (6, "DBOS.sleep"),
    ]
