"""What was enqueued runs: from queues of either kind, when and where it may."""

from __future__ import annotations

from typing import Any

import pytest

from dbos import DBOS, Queue, SetEnqueueOptions, SetWorkflowTimeout
from dbos.error import DBOSAwaitedWorkflowCancelledError
from tests.behaviour.application import Application
from tests.behaviour.enqueues import by_name, call, through_queue, with_options
from tests.behaviour.flavours import Flavour
from tests.behaviour.test_enqueueing import echo_of


def test_every_way_to_enqueue_runs_the_workflow(app: Application, api: Flavour) -> None:
    queue, echo = Queue("tasks"), echo_of(api)

    @api.step()
    async def charge(amount: int) -> int:
        return amount + 1

    @api.workflow()
    async def parent() -> list[Any]:
        handles = [
            await through_queue(api, queue, echo, 1),
            await by_name(api, "tasks", echo, 2),
            await with_options(api, {"workflow_name": "echo", "queue_name": "tasks"}, 3),
            await through_queue(api, queue, charge, 4),
        ]
        return [await api.result(handle) for handle in handles]

    async def scenario() -> Any:
        outside = await through_queue(api, queue, echo, 0)
        return [await api.result(outside), *await parent()]

    assert api.run(scenario) == [0, 1, 2, 3, 5]


def test_a_registered_queue_is_served_at_once_and_follows_its_settings(
    app: Application, api: Flavour
) -> None:
    echo = echo_of(api)

    async def scenario() -> Any:
        queue = await call(api, "register_queue", "tasks", worker_concurrency=0)
        waiting = await through_queue(api, queue, echo, 1)
        before = (await api.status(waiting)).status
        if api.is_async:
            await queue.set_worker_concurrency_async(1)
        else:
            queue.set_worker_concurrency(1)
        return before, await api.result(waiting)

    assert api.run(scenario) == ("ENQUEUED", 1)


def test_what_waits_on_an_unknown_queue_runs_once_it_is_declared_or_registered(
    app: Application, api: Flavour
) -> None:
    echo = echo_of(api)

    async def scenario() -> Any:
        handles = [
            await by_name(api, "later-declared", echo, 1),
            await by_name(api, "later-registered", echo, 2),
        ]
        statuses = [(await api.status(handle)).status for handle in handles]
        Queue("later-declared")
        await call(api, "register_queue", "later-registered")
        return statuses, [await api.result(handle) for handle in handles]

    assert api.run(scenario) == (["ENQUEUED", "ENQUEUED"], [1, 2])


def test_a_process_serves_only_what_it_listens_to_and_still_ends_delays(
    shop: Application, api: Flavour
) -> None:
    heard, unheard, echo = Queue("heard"), Queue("unheard"), echo_of(api)
    DBOS.listen_queues([heard])
    shop.launch()

    async def scenario() -> Any:
        waiting = await through_queue(api, unheard, echo, 1)
        with SetEnqueueOptions(delay_seconds=0.05):
            delayed = await through_queue(api, unheard, echo, 2)
        with SetEnqueueOptions(delay_seconds=0.1):
            served = await through_queue(api, heard, echo, 3)
        result = await api.result(served)
        return result, [(await api.status(handle)).status for handle in (waiting, delayed)]

    assert api.run(scenario) == (3, ["ENQUEUED", "ENQUEUED"])


def test_a_delayed_run_starts_when_its_delay_is_over(app: Application, api: Flavour) -> None:
    queue, echo = Queue("tasks"), echo_of(api)

    async def scenario() -> Any:
        with SetEnqueueOptions(delay_seconds=0.5):
            handle = await through_queue(api, queue, echo, 1)
        before = await api.status(handle)
        await api.result(handle)
        return before, await api.status(handle)

    before, after = api.run(scenario)

    assert (before.status, after.status) == ("DELAYED", "SUCCESS")
    assert after.dequeued_at >= before.delay_until_epoch_ms
    assert after.created_at == before.created_at


def test_the_deadline_of_a_queued_run_is_set_when_it_starts(app: Application, api: Flavour) -> None:
    queue, echo = Queue("tasks"), echo_of(api)

    async def scenario() -> Any:
        with SetWorkflowTimeout(100):
            handle = await through_queue(api, queue, echo, 1)
        await api.result(handle)
        return await api.status(handle)

    status = api.run(scenario)

    # The statement may read the clock for each of them anew.
    assert status.workflow_deadline_epoch_ms - status.dequeued_at - 100_000 in range(50)


def test_a_queued_child_that_never_starts_is_cancelled_at_its_inherited_deadline(
    app: Application, api: Flavour
) -> None:
    paused, echo = Queue("paused", worker_concurrency=0), echo_of(api)

    @api.workflow()
    async def parent() -> str:
        handle = await through_queue(api, paused, echo, 1)
        return str(handle.workflow_id)

    async def scenario() -> Any:
        with SetWorkflowTimeout(0.5):
            child = await parent()
        with pytest.raises(DBOSAwaitedWorkflowCancelledError):
            await api.result_of(child)
        return child

    child = api.run(scenario)

    late_ms = app.column(child, "completed_at") - app.column(child, "workflow_deadline_epoch_ms")
    assert 0 <= late_ms < 4_000


def test_a_deduplication_id_is_free_once_its_holder_has_ended(
    app: Application, api: Flavour
) -> None:
    queue, echo = Queue("tasks"), echo_of(api)

    async def scenario() -> Any:
        with SetEnqueueOptions(deduplication_id="d"):
            first = await through_queue(api, queue, echo, 1)
            await api.result(first)
            return await api.result(await through_queue(api, queue, echo, 2))

    assert api.run(scenario) == 2
