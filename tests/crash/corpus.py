"""The workflows whose crashes are explored: one entry for each way of using the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from dbos import DBOS, SetWorkflowID

Scenario = Callable[[], Any]
CORPUS: dict[str, Scenario] = {}


class Declined(Exception):
    """An error of the application."""


def entry(scenario: Scenario) -> Scenario:
    """Add a scenario to the corpus, under its own name."""
    CORPUS[scenario.__name__] = scenario
    return scenario


# Steps that the workflows share.


@DBOS.step()
def add(left: int, right: int) -> int:
    return left + right


@DBOS.step()
async def add_async(left: int, right: int) -> int:
    return left + right


@DBOS.step()
async def add_late(left: int, right: int) -> int:
    """Lets other tasks of the loop go first."""
    for _ in range(right % 3):
        await asyncio.sleep(0)
    return left + right


@DBOS.step()
def decline(reason: str) -> int:
    raise Declined(reason)


@DBOS.step()
async def decline_async(reason: str) -> int:
    raise Declined(reason)


def attempt_number() -> int:
    status = DBOS.step_status
    assert status is not None
    assert status.current_attempt is not None
    return status.current_attempt


@DBOS.step(retries_allowed=True, interval_seconds=0.001, max_attempts=3)
def flaky(value: int) -> int:
    if attempt_number() < 2:
        raise Declined("not yet")
    return value


@DBOS.step(retries_allowed=True, interval_seconds=0.001, max_attempts=3)
async def flaky_async(value: int) -> int:
    if attempt_number() < 1:
        raise Declined("not yet")
    return value


@DBOS.step(retries_allowed=True, interval_seconds=0.001, max_attempts=2)
def hopeless() -> int:
    raise Declined("never")


def double(value: int) -> int:
    return 2 * value


# Steps one after the other.


@DBOS.workflow()
def sum_of_steps(count: int) -> int:
    total = 0
    for number in range(count):
        total = add(total, number)
    return total


@entry
def steps_in_sequence() -> int:
    with SetWorkflowID("sequence"):
        return sum_of_steps(4)


@DBOS.workflow()
async def sum_of_async_steps(count: int) -> int:
    total = 0
    for number in range(count):
        total = await add_async(total, number)
    return total


@entry
async def async_steps_in_sequence() -> int:
    with SetWorkflowID("async-sequence"):
        return await sum_of_async_steps(3)


@DBOS.workflow()
def steps_with_retries() -> list[int]:
    return [flaky(1), add(2, 3), flaky(4)]


@entry
def retries() -> list[int]:
    with SetWorkflowID("retries"):
        return steps_with_retries()


@DBOS.workflow()
async def async_steps_with_retries() -> list[int]:
    return [await flaky_async(1), await add_async(2, 3)]


@entry
async def async_retries() -> list[int]:
    with SetWorkflowID("async-retries"):
        return await async_steps_with_retries()


@DBOS.workflow()
def functions_as_steps() -> list[int]:
    first = DBOS.run_step({"name": "twice"}, double, 4)
    return [first, DBOS.run_step(None, double, first), DBOS.run_step(None, add, 1, 2)]


@entry
def run_step() -> list[int]:
    with SetWorkflowID("run-step"):
        return functions_as_steps()


@DBOS.workflow()
async def async_functions_as_steps() -> list[int]:
    return [
        await DBOS.run_step_async({"name": "twice"}, double, 4),
        await DBOS.run_step_async(None, add_async, 1, 2),
    ]


@entry
async def run_step_async() -> list[int]:
    with SetWorkflowID("run-step-async"):
        return await async_functions_as_steps()


@DBOS.workflow()
def steps_around_a_sleep() -> int:
    before = add(1, 2)
    DBOS.sleep(0.01)
    return add(before, 3)


@entry
def sleep_between_steps() -> int:
    with SetWorkflowID("sleep"):
        return steps_around_a_sleep()


@DBOS.workflow()
async def async_steps_around_a_sleep() -> int:
    before = await add_async(1, 2)
    await DBOS.sleep_async(0.01)
    return await add_async(before, 3)


@entry
async def async_sleep_between_steps() -> int:
    with SetWorkflowID("async-sleep"):
        return await async_steps_around_a_sleep()


@DBOS.workflow()
async def a_sync_step_in_async_code() -> list[int]:
    return [add(1, 2), await add_async(3, 4), add(5, 6)]


@entry
async def sync_step_in_async_workflow() -> list[int]:
    with SetWorkflowID("mixed"):
        return await a_sync_step_in_async_code()


# Errors.


@DBOS.workflow()
def caught_error() -> str:
    try:
        decline("no funds")
    except Declined as error:
        return f"{error} {add(1, 1)}"
    return "unreachable"


@entry
def caught_step_error() -> str:
    with SetWorkflowID("caught"):
        return caught_error()


@DBOS.workflow()
def uncaught_error() -> int:
    return add(decline("no funds"), 1)


@entry
def uncaught_step_error() -> str:
    try:
        with SetWorkflowID("uncaught"):
            uncaught_error()
    except Exception as error:
        return str(error)
    return "unreachable"


@DBOS.workflow()
def exhausted_retries() -> str:
    try:
        hopeless()
    except Exception as error:
        return f"{type(error).__name__} {add(1, 1)}"
    return "unreachable"


@entry
def retries_exhausted() -> str:
    with SetWorkflowID("exhausted"):
        return exhausted_retries()


@DBOS.workflow()
def parent_of_a_failing_child() -> str:
    try:
        uncaught_error()
    except Exception as error:
        return f"{error} {add(1, 1)}"
    return "unreachable"


@entry
def child_error() -> str:
    with SetWorkflowID("child-error"):
        return parent_of_a_failing_child()


@DBOS.workflow()
async def group_with_errors() -> list[str]:
    failed: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(decline_async("one"))
            group.create_task(decline_async("two"))
    except* Declined as errors:
        failed = sorted(str(error) for error in errors.exceptions)
    return [*failed, str(await add_async(1, 1))]


@entry
async def exception_group() -> list[str]:
    with SetWorkflowID("exception-group"):
        return await group_with_errors()


# Children.


@DBOS.workflow()
def grandchild(value: int) -> int:
    return add(value, 100)


@DBOS.workflow()
def child(value: int) -> int:
    return add(grandchild(add(value, 10)), 10)


@DBOS.workflow()
def parent_of_direct_children(value: int) -> int:
    return add(child(value), 1)


@entry
def direct_children_three_deep() -> int:
    with SetWorkflowID("direct"):
        return parent_of_direct_children(1)


@DBOS.workflow()
def starting_child(value: int) -> int:
    return add(DBOS.start_workflow(grandchild, value).get_result(), 10)


@DBOS.workflow()
def parent_of_started_children(value: int) -> list[int]:
    handles = [DBOS.start_workflow(starting_child, value + number) for number in range(2)]
    return [handle.get_result() for handle in handles]


@entry
def started_children_three_deep() -> list[int]:
    with SetWorkflowID("started"):
        return parent_of_started_children(1)


@DBOS.workflow()
async def async_child(value: int) -> int:
    return await add_async(value, 10)


@DBOS.workflow()
async def parent_of_gathered_children() -> list[int]:
    return list(await asyncio.gather(*(async_child(number) for number in range(3))))


@entry
async def gathered_children() -> list[int]:
    with SetWorkflowID("gathered-children"):
        return await parent_of_gathered_children()


@DBOS.workflow()
async def parent_of_started_async_children() -> list[int]:
    handles = [await DBOS.start_workflow_async(async_child, number) for number in range(2)]
    return [await handle.get_result() for handle in handles]


@entry
async def started_async_children() -> list[int]:
    with SetWorkflowID("started-async-children"):
        return await parent_of_started_async_children()


# Starts, handles, and ids used again.


@entry
def start_and_get_result() -> int:
    with SetWorkflowID("started-from-outside"):
        handle = DBOS.start_workflow(sum_of_steps, 2)
    return handle.get_result()


@entry
async def start_async_and_get_result() -> int:
    with SetWorkflowID("started-async-from-outside"):
        handle = await DBOS.start_workflow_async(sum_of_async_steps, 2)
    return await handle.get_result()


@entry
def start_without_awaiting() -> str:
    with SetWorkflowID("forgotten"):
        return DBOS.start_workflow(sum_of_steps, 2).workflow_id


@entry
def sync_start_of_an_async_workflow() -> int:
    with SetWorkflowID("async-on-our-loop"):
        return DBOS.start_workflow(sum_of_async_steps, 2).get_result()


@entry
def same_id_again() -> list[int]:
    results: list[int] = []
    for _ in range(3):
        with SetWorkflowID("again"):
            results.append(sum_of_steps(2))
    return results


@entry
def started_and_called() -> list[int]:
    with SetWorkflowID("both"):
        handle = DBOS.start_workflow(sum_of_steps, 2)
    with SetWorkflowID("both"):
        called = sum_of_steps(2)
    return [called, handle.get_result()]


# Tasks within one workflow.


@DBOS.workflow()
async def gathered_steps_workflow() -> list[int]:
    return list(await asyncio.gather(*(add_late(number, number) for number in range(4))))


@entry
async def gathered_steps() -> list[int]:
    with SetWorkflowID("gathered"):
        return await gathered_steps_workflow()


async def chain(start: int, length: int) -> int:
    """Operations one after the other, beside those of other chains: ids depend on the order."""
    total = start
    for _ in range(length):
        total = await add_late(total, start)
    return total


@DBOS.workflow()
async def gathered_chains_workflow() -> list[int]:
    return list(await asyncio.gather(chain(1, 3), chain(2, 2), chain(3, 3)))


@entry
async def gathered_chains() -> list[int]:
    with SetWorkflowID("chains"):
        return await gathered_chains_workflow()


async def chain_after_sleep(start: int, seconds: float) -> int:
    await DBOS.sleep_async(seconds)
    return await add_late(start, 1)


@DBOS.workflow()
async def gathered_sleeps_workflow() -> list[int]:
    """Whose sleeps end in another order than they began, between the steps of the third chain."""
    chains = (chain_after_sleep(1, 0.03), chain_after_sleep(2, 0.01), chain(3, 2))
    return list(await asyncio.gather(*chains))


@entry
async def gathered_sleeps() -> list[int]:
    with SetWorkflowID("sleeping-chains"):
        return await gathered_sleeps_workflow()


async def chain_with_a_child(start: int) -> int:
    total = await add_late(start, 1)
    total = await async_child(total)
    return await add_late(total, 2)


@DBOS.workflow()
async def chains_with_children_workflow() -> list[int]:
    return list(await asyncio.gather(chain_with_a_child(1), chain(2, 3)))


@entry
async def chains_with_children() -> list[int]:
    with SetWorkflowID("chains-with-children"):
        return await chains_with_children_workflow()


@DBOS.workflow()
async def task_group_workflow() -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(chain(number, 2)) for number in range(3)]
    return [task.result() for task in tasks]


@entry
async def task_group() -> list[int]:
    with SetWorkflowID("task-group"):
        return await task_group_workflow()


# Schedules.


@DBOS.workflow()
def planned(scheduled_at: datetime, context: int) -> int:
    return context


@DBOS.workflow()
def planning() -> list[str]:
    DBOS.create_schedule(schedule_name="plan", workflow_fn=planned, schedule="0 0 1 1 *", context=1)
    DBOS.pause_schedule("plan")
    found = DBOS.get_schedule("plan")
    assert found is not None
    names = [listed["schedule_name"] for listed in DBOS.list_schedules()]
    DBOS.resume_schedule("plan")
    DBOS.delete_schedule("plan")
    return [found["status"], *names]


@entry
def schedules_changed_in_a_workflow() -> list[str]:
    with SetWorkflowID("planning"):
        return planning()
