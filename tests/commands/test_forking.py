"""Forking: what a fork takes over from its source, and what it does not."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowAttributes, SetWorkflowID, SetWorkflowTimeout
from dbos.error import (
    DBOSConflictingWorkflowError,
    DBOSInvalidInputError,
    DBOSNonExistentWorkflowError,
    DBOSUsageError,
    DBOSWorkflowIDInUseError,
)
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Flavour
from tests.waiting.verbs import Verbs, start

ELSEWHERE = "a-queue-that-nobody-serves"


def test_a_fork_runs_the_steps_from_the_given_one_and_replays_those_before_it(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    ran: list[int] = []

    @api.step()
    async def work(number: int) -> int:
        ran.append(number)
        return number

    @api.workflow()
    async def worker() -> list[int]:
        return [await work(number) for number in (1, 2, 3)]

    start(worker, "source").get_result()
    ran.clear()

    async def scenario() -> Any:
        handle = await verbs.fork_workflow("source", 3)
        return handle.workflow_id, await api.result(handle)

    fork_id, result = api.run(scenario)

    assert result == [1, 2, 3]
    assert ran == [3]
    assert app.column(fork_id, "forked_from") == "source"
    assert app.column("source", "was_forked_from")
    assert app.column("source", "status") == "SUCCESS"


def test_a_fork_copies_what_describes_the_run_and_not_where_and_when_it_ran(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def worker(value: int) -> int:
        return value

    with SetWorkflowAttributes({"tenant": "a"}), SetWorkflowTimeout(3600):
        start(worker, "source", 7).get_result()
    app.change(
        "UPDATE {workflow_status} SET authenticated_user = 'u', assumed_role = 'r',"
        " authenticated_roles = '[\"r\"]', priority = 4, parent_workflow_id = 'p'"
    )

    async def scenario() -> None:
        with SetWorkflowID("fork"):
            await verbs.fork_workflow(
                "source",
                1,
                application_version="v9",
                queue_name=ELSEWHERE,
                queue_partition_key="k",
                timeout_seconds=5,
            )
        with SetWorkflowID("plain"):
            await verbs.fork_workflow("source", 0, queue_name=ELSEWHERE)

    api.run(scenario)

    columns = (
        "status, name, inputs, serialization, authenticated_user, assumed_role,"
        " authenticated_roles, attributes, application_name, queue_name, queue_partition_key,"
        " application_version, workflow_timeout_ms, workflow_deadline_epoch_ms, priority,"
        " parent_workflow_id, recovery_attempts"
    )
    [source] = app.rows(f"SELECT {columns} FROM {{workflow_status}} WHERE workflow_uuid = 'source'")
    [fork] = app.rows(f"SELECT {columns} FROM {{workflow_status}} WHERE workflow_uuid = 'fork'")
    [plain] = app.rows(f"SELECT {columns} FROM {{workflow_status}} WHERE workflow_uuid = 'plain'")
    assert fork[1:9] == plain[1:9] == source[1:9]
    assert fork[0] == "ENQUEUED"
    assert fork[9:] == (ELSEWHERE, "k", "v9", 5000, None, 0, None, 0)
    assert plain[9:] == (ELSEWHERE, None, None, None, None, 0, None, 0)


def test_replaced_children_stand_in_the_copied_steps(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def child() -> str:
        return "child"

    @api.workflow()
    async def parent() -> Any:
        handle = await api.start(child)
        await api.result(handle)
        return (await verbs.wait_first([handle])).workflow_id

    assert start(parent, "source").get_result() == "source-1"

    async def scenario() -> Any:
        with SetWorkflowID("fork"):
            fork = await verbs.fork_workflow(
                "source", 9, replacement_children={"unknown": "x", "source-1": "other"}
            )
        return await api.result(fork)

    assert api.run(scenario) == "other"

    assert [row[4] for row in app.records("source")] == ["source-1", "source-1", None]
    assert [row[4] for row in app.records("fork")] == ["other", "other", None]


def test_a_fork_receives_only_messages_that_were_sent_to_it(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def receiver() -> Any:
        return await verbs.recv("t", 30)

    handle = start(receiver, "source")
    DBOS.send("source", "first", "t")
    handle.get_result()
    DBOS.send("source", "left over", "t")

    async def scenario() -> Any:
        again = await verbs.fork_workflow("source", 1)
        await verbs.send(again.workflow_id, "new", "t")
        return await api.result(again)

    assert api.run(scenario) == "new"


def test_a_fork_in_a_workflow_is_made_once_and_takes_two_step_ids(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    is_first, dead = app.once(), threading.Event()

    @api.workflow()
    async def source() -> int:
        return 1

    @api.workflow()
    async def forker() -> Any:
        handle = await verbs.fork_workflow("source", 0)
        if is_first():
            app.kill()
            dead.set()
            raise PowerCut
        return handle.workflow_id

    start(source, "source").get_result()
    start(forker, "forker")
    assert dead.wait(30)
    app.launch()

    fork_id = DBOS.get_result("forker")
    assert app.steps("forker") == [(1, "DBOS.forkWorkflow"), (2, "DBOS.getStatus")]
    assert app.rows("SELECT workflow_uuid FROM {workflow_status} WHERE forked_from = 'source'") == [
        (fork_id,)
    ]


def test_an_id_that_is_a_fork_already_is_returned_and_another_one_is_refused(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def worker() -> int:
        return 1

    for workflow_id in ("source", "other"):
        start(worker, workflow_id).get_result()

    async def scenario() -> None:
        for _ in range(2):
            with SetWorkflowID("fork"):
                handle = await verbs.fork_workflow("source", 0, queue_name=ELSEWHERE)
            assert handle.workflow_id == "fork"
        with SetWorkflowID("other"), pytest.raises(DBOSConflictingWorkflowError):
            await verbs.fork_workflow("source", 0)
        with (
            SetWorkflowID("fork", workflow_id_reuse_policy="reject"),
            pytest.raises(DBOSWorkflowIDInUseError),
        ):
            await verbs.fork_workflow("source", 0)

    api.run(scenario)

    assert app.count("workflow_status") == 3


def test_a_fork_that_is_refused_in_a_workflow_is_not_recorded(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def worker() -> None:
        return None

    @api.workflow()
    async def forker() -> None:
        with SetWorkflowID("fork"):
            await verbs.fork_workflow("source", 0, queue_name=ELSEWHERE)
        with (
            SetWorkflowID("fork", workflow_id_reuse_policy="reject"),
            pytest.raises(DBOSWorkflowIDInUseError),
        ):
            await verbs.fork_workflow("source", 0)
        with SetWorkflowID("forker"), pytest.raises(DBOSConflictingWorkflowError):
            await verbs.fork_workflow("source", 0)

    start(worker, "source").get_result()
    start(forker, "forker").get_result()

    assert app.steps("forker") == [(1, "DBOS.forkWorkflow"), (2, "DBOS.getStatus")]


def test_bad_forks_are_refused_and_write_nothing(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.step()
    async def step() -> str:
        # In a step a fork is allowed, and leaves no record.
        handle = await verbs.fork_workflow("worker", 1, queue_name=ELSEWHERE)
        return str(handle.workflow_id)

    @api.workflow()
    async def worker() -> str:
        return str(await step())

    start(worker, "worker").get_result()
    before = app.count("workflow_status")

    async def scenario() -> None:
        with pytest.raises(DBOSNonExistentWorkflowError, match="nobody"):
            await verbs.fork_workflow("nobody", 1)
        for bad in (-1, "1", 1.5, None):
            with pytest.raises(DBOSInvalidInputError, match="start_step"):
                await verbs.fork_workflow("worker", bad)
        for options in (
            {"timeout_seconds": 0},
            {"queue_name": ""},
            {"application_version": ""},
            {"replacement_children": ["a"]},
            {"replacement_children": {"a": 1}},
            {"queue_partition_key": 3},
        ):
            with pytest.raises(DBOSInvalidInputError):
                await verbs.fork_workflow("worker", 1, **options)
        with pytest.raises(DBOSUsageError):
            await verbs.patch("p")

    api.run(scenario)

    assert app.count("workflow_status") == before == 2
    assert app.steps("worker") == [(1, "step")]
