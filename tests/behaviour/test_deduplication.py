"""Deduplication ids: one holder at a time, refusals that are remembered, and holders followed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos import DBOS, Queue, SetEnqueueOptions, SetWorkflowID, error
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.enqueues import through_queue, with_options
from tests.behaviour.flavours import Flavour
from tests.behaviour.test_enqueueing import echo_of, paused


def test_a_held_id_refuses_another_workflow_on_the_same_queue(
    app: Application, api: Flavour
) -> None:
    queue, other, echo = paused(), paused("other"), echo_of(api)

    async def scenario() -> Any:
        with SetEnqueueOptions(deduplication_id="d"):
            await through_queue(api, queue, echo, 1)
            with SetWorkflowID("second"), pytest.raises(error.DBOSQueueDeduplicatedError) as caught:
                await through_queue(api, queue, echo, 2)
            await through_queue(api, other, echo, 3)
        return caught.value

    refused = api.run(scenario)

    assert (refused.workflow_id, refused.queue_name, refused.deduplication_id) == (
        "second",
        "tasks",
        "d",
    )
    assert app.count("workflow_status") == 2


def test_the_same_workflow_id_never_collides_with_itself(app: Application, api: Flavour) -> None:
    queue, echo = paused(), echo_of(api)

    async def scenario() -> Any:
        ids: list[str] = []
        for value in (1, 2):
            with SetWorkflowID("same"), SetEnqueueOptions(deduplication_id="d"):
                ids.append((await through_queue(api, queue, echo, value)).workflow_id)
        return ids

    assert api.run(scenario) == ["same", "same"]


def test_the_holder_is_followed_if_the_policy_says_so(app: Application, api: Flavour) -> None:
    queue, echo = paused(), echo_of(api)

    async def scenario() -> Any:
        with SetEnqueueOptions(deduplication_id="d", duplication_policy="return-existing"):
            first = await through_queue(api, queue, echo, 1)
            second = await through_queue(api, queue, echo, 2)
        return first.workflow_id, second.workflow_id

    first, second = api.run(scenario)

    assert first == second
    assert app.count("workflow_status") == 1


def test_a_cancelled_workflow_gives_its_id_back(app: Application, api: Flavour) -> None:
    queue, echo = paused(), echo_of(api)

    async def scenario() -> Any:
        options = {"workflow_name": "echo", "queue_name": "tasks", "deduplication_id": "d"}
        first = await with_options(api, options, 1)
        app.change(
            "UPDATE {workflow_status} SET status = 'CANCELLED', deduplication_id = NULL,"
            " queue_name = NULL WHERE workflow_uuid = ?",
            first.workflow_id,
        )
        with SetEnqueueOptions(deduplication_id="d"):
            return (await api.status(await through_queue(api, queue, echo, 2))).status

    assert api.run(scenario) == "ENQUEUED"


def test_a_refusal_in_a_workflow_is_raised_again_on_replay_though_the_id_is_free(
    shop: Application, api: Flavour
) -> None:
    queue, echo, first = paused(), echo_of(api), shop.once()

    @api.workflow()
    async def parent() -> str:
        try:
            with SetEnqueueOptions(deduplication_id="d"):
                await through_queue(api, queue, echo, 2)
        except error.DBOSQueueDeduplicatedError as refused:
            if first():
                shop.change("DELETE FROM {workflow_status} WHERE workflow_uuid = 'holder'")
                shop.cut_power()
            return refused.workflow_id
        return "enqueued"

    async def scenario() -> Any:
        with SetWorkflowID("holder"), SetEnqueueOptions(deduplication_id="d"):
            await through_queue(api, queue, echo, 1)
        with SetWorkflowID("p"):
            return await parent()

    shop.launch()
    with pytest.raises(PowerCut):
        api.run(scenario)
    shop.launch()

    assert DBOS.retrieve_workflow("p").get_result() == "p-1"
    [(step, name, output, recorded, child)] = shop.records("p")
    assert (step, name, output, child) == (1, "echo", None, None)
    assert "DBOSQueueDeduplicatedError" in recorded


def test_a_followed_holder_is_recorded_as_the_child(app: Application, api: Flavour) -> None:
    queue, echo = paused(), echo_of(api)

    @api.workflow()
    async def parent() -> str:
        with SetEnqueueOptions(deduplication_id="d", duplication_policy="return-existing"):
            workflow_id: str = (await through_queue(api, queue, echo, 2)).workflow_id
        return workflow_id

    async def scenario() -> Any:
        with SetWorkflowID("holder"), SetEnqueueOptions(deduplication_id="d"):
            await through_queue(api, queue, echo, 1)
        with SetWorkflowID("p"):
            return await parent()

    assert api.run(scenario) == "holder"
    assert [(row[1], row[4]) for row in app.records("p")] == [("echo", "holder")]


def test_of_many_enqueues_at_once_one_wins_each_id_and_no_neighbour_fails(
    app: Application,
) -> None:
    queue = paused()

    @DBOS.workflow()
    async def job(number: int) -> int:
        return number

    async def attempt(number: int) -> Any:
        with SetEnqueueOptions(deduplication_id=f"d{number % 3}" if number % 4 else None):
            try:
                return await queue.enqueue_async(job, number)
            except error.DBOSQueueDeduplicatedError:
                return None

    async def scenario() -> list[Any]:
        return await asyncio.gather(*(attempt(number) for number in range(48)))

    handles = asyncio.run(scenario())

    assert sum(handle is not None for handle in handles[::4]) == 12
    assert sum(handle is not None for handle in handles) == 15
    assert app.count("workflow_status") == 15


def test_deduplication_and_a_partition_key_exclude_each_other(
    app: Application, api: Flavour
) -> None:
    queue, echo = Queue("parts", partition_concurrency=1), echo_of(api)
    fragment = "Deduplication is not supported for partitioned queues"

    async def scenario() -> None:
        both = SetEnqueueOptions(deduplication_id="d", queue_partition_key="k")
        with both, pytest.raises(error.DBOSException, match=fragment):
            await through_queue(api, queue, echo, 1)
        one = SetEnqueueOptions(deduplication_id="d")
        with one, pytest.raises(error.DBOSException, match=fragment):
            await through_queue(api, queue, echo, 1, partition_key="k")

    api.run(scenario)

    assert app.count("workflow_status") == 0


def test_following_a_holder_needs_a_queue_and_an_id(app: Application, api: Flavour) -> None:
    queue, echo = paused(), echo_of(api)

    async def scenario() -> None:
        with SetEnqueueOptions(duplication_policy="return-existing"):
            with pytest.raises(error.DBOSException, match="requires a queue"):
                await api.start(echo, 1)
            with pytest.raises(error.DBOSException, match="requires a deduplication_id"):
                await through_queue(api, queue, echo, 1)

    api.run(scenario)

    assert app.count("workflow_status") == 0
