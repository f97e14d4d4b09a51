"""Debouncing: many calls for a key become one run, with the arguments of the last."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos import (
    DBOS,
    DBOSClient,
    Debouncer,
    DebouncerClient,
    EnqueueOptions,
    Queue,
    SetEnqueueOptions,
    SetWorkflowID,
    SetWorkflowTimeout,
)
from dbos.error import (
    DBOSException,
    DBOSInvalidInputError,
    DBOSQueueDeduplicatedError,
    DBOSTypeError,
    DBOSWorkflowFunctionNotFoundError,
)
from tests.behaviour.application import Application

LONG_S = 3600.0


@pytest.fixture
def ran(app: Application) -> list[tuple[Any, ...]]:
    """What the debounced workflow `work` was called with, each time it ran."""
    ran: list[tuple[Any, ...]] = []

    @DBOS.workflow(name="work")
    def work(*args: Any) -> tuple[Any, ...]:
        ran.append(args)
        return args

    return ran


def finish(*workflow_ids: str) -> None:
    """End the delays, and wait for the runs."""
    for workflow_id in workflow_ids:
        DBOS.set_workflow_delay(workflow_id, delay_seconds=0)
        DBOS.get_result(workflow_id)


def test_the_last_arguments_of_a_key_win_and_keys_are_apart(
    ran: list[tuple[Any, ...]],
) -> None:
    debouncer: Debouncer[..., Any] = Debouncer("work")

    first = debouncer.debounce("a", LONG_S, 1)
    second = debouncer.debounce("a", LONG_S, 2)
    other = debouncer.debounce("b", LONG_S, 3)
    finish(first.workflow_id, other.workflow_id)

    assert first.workflow_id == second.workflow_id != other.workflow_id
    assert sorted(ran) == [(2,), (3,)]


def test_a_call_moves_the_due_time_either_way_and_the_timeout_caps_it(
    app: Application, ran: list[tuple[Any, ...]]
) -> None:
    debouncer: Debouncer[..., Any] = Debouncer("work", debounce_timeout_sec=LONG_S)

    run = debouncer.debounce("a", LONG_S * 9, 1).workflow_id
    capped = app.column(run, "delay_until_epoch_ms")
    debouncer.debounce("a", LONG_S * 9, 1)
    still_capped = app.column(run, "delay_until_epoch_ms")
    debouncer.debounce("a", 60, 2)
    earlier = app.column(run, "delay_until_epoch_ms")

    assert capped == still_capped == app.column(run, "debounce_deadline_epoch_ms")
    assert earlier < capped
    assert ran == []


def test_once_due_the_key_is_free(app: Application, ran: list[tuple[Any, ...]]) -> None:
    debouncer: Debouncer[..., Any] = Debouncer("work")

    first = debouncer.debounce("a", 0, 1)
    first.get_result()
    second = debouncer.debounce("a", LONG_S, 2)
    DBOS.cancel_workflow(second.workflow_id)
    third = debouncer.debounce("a", 0, 3)
    third.get_result()

    assert len({first.workflow_id, second.workflow_id, third.workflow_id}) == 3
    assert ran == [(1,), (3,)]


def test_a_key_that_something_else_holds_is_refused(
    app: Application, ran: list[tuple[Any, ...]]
) -> None:
    queue = Queue("never", worker_concurrency=0)
    with SetEnqueueOptions(deduplication_id="work-a"):
        DBOS.enqueue_workflow_with_options(
            {"workflow_name": "work", "queue_name": queue.name, "deduplication_id": "work-a"}
        )

    debouncer: Debouncer[..., Any] = Debouncer("work", queue=queue)
    with pytest.raises(DBOSQueueDeduplicatedError):
        debouncer.debounce("a", LONG_S, 1)


def test_the_key_is_passed_only_where_the_arguments_lack_it(app: Application) -> None:
    @DBOS.workflow(name="takes")
    def takes(user: str, text: str) -> tuple[str, str]:
        return user, text

    debouncer = Debouncer.create(takes)
    lacking = debouncer.debounce("ann", 0, "hello").get_result()
    whole = debouncer.debounce("ann", 0, "bob", "hello").get_result()
    neither = debouncer.debounce("ann", 0, 1, 2, 3)

    assert lacking == ("ann", "hello")
    assert whole == ("bob", "hello")
    with pytest.raises(TypeError):
        neither.get_result()


@pytest.mark.parametrize(
    "options",
    [
        {"deduplication_id": "x"},
        {"delay_seconds": 1},
        {"priority": 1},
        {"queue_partition_key": "k"},
        {"deduplication_id": "x", "duplication_policy": "return-existing"},
    ],
)
def test_options_that_a_debounced_run_cannot_have_are_refused(
    ran: list[tuple[Any, ...]], options: dict[str, Any]
) -> None:
    debouncer: Debouncer[..., Any] = Debouncer("work")

    with (
        SetEnqueueOptions(**options),
        pytest.raises(DBOSException, match="Cannot debounce a workflow with"),
    ):
        debouncer.debounce("a", 1)


def test_bad_debouncers_and_calls_are_refused(ran: list[tuple[Any, ...]]) -> None:
    class Holder:
        @DBOS.workflow()
        def method(self) -> None:
            return None

    def plain() -> None:
        return None

    nameless: Debouncer[..., Any] = Debouncer("")
    queueless: Debouncer[..., Any] = Debouncer("work", queue="")
    debouncer: Debouncer[..., Any] = Debouncer("work")

    with pytest.raises(DBOSTypeError, match="not methods"):
        Debouncer.create(Holder().method)
    with pytest.raises(DBOSWorkflowFunctionNotFoundError):
        Debouncer.create(plain)
    for bad in (nameless, Debouncer("unknown"), Debouncer("unknown", application_name="other")):
        with pytest.raises(DBOSException, match="Invalid workflow name provided to debouncer"):
            bad.debounce("a", 1)
    for bad in (queueless, Debouncer("work", queue="unknown")):
        with pytest.raises(DBOSException, match="Invalid queue name provided to debouncer"):
            bad.debounce("a", 1)
    for key, period in (("", 1.0), ("a", -1.0), ("a", float("nan"))):
        with pytest.raises(DBOSInvalidInputError):
            debouncer.debounce(key, period)
    assert DBOS.list_workflows() == []


def test_id_and_timeout_are_those_of_the_call(app: Application, ran: list[tuple[Any, ...]]) -> None:
    debouncer: Debouncer[..., Any] = Debouncer("work")

    with SetWorkflowID("mine"), SetWorkflowTimeout(100):
        fresh = debouncer.debounce("a", LONG_S, 1)
    with SetWorkflowID("unused"):
        joined = debouncer.debounce("a", LONG_S, 2)

    assert fresh.workflow_id == joined.workflow_id == "mine"
    assert app.column("mine", "workflow_timeout_ms") == 100_000
    assert app.column("mine", "workflow_deadline_epoch_ms") is None


def test_in_a_workflow_the_attempt_and_a_new_run_are_recorded_and_replayed(
    app: Application, ran: list[tuple[Any, ...]]
) -> None:
    debouncer: Debouncer[..., Any] = Debouncer("work")

    @DBOS.workflow(name="caller")
    def caller() -> list[str]:
        made = debouncer.debounce("a", LONG_S, 1).workflow_id
        return [made, debouncer.debounce("a", LONG_S, 2).workflow_id]

    with SetWorkflowID("caller"):
        first = caller()
    due = app.column("caller-2", "delay_until_epoch_ms")
    app.change("UPDATE {workflow_status} SET status = 'PENDING' WHERE workflow_uuid = 'caller'")
    app.kill()
    app.launch()

    assert DBOS.get_result("caller") == first == ["caller-2", "caller-2"]
    assert app.steps("caller") == [
        (1, "DBOS.debounce_delayed_workflow"),
        (2, "work"),
        (3, "DBOS.debounce_delayed_workflow"),
    ]
    assert app.column("caller-2", "delay_until_epoch_ms") == due


def test_the_async_twin_does_the_same(ran: list[tuple[Any, ...]]) -> None:
    debouncer: Debouncer[..., Any] = Debouncer("work")

    async def scenario() -> tuple[str, str, Any]:
        first = await debouncer.debounce_async("a", LONG_S, 1)
        second = await debouncer.debounce_async("a", 0, 2)
        return first.workflow_id, second.workflow_id, await second.get_result()

    first, second, result = asyncio.run(scenario())

    assert first == second
    assert result == (2,)


def test_a_client_debounces_by_name(app: Application, ran: list[tuple[Any, ...]]) -> None:
    client = DBOSClient(system_database_url=app.database_url, application_name="shop")
    debouncer = DebouncerClient(
        client, {"workflow_name": "work", "queue_name": "_dbos_internal_queue"}, queue="jobs"
    )
    Queue("jobs")
    try:
        first = debouncer.debounce("a", LONG_S, 1)
        second = debouncer.debounce("a", 0, 2)
        result = second.get_result()
    finally:
        client.destroy()

    assert first.workflow_id == second.workflow_id
    assert result == (2,)


def test_a_client_without_a_name_joins_the_run_of_an_application_and_another_one_does_not(
    app: Application, ran: list[tuple[Any, ...]]
) -> None:
    Queue("jobs", worker_concurrency=0)
    debouncer: Debouncer[..., Any] = Debouncer("work", queue="jobs")
    nameless = DBOSClient(system_database_url=app.database_url)
    other = DBOSClient(system_database_url=app.database_url, application_name="other")
    work: EnqueueOptions = {"workflow_name": "work", "queue_name": "jobs"}
    try:
        first = debouncer.debounce("a", LONG_S, 1)
        joined = DebouncerClient(nameless, work).debounce("a", LONG_S, 2)
        with pytest.raises(DBOSQueueDeduplicatedError):
            DebouncerClient(other, work).debounce("a", LONG_S, 3)
    finally:
        nameless.destroy()
        other.destroy()

    assert joined.workflow_id == first.workflow_id


def test_a_client_refuses_options_that_a_debounced_run_cannot_have(app: Application) -> None:
    client = DBOSClient(system_database_url=app.database_url)
    refused: list[dict[str, Any]] = [
        {"workflow_id_reuse_policy": "reject"},
        {"duplication_policy": "return-existing"},
        {"delay_seconds": 0},
        {"priority": 1},
    ]
    try:
        for options in refused:
            work: Any = {"workflow_name": "work", "queue_name": "jobs"} | options
            with pytest.raises(DBOSException, match="Cannot debounce a workflow with"):
                DebouncerClient(client, work).debounce("a", 1)
    finally:
        client.destroy()

    assert app.count("workflow_status") == 0


def test_a_sync_call_under_a_running_loop_debounces_as_it_enqueues(
    ran: list[tuple[Any, ...]],
) -> None:
    debouncer: Debouncer[..., Any] = Debouncer("work")

    async def scenario() -> tuple[str, str]:
        first = debouncer.debounce("a", LONG_S, 1)
        return first.workflow_id, debouncer.debounce("a", LONG_S, 2).workflow_id

    first, second = asyncio.run(scenario())

    assert first == second


def test_a_partitioned_queue_is_refused_and_any_other_known_one_is_taken(
    ran: list[tuple[Any, ...]],
) -> None:
    Queue("declared", partition_concurrency=1)
    DBOS.register_queue("registered", partition_queue=True, concurrency=1)
    DBOS.register_queue("plain")

    for name in ("declared", "registered"):
        debouncer: Debouncer[..., Any] = Debouncer("work", queue=name)
        with pytest.raises(DBOSException, match="without a partition key"):
            debouncer.debounce("a", LONG_S, 1)
    plain: Debouncer[..., Any] = Debouncer("work", queue="plain")

    assert plain.debounce("a", 0, 1).get_result() == (1,)


def test_a_bad_queue_is_refused_in_a_workflow_and_recorded_calls_do_not_ask_again(
    app: Application, ran: list[tuple[Any, ...]]
) -> None:
    debouncer: Debouncer[..., Any] = Debouncer("work", queue="brief")

    @DBOS.workflow(name="caller")
    def caller() -> str:
        return debouncer.debounce("a", LONG_S, 1).workflow_id

    with pytest.raises(DBOSException, match="Invalid queue name provided to debouncer"):
        caller()
    DBOS.register_queue("brief")
    with SetWorkflowID("caller"):
        made = caller()
    DBOS.delete_queue("brief")
    app.change("UPDATE {workflow_status} SET status = 'PENDING' WHERE workflow_uuid = 'caller'")
    app.kill()
    app.launch()

    assert DBOS.get_result("caller") == made == "caller-2"


def test_the_run_of_another_application_is_of_its_latest_version(
    app: Application, ran: list[tuple[Any, ...]]
) -> None:
    theirs: Debouncer[..., Any] = Debouncer("work", application_name="other")

    run = theirs.debounce("a", LONG_S, 1).workflow_id
    with SetEnqueueOptions(app_version="v7"):
        chosen = theirs.debounce("b", LONG_S, 1).workflow_id

    assert app.column(run, "application_name") == "other"
    assert app.column(run, "application_version") is None
    assert app.column(chosen, "application_version") == "v7"
