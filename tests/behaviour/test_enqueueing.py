"""Enqueueing: what is stored, under which id, for whom, and what is refused."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from dbos import (
    DBOS,
    Queue,
    SetEnqueueOptions,
    SetWorkflowAttributes,
    SetWorkflowID,
    SetWorkflowTimeout,
    error,
)
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.enqueues import by_name, through_queue, with_options
from tests.behaviour.flavours import Body, Flavour, registered


def echo_of(api: Flavour) -> Body:
    @api.workflow()
    async def echo(value: object) -> object:
        return value

    return echo


def paused(name: str = "tasks", **settings: Any) -> Queue:
    """A queue on which everything waits."""
    return Queue(name, worker_concurrency=0, **settings)


# Ids and records.


def test_an_enqueued_workflow_waits_on_its_queue_for_the_enqueuers_version(
    app: Application, api: Flavour
) -> None:
    queue, echo = paused(), echo_of(api)

    async def scenario() -> Any:
        handle = await through_queue(api, queue, echo, 7)
        return await api.status(handle)

    status = api.run(scenario)

    assert (status.status, status.queue_name) == ("ENQUEUED", "tasks")
    assert status.input == {"args": (7,), "kwargs": {}}
    assert (status.app_version, status.executor_id, status.application_name) == (
        "v1",
        "local",
        "shop",
    )
    assert (status.recovery_attempts, status.priority, status.dequeued_at) == (0, 0, None)
    assert app.column(status.workflow_id, "incarnation_id") is None
    assert app.column(status.workflow_id, "code_hash") is not None


def test_each_enqueue_in_a_workflow_is_one_recorded_step_and_a_child(
    app: Application, api: Flavour
) -> None:
    queue, echo = paused(), echo_of(api)

    @api.workflow()
    async def parent() -> list[str]:
        handles = [
            await through_queue(api, queue, echo, 1),
            await by_name(api, "tasks", echo, 2),
            await with_options(api, {"workflow_name": "echo", "queue_name": "tasks"}, 3),
        ]
        return [handle.workflow_id for handle in handles]

    async def scenario() -> Any:
        with SetWorkflowID("p"):
            return await parent()

    assert api.run(scenario) == ["p-1", "p-2", "p-3"]
    assert [(row[0], row[1], row[2], row[4]) for row in app.records("p")] == [
        (1, "echo", None, "p-1"),
        (2, "echo", None, "p-2"),
        (3, "echo", None, "p-3"),
    ]
    assert [app.column(child, "parent_workflow_id") for child in ("p-1", "p-2", "p-3")] == ["p"] * 3


def test_a_replayed_enqueue_follows_the_same_child(shop: Application, api: Flavour) -> None:
    queue, echo, first = paused(), echo_of(api), shop.once()

    @api.workflow()
    async def parent() -> str:
        handle = await through_queue(api, queue, echo, 1)
        if first():
            shop.cut_power()
        workflow_id: str = handle.workflow_id
        return workflow_id

    async def scenario() -> Any:
        with SetWorkflowID("p"):
            return await parent()

    shop.launch()
    with pytest.raises(PowerCut):
        api.run(scenario)
    shop.launch()

    assert DBOS.retrieve_workflow("p").get_result() == "p-1"
    assert shop.count("workflow_status") == 2


def test_a_set_id_is_used_once_and_an_existing_one_is_followed(
    app: Application, api: Flavour
) -> None:
    queue, echo = paused(), echo_of(api)

    async def scenario() -> Any:
        with SetWorkflowID("mine"):
            first = await through_queue(api, queue, echo, 1)
            other = await through_queue(api, queue, echo, 2)
        with SetWorkflowID("mine"):
            again = await through_queue(api, queue, echo, 3)
        return first.workflow_id, other.workflow_id, again.workflow_id, await api.status(again)

    first, other, again, status = api.run(scenario)

    assert (first, again) == ("mine", "mine")
    assert other != "mine"
    assert status.input == {"args": (1,), "kwargs": {}}


def test_an_id_of_another_function_is_refused_and_of_another_queue_only_warned_of(
    app: Application, api: Flavour, log: pytest.LogCaptureFixture
) -> None:
    queue, echo = paused(), echo_of(api)
    elsewhere = paused("elsewhere")

    @api.workflow()
    async def other(value: object) -> object:
        return value

    async def scenario() -> Any:
        with SetWorkflowID("mine"):
            await through_queue(api, queue, echo, 1)
        with SetWorkflowID("mine"):
            await through_queue(api, elsewhere, echo, 1)
        with (
            SetWorkflowID("mine"),
            pytest.raises(
                error.DBOSConflictingWorkflowError, match="already exists with a different"
            ),
        ):
            await through_queue(api, queue, other, 1)

    api.run(scenario)

    assert app.column("mine", "queue_name") == "tasks"
    assert "asked for on queue elsewhere" in log.text


def test_the_reuse_of_an_id_can_be_refused(app: Application, api: Flavour) -> None:
    queue, echo = paused(), echo_of(api)
    options = {
        "workflow_name": "echo",
        "queue_name": "tasks",
        "workflow_id": "mine",
        "workflow_id_reuse_policy": "reject",
    }

    @api.workflow()
    async def parent() -> str:
        try:
            await with_options(api, options, 2)
        except error.DBOSWorkflowIDInUseError as refused:
            return refused.workflow_id
        return "taken"

    async def scenario() -> Any:
        await with_options(api, options, 1)
        with (
            SetWorkflowID("mine", workflow_id_reuse_policy="reject"),
            pytest.raises(error.DBOSWorkflowIDInUseError),
        ):
            await through_queue(api, queue, echo, 1)
        return await parent()

    assert api.run(scenario) == "mine"


def test_a_step_may_not_enqueue(app: Application, api: Flavour) -> None:
    queue, echo = paused(), echo_of(api)

    @api.step()
    async def step() -> None:
        await through_queue(api, queue, echo, 1)

    @api.workflow()
    async def parent() -> None:
        with pytest.raises(error.DBOSUsageError, match="within a step"):
            await step()

    api.run(parent)

    assert app.count("workflow_status") == 1


def test_only_decorated_functions_can_be_enqueued(app: Application, api: Flavour) -> None:
    queue = paused()

    async def plain() -> None: ...

    async def scenario() -> None:
        with pytest.raises(error.DBOSWorkflowFunctionNotFoundError, match="is not registered"):
            await through_queue(api, queue, plain)

    api.run(scenario)

    assert app.count("workflow_status") == 0


def test_a_step_is_enqueued_under_a_temporary_name(app: Application, api: Flavour) -> None:
    queue = paused()

    @api.step()
    async def charge() -> str:
        return "charged"

    async def scenario() -> Any:
        return (await api.status(await through_queue(api, queue, charge))).name

    assert api.run(scenario) == "<temp>.charge"


def test_arguments_that_cannot_be_stored_enqueue_nothing(app: Application, api: Flavour) -> None:
    queue, echo = paused(), echo_of(api)

    async def scenario() -> None:
        with pytest.raises(error.DBOSSerializationError):
            await through_queue(api, queue, echo, object())

    api.run(scenario)

    assert app.count("workflow_status") == 0


# Options.


def test_the_options_of_a_block_are_stored_and_end_with_it(app: Application, api: Flavour) -> None:
    queue, echo = paused(), echo_of(api)

    async def scenario() -> Any:
        with SetEnqueueOptions(priority=3, deduplication_id="d", app_version="v7"):
            inside = await api.status(await through_queue(api, queue, echo, 1))
            with SetEnqueueOptions(queue_partition_key="k"):
                nested = await api.status(await through_queue(api, queue, echo, 2))
        outside = await api.status(await through_queue(api, queue, echo, 3))
        return inside, nested, outside

    inside, nested, outside = api.run(scenario)

    assert (inside.priority, inside.deduplication_id, inside.app_version) == (3, "d", "v7")
    assert app.column(inside.workflow_id, "code_hash") is None
    assert (nested.priority, nested.deduplication_id, nested.app_version) == (0, None, "v1")
    assert nested.queue_partition_key == "k"
    assert (outside.priority, outside.queue_partition_key) == (0, None)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"priority": 0}, "Invalid priority"),
        ({"priority": 2147483648}, "Invalid priority"),
        ({"delay_seconds": -1}, ">= 0"),
        ({"delay_seconds": float("nan")}, "delay_seconds must be finite"),
        ({"duplication_policy": "ignore"}, "Invalid duplication_policy"),
        ({"deduplication_id": ""}, "deduplication_id"),
        ({"queue_partition_key": "a\0b"}, "NUL"),
    ],
)
def test_an_option_out_of_range_is_refused_at_construction(
    options: dict[str, Any], fragment: str
) -> None:
    with pytest.raises(error.DBOSInvalidInputError, match=fragment):
        SetEnqueueOptions(**options)


def test_a_start_is_not_being_enqueued(app: Application, api: Flavour) -> None:
    echo = echo_of(api)
    every_option = (
        SetEnqueueOptions(deduplication_id="d"),
        SetEnqueueOptions(priority=1),
        SetEnqueueOptions(queue_partition_key="k"),
        SetEnqueueOptions(delay_seconds=0),
    )

    async def scenario() -> Any:
        for options in every_option:
            with options, pytest.raises(error.DBOSException, match="not being enqueued"):
                await api.start(echo, 1)
        with every_option[-1]:
            return await echo("called")

    assert api.run(scenario) == "called"
    assert app.count("workflow_status") == 1


def test_a_start_honours_the_version_alone(app: Application, api: Flavour) -> None:
    echo = echo_of(api)

    async def scenario() -> Any:
        with SetEnqueueOptions(app_version="v9"):
            handle = await api.start(echo, 1)
            called = await echo(2)
        return (await api.status(handle)).app_version, called

    assert api.run(scenario) == ("v9", 2)


def test_a_delay_is_counted_from_the_making_of_the_option(app: Application, api: Flavour) -> None:
    queue, echo = paused(), echo_of(api)

    async def scenario() -> Any:
        options = SetEnqueueOptions(delay_seconds=100)
        with options:
            first = await api.status(await through_queue(api, queue, echo, 1))
        with options:
            second = await api.status(await through_queue(api, queue, echo, 2))
        return first, second

    first, second = api.run(scenario)

    assert (first.status, second.status) == ("DELAYED", "DELAYED")
    assert first.delay_until_epoch_ms == second.delay_until_epoch_ms
    assert first.delay_until_epoch_ms <= first.created_at + 100_000


def test_a_timeout_is_stored_without_a_deadline_and_a_parents_deadline_is_inherited(
    app: Application, api: Flavour
) -> None:
    queue, echo = paused(), echo_of(api)

    @api.workflow()
    async def parent() -> Any:
        inherited = await through_queue(api, queue, echo, 1)
        with SetWorkflowTimeout(50):
            own = await through_queue(api, queue, echo, 2)
        with SetWorkflowTimeout(None):
            detached = await through_queue(api, queue, echo, 3)
        return [handle.workflow_id for handle in (inherited, own, detached)]

    async def scenario() -> Any:
        with SetWorkflowTimeout(100), SetWorkflowID("p"):
            return await parent()

    api.run(scenario)
    columns = "workflow_timeout_ms, workflow_deadline_epoch_ms"
    [(_, deadline)] = app.rows(
        f"SELECT {columns} FROM {{workflow_status}} WHERE workflow_uuid = ?", "p"
    )

    assert deadline is not None
    assert [
        app.rows(f"SELECT {columns} FROM {{workflow_status}} WHERE workflow_uuid = ?", child)[0]
        for child in ("p-1", "p-2", "p-3")
    ] == [(None, deadline), (50_000, None), (None, None)]


# By name, with options.


def test_a_workflow_named_by_text_goes_to_the_latest_version(
    app: Application, api: Flavour
) -> None:
    async def scenario() -> Any:
        options = {"workflow_name": "elsewhere", "queue_name": "tasks", "priority": None}
        handle = await with_options(api, options, 1, two=2)
        assert options == {"workflow_name": "elsewhere", "queue_name": "tasks", "priority": None}
        return await api.status(handle)

    status = api.run(scenario)

    assert (status.name, status.app_version, status.status) == ("elsewhere", None, "ENQUEUED")
    assert status.input == {"args": (1,), "kwargs": {"two": 2}}


def test_every_option_is_stored(app: Application, api: Flavour) -> None:
    options = {
        "workflow_name": "job",
        "queue_name": "tasks",
        "workflow_id": "mine",
        "app_version": "v3",
        "workflow_timeout": 5,
        "delay_seconds": 60,
        "priority": 4,
        "queue_partition_key": "k",
        "authenticated_user": "ann",
        "authenticated_roles": ["admin"],
        "class_name": "Jobs",
        "instance_name": "one",
        "attributes": {"a": 1, "b": 2},
        "application_name": "other",
        "max_recovery_attempts": 3,
    }

    async def scenario() -> Any:
        with SetWorkflowAttributes({"b": 0, "c": 3}):
            return await api.status(await with_options(api, options))

    status = api.run(scenario)

    assert {
        "workflow_id": "mine",
        "status": "DELAYED",
        "app_version": "v3",
        "workflow_timeout_ms": 5000,
        "workflow_deadline_epoch_ms": None,
        "priority": 4,
        "queue_partition_key": "k",
        "authenticated_user": "ann",
        "authenticated_roles": ["admin"],
        "class_name": "Jobs",
        "config_name": "one",
        "attributes": {"a": 1, "b": 2, "c": 3},
        "application_name": "other",
    }.items() <= vars(status).items()


def test_unset_options_fall_back_to_the_ambient_blocks(app: Application, api: Flavour) -> None:
    async def scenario() -> Any:
        with SetWorkflowID("ambient"), SetEnqueueOptions(priority=2, app_version="v2"):
            options = {"workflow_name": "job", "queue_name": "tasks", "app_version": "v5"}
            return await api.status(await with_options(api, options))

    status = api.run(scenario)

    assert (status.workflow_id, status.priority, status.app_version) == ("ambient", 2, "v5")


IMPOSSIBLE: tuple[tuple[dict[str, Any], str], ...] = (
    ({"dedupication_id": "d"}, "no key dedupication_id; there are .*deduplication_id"),
    ({"queue_name": None}, "queue_name"),
    ({"workflow_name": None}, "workflow_name"),
    ({"queue_name": "_dbos_internal_queue"}, "_dbos_"),
    ({"priority": -1}, "Invalid priority"),
    ({"workflow_id": " "}, "workflow IDs must be non-empty"),
    ({"duplication_policy": "maybe"}, "Invalid duplication_policy"),
    ({"duplication_policy": "return-existing"}, "requires a deduplication_id"),
    ({"workflow_timeout": 0}, "Timeouts must be positive"),
    ({"attributes": [1]}, "must be a dict"),
    ({"serialization_type": "portable"}, "WorkflowSerializationFormat"),
    ({"deduplication_id": "d", "queue_partition_key": "k"}, "not supported for partitioned"),
)


def test_options_that_cannot_be_are_refused_before_anything_is_written(
    app: Application, api: Flavour
) -> None:
    async def scenario() -> None:
        for changes, fragment in IMPOSSIBLE:
            options = {"workflow_name": "job", "queue_name": "tasks", **changes}
            with pytest.raises(error.DBOSException, match=fragment):
                await with_options(api, options)

    api.run(scenario)

    assert app.count("workflow_status") == 0


# Partition keys.


def test_the_partition_key_is_an_option_unless_the_function_takes_it(
    app: Application, api: Flavour
) -> None:
    queue, echo = paused(), echo_of(api)

    @api.workflow()
    async def keyed(partition_key: str) -> str:
        return partition_key

    @api.workflow()
    async def open_to_all(**others: str) -> dict[str, str]:
        return others

    async def scenario() -> Any:
        with SetEnqueueOptions(queue_partition_key="ambient"):
            handles = [
                await through_queue(api, queue, echo, 1, partition_key="k"),
                await by_name(api, "tasks", echo, 1, partition_key="k"),
                await through_queue(api, queue, echo, 1, partition_key=None),
                await through_queue(api, queue, echo, 1),
                await through_queue(api, queue, keyed, partition_key="argument"),
                await through_queue(api, queue, open_to_all, partition_key="argument"),
            ]
        return [await api.status(handle) for handle in handles]

    statuses = api.run(scenario)

    assert [status.queue_partition_key for status in statuses] == [
        "k",
        "k",
        None,
        "ambient",
        "ambient",
        "ambient",
    ]
    assert [status.input["kwargs"] for status in statuses] == [
        *[{}] * 4,
        *[{"partition_key": "argument"}] * 2,
    ]


def test_a_partitioned_queue_needs_a_key(app: Application, api: Flavour) -> None:
    queue, echo = Queue("parts", partition_concurrency=1), echo_of(api)
    stored = DBOS.register_queue("stored-parts", partition_queue=True)

    async def scenario() -> Any:
        for each in (queue, stored):
            with pytest.raises(error.DBOSException, match="without a partition key"):
                await through_queue(api, each, echo, 1)
            await through_queue(api, each, echo, 1, partition_key="k")
        await by_name(api, "parts", echo, 1)

    api.run(scenario)

    assert app.count("workflow_status") == 3


# Queues that nobody serves.


def test_a_queue_that_nobody_serves_is_warned_of_once(
    app: Application, api: Flavour, log: pytest.LogCaptureFixture
) -> None:
    echo = echo_of(api)
    paused("declared")
    DBOS.register_queue("registered", worker_concurrency=0)
    log.set_level(logging.WARNING, logger="dbos")

    async def scenario() -> None:
        for name in ("nowhere", "nowhere", "declared", "registered"):
            await by_name(api, name, echo, 1)

    api.run(scenario)

    warnings = [record.getMessage() for record in log.records if "is not served" in record.msg]
    assert len(warnings) == 1
    assert warnings[0].startswith("Queue nowhere is not served by any process")


def test_a_queue_that_another_process_serves_is_not_warned_of(
    app: Application, api: Flavour, log: pytest.LogCaptureFixture
) -> None:
    echo = echo_of(api)
    app.change(
        "INSERT INTO {perdure_executors} (incarnation_id, executor_id, application_version,"
        " version_policy, host, pid, process_started, lease_ms, lease_until_epoch_ms,"
        " started_at_epoch_ms, capabilities)"
        " VALUES ('peer', 'peer', 'v1', 'compatible', 'h', 1, '', 60000, 9999999999999, 1, ?)",
        '{"queues": ["theirs"]}',
    )

    async def scenario() -> None:
        await by_name(api, "theirs", echo, 1)

    api.run(scenario)

    assert "is not served" not in log.text


def test_enqueue_may_block_a_running_loop(app: Application) -> None:
    queue = paused()

    @DBOS.workflow()
    async def job() -> None: ...

    async def scenario() -> Any:
        return queue.enqueue(job).workflow_id

    assert app.column(asyncio.run(scenario()), "status") == "ENQUEUED"


def test_enqueueing_before_launch_is_refused(shop: Application, api: Flavour) -> None:
    queue, echo = paused(), echo_of(api)

    with pytest.raises(error.DBOSException, match="No DBOS was created yet"):
        queue.enqueue(registered(echo), 1)
