"""Asyncio: ids at creation, the order of delivery on replay, and the loops that runs live on."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from dbos import DBOS, Queue, SetWorkflowID
from dbos.error import DBOSException
from tests.behaviour.application import Application, PowerCut
from tests.waiting.verbs import until

Step = Callable[[str], Coroutine[Any, Any, str]]


@pytest.fixture
def note(app: Application) -> Step:
    @DBOS.step(name="note")
    async def note(word: str) -> str:
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        return word

    return note


async def called(workflow: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
    with SetWorkflowID("run"):
        return await workflow()


async def start_as_itself(other: Any) -> None:
    with SetWorkflowID("run"):
        await DBOS.start_workflow_async(other)


async def enqueue_as_itself(other: Any) -> None:
    with SetWorkflowID("run"):
        await DBOS.enqueue_workflow_async("never", other)


async def enqueue_again(other: Any) -> None:
    with SetWorkflowID("run", workflow_id_reuse_policy="reject"):
        await DBOS.enqueue_workflow_async("never", other)


FAILING: Mapping[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
    "send": lambda _: DBOS.send_async("nobody", 1),
    "resume": lambda _: DBOS.resume_workflow_async("nobody"),
    "fork": lambda _: DBOS.fork_workflow_async("nobody", 1),
    "rewind": lambda _: DBOS.rewind_workflow_async("run"),
    "start": start_as_itself,
    "enqueue": enqueue_as_itself,
    "enqueue again": enqueue_again,
}


def outputs(app: Application) -> list[Any]:
    return [row[2] for row in app.records("run")]


def test_gathered_steps_are_numbered_as_they_were_created(app: Application, note: Step) -> None:
    @DBOS.workflow()
    async def run() -> list[str]:
        return await asyncio.gather(*(note(word) for word in "abcde"))

    assert asyncio.run(called(run)) == list("abcde")
    assert outputs(app) == [f'"{word}"' for word in "abcde"]


def test_tasks_are_numbered_as_their_coroutines_were_created(app: Application, note: Step) -> None:
    @DBOS.workflow()
    async def run() -> list[str]:
        made = [note(word) for word in "abc"]
        tasks = [asyncio.create_task(coroutine) for coroutine in reversed(made)]
        return [await task for task in tasks]

    assert asyncio.run(called(run)) == list("cba")
    assert outputs(app) == ['"a"', '"b"', '"c"']


def test_a_task_group_numbers_its_members_in_order(app: Application, note: Step) -> None:
    @DBOS.workflow()
    async def run() -> list[str]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(note(word)) for word in "abc"]
        return [task.result() for task in tasks]

    assert asyncio.run(called(run)) == list("abc")
    assert outputs(app) == ['"a"', '"b"', '"c"']


def test_children_and_sleeps_and_starts_take_their_ids_at_creation(
    app: Application, note: Step
) -> None:
    @DBOS.workflow(name="child")
    async def child() -> str | None:
        return DBOS.workflow_id

    @DBOS.workflow()
    async def run() -> list[Any]:
        made: list[Any] = [
            DBOS.sleep_async(0.01),
            child(),
            DBOS.start_workflow_async(child),
            DBOS.run_step_async({"name": "plain"}, str, 1),
            DBOS.get_workflow_status_async("nowhere"),
            note("last"),
        ]
        answers = [await coroutine for coroutine in reversed(made)]
        return [answers[4], answers[3].workflow_id]

    assert asyncio.run(called(run)) == ["run-2", "run-4"]
    assert app.steps("run") == [
        (1, "DBOS.sleep"),
        (2, "child"),
        (3, "DBOS.getResult"),
        (4, "child"),
        (5, "plain"),
        (6, "DBOS.getStatus"),
        (7, "note"),
    ]


def test_ambient_options_are_captured_at_creation(app: Application) -> None:
    @DBOS.workflow(name="child")
    async def child() -> str | None:
        return DBOS.workflow_id

    async def scenario() -> list[Any]:
        with SetWorkflowID("captured"):
            first = child()
        with SetWorkflowID("started"):
            second = DBOS.start_workflow_async(child)
        return [await first, (await second).workflow_id]

    assert asyncio.run(scenario()) == ["captured", "started"]


@pytest.mark.parametrize("seed", range(4))
def test_concurrent_tasks_interleave_on_replay_as_they_did_before(
    app: Application, note: Step, seed: int
) -> None:
    histories: list[list[str]] = []
    is_first = app.once()
    random.seed(seed)

    @DBOS.workflow()
    async def race() -> list[str]:
        history: list[str] = []

        async def runner(name: str) -> None:
            for lap in range(4):
                history.append(await note(f"{name}{lap}"))

        await asyncio.gather(*(runner(name) for name in "abc"))
        histories.append(history)
        if is_first():
            app.cut_power()
        return history

    with pytest.raises(PowerCut):
        asyncio.run(called(race))
    recorded = app.steps("run")
    app.launch()

    replayed = DBOS.get_result("run")
    assert replayed == histories[0] == histories[1]
    assert app.steps("run") == recorded


@pytest.mark.parametrize("seed", range(4))
def test_tasks_that_sleep_between_their_steps_interleave_on_replay_as_they_did_before(
    app: Application, note: Step, seed: int
) -> None:
    histories: list[list[str]] = []
    is_first = app.once()
    draw = random.Random(seed)
    naps_ms = {name: [draw.randint(1, 20) for _ in range(4)] for name in "abcd"}

    @DBOS.workflow()
    async def race() -> list[str]:
        history: list[str] = []

        async def runner(name: str) -> None:
            for lap, nap_ms in enumerate(naps_ms[name]):
                await DBOS.sleep_async(nap_ms / 1000)
                history.append(await note(f"{name}{lap}"))

        await asyncio.gather(*(runner(name) for name in naps_ms))
        histories.append(history)
        if is_first():
            app.cut_power()
        return history

    with pytest.raises(PowerCut):
        asyncio.run(called(race))
    recorded = app.steps("run")
    app.launch()

    replayed = DBOS.get_result("run")
    assert replayed == histories[0] == histories[1]
    assert app.steps("run") == recorded


def test_sleeps_that_ended_while_nobody_ran_end_in_the_order_of_their_wake_times(
    app: Application, note: Step
) -> None:
    @DBOS.workflow()
    async def race() -> list[str]:
        async def runner(name: str, seconds: float) -> str:
            await DBOS.sleep_async(seconds)
            order.append(name)
            return await note(name)

        sleepers = (runner("a", 7200), runner("b", 3600), runner("c", 5400))
        return list(await asyncio.gather(*sleepers))

    order: list[str] = []
    with SetWorkflowID("run"):
        DBOS.start_workflow(race)
    until(lambda: len(app.steps("run")) == 3)
    app.kill()
    for step_id, wake_at in ((1, 3.0), (2, 1.0), (3, 2.0)):
        app.change(
            "UPDATE {operation_outputs} SET output = ? WHERE function_id = ?", str(wake_at), step_id
        )
    app.launch()

    assert DBOS.get_result("run") == ["a", "b", "c"]
    assert order == ["b", "c", "a"]
    assert outputs(app)[3:] == ['"b"', '"c"', '"a"']


def test_the_first_of_several_waits_is_the_same_on_replay(app: Application, note: Step) -> None:
    winners: list[str] = []
    is_first = app.once()

    @DBOS.workflow()
    async def race() -> str:
        tasks = [asyncio.create_task(note(word)) for word in "abcd"]
        order: list[str] = []
        for task in tasks:
            task.add_done_callback(lambda done: order.append(done.result()))
        await asyncio.gather(*tasks)
        winners.append("".join(order))
        if is_first():
            app.cut_power()
        return "".join(order)

    with pytest.raises(PowerCut):
        asyncio.run(called(race))
    app.launch()

    assert DBOS.get_result("run") == winners[0] == winners[1]


@pytest.mark.parametrize("failing", FAILING)
def test_an_operation_that_fails_unrecorded_holds_up_no_replay(
    app: Application, note: Step, log: pytest.LogCaptureFixture, failing: str
) -> None:
    Queue("never", worker_concurrency=0)
    is_first = app.once()

    @DBOS.workflow(name="other")
    async def other(_: Any = None, __: Any = None) -> None:
        return None

    @DBOS.workflow()
    async def run() -> list[str]:
        with pytest.raises(DBOSException):
            await FAILING[failing](other)
        done = list(await asyncio.gather(note("a"), note("b")))
        if is_first():
            app.cut_power()
        return done

    with pytest.raises(PowerCut):
        asyncio.run(called(run))
    before = app.steps("run")
    app.launch()

    assert DBOS.get_result("run") == ["a", "b"]
    assert app.steps("run") == before
    assert "waits for one that was recorded before it" not in log.text


def test_a_crash_in_the_middle_of_concurrent_tasks_repeats_no_recorded_step(
    app: Application,
) -> None:
    ran: list[str] = []
    is_first = app.once()

    @DBOS.step(name="work")
    async def work(name: str) -> str:
        ran.append(name)
        if name == "b1" and is_first():
            app.cut_power()
        return name

    @DBOS.workflow()
    async def both() -> list[str]:
        async def runner(name: str) -> str:
            return "".join([await work(f"{name}{lap}") for lap in range(3)])

        return list(await asyncio.gather(runner("a"), runner("b")))

    with pytest.raises(BaseException):  # noqa: B017, PT011
        asyncio.run(called(both))
    recorded = {row[2] for row in app.records("run")}
    before = list(ran)
    app.launch()

    assert DBOS.get_result("run") == ["a0a1a2", "b0b1b2"]
    repeated = [name for name in ran[len(before) :] if f'"{name}"' in recorded]
    assert repeated == []


class TestLoops:
    """Where bodies run, and what becomes of them when a loop closes."""

    def test_asyncio_run_may_be_called_many_times(self, app: Application) -> None:
        @DBOS.workflow()
        async def run(number: int) -> int:
            await DBOS.sleep_async(0.001)
            return number

        assert [asyncio.run(run(number)) for number in range(5)] == list(range(5))

    def test_a_started_run_is_a_task_of_the_callers_loop(self, app: Application) -> None:
        @DBOS.workflow()
        async def where() -> int:
            return id(asyncio.get_running_loop())

        async def scenario() -> bool:
            handle = await DBOS.start_workflow_async(where)
            return await handle.get_result() == id(asyncio.get_running_loop())

        assert asyncio.run(scenario()) is True

    def test_a_directly_awaited_run_is_the_callers_task(self, app: Application) -> None:
        @DBOS.workflow()
        async def where() -> bool:
            return asyncio.current_task() is mine[0]

        mine: list[Any] = []

        async def scenario() -> bool:
            mine.append(asyncio.current_task())
            return await where()

        assert asyncio.run(scenario()) is True

    def test_a_loop_that_runs_at_launch_becomes_the_main_loop(self, shop: Application) -> None:
        @DBOS.workflow()
        async def where() -> bool:
            return asyncio.get_running_loop() is loops[0]

        loops: list[asyncio.AbstractEventLoop] = []

        async def scenario() -> bool:
            loops.append(asyncio.get_running_loop())
            shop.launch()
            handle = DBOS.start_workflow(where)
            result: bool = await DBOS.get_result_async(handle.workflow_id)
            return result

        assert asyncio.run(scenario()) is True
        assert DBOS.start_workflow(where).get_result() is False

    def test_without_a_main_loop_async_runs_live_on_our_own(self, app: Application) -> None:
        @DBOS.workflow()
        async def where() -> str:
            return threading.current_thread().name

        assert DBOS.start_workflow(where).get_result().startswith("dbos-")

    def test_sync_runs_live_on_worker_threads(self, app: Application) -> None:
        @DBOS.workflow()
        def where() -> str:
            return threading.current_thread().name

        async def scenario() -> Any:
            return await DBOS.get_result_async(DBOS.start_workflow(where).workflow_id)

        assert asyncio.run(scenario()).startswith("dbos-")

    def test_closing_a_loop_hands_its_unfinished_runs_back(self, app: Application) -> None:
        is_first = app.once()

        @DBOS.workflow()
        async def endless() -> str:
            if is_first():
                await asyncio.sleep(3600)
            return "recovered"

        async def scenario() -> None:
            with SetWorkflowID("run"):
                await DBOS.start_workflow_async(endless)
            await asyncio.sleep(0)

        asyncio.run(scenario())
        left = app.column("run", "status")
        app.relaunch()

        assert left == "PENDING"
        assert DBOS.get_result("run") == "recovered"

    def test_the_default_executor_of_a_loop_is_left_alone(self, app: Application) -> None:
        async def scenario() -> bool:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, int)
            before = loop._default_executor  # type: ignore[attr-defined]
            await DBOS.run_step_async(None, int)
            await DBOS.get_workflow_status_async("x")
            return before is loop._default_executor  # type: ignore[attr-defined]

        assert asyncio.run(scenario()) is True

    def test_async_waits_hold_no_thread(self, app: Application) -> None:
        @DBOS.workflow()
        async def nap() -> None:
            await DBOS.sleep_async(0.3)

        async def scenario() -> int:
            naps = [asyncio.create_task(nap()) for _ in range(60)]
            await asyncio.sleep(0.1)
            threads = threading.active_count()
            await asyncio.gather(*naps)
            return threads

        assert asyncio.run(scenario()) < 30

    def test_the_runtime_keeps_background_tasks_alive(self, app: Application) -> None:
        done = threading.Event()

        @DBOS.workflow()
        async def slow() -> None:
            await asyncio.sleep(0.01)
            done.set()

        async def scenario() -> None:
            await DBOS.start_workflow_async(slow)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    while not done.is_set():
                        await asyncio.sleep(0.01)

        asyncio.run(scenario())

        assert done.is_set()


@pytest.mark.timeout(15)
class TestThreads:
    """A limit on threads queues work; it never deadlocks."""

    def test_parents_that_wait_for_their_children_make_progress(self, shop: Application) -> None:
        shop.launch(max_executor_threads=2)

        @DBOS.workflow()
        def child(number: int) -> int:
            return number

        @DBOS.workflow()
        def parent(number: int) -> int:
            return int(DBOS.start_workflow(child, number).get_result())

        handles = [DBOS.start_workflow(parent, number) for number in range(6)]

        assert [handle.get_result() for handle in handles] == list(range(6))

    def test_a_chain_deeper_than_the_limit_makes_progress(self, shop: Application) -> None:
        shop.launch(max_executor_threads=1)

        @DBOS.workflow()
        def chain(depth: int) -> int:
            if depth == 0:
                return 0
            return 1 + int(DBOS.start_workflow(chain, depth - 1).get_result())

        assert DBOS.start_workflow(chain, 4).get_result() == 4

    def test_the_limit_holds(self, shop: Application) -> None:
        shop.launch(max_executor_threads=2)
        lock, active, most = threading.Lock(), [0], [0]
        pause = threading.Event()

        @DBOS.workflow()
        def busy() -> None:
            with lock:
                active[0] += 1
                most[0] = max(most[0], active[0])
            pause.wait(0.02)
            with lock:
                active[0] -= 1

        for handle in [DBOS.start_workflow(busy) for _ in range(8)]:
            handle.get_result()

        assert most[0] <= 2
