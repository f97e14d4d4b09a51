"""Worker threads: bursts are bounded, and those that only wait are not counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from dbos.runtime.threads import BURST, DROP, REFILL, WorkerThreads

WITHIN_S = 30.0


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_without_a_limit_a_burst_is_bounded_and_goes_on_by_drops(
    release: threading.Event,
) -> None:
    threads = WorkerThreads(None)
    begun = threading.Semaphore(0)

    def work() -> None:
        begun.release()
        release.wait(WITHIN_S)

    idle = threads.free()
    for _ in range(BURST):
        threads.submit(work)
    for _ in range(BURST):
        assert begun.acquire(timeout=WITHIN_S)
    first, second = threads.free(), threads.free()
    release.set()
    threads.stop()

    assert idle == BURST
    assert (first, second) == (DROP, 0)


def test_threads_that_wait_for_something_leave_the_burst_to_others(
    release: threading.Event,
) -> None:
    threads = WorkerThreads(None)
    waiting = threading.Semaphore(0)

    def wait() -> None:
        with threads.not_working():
            waiting.release()
            release.wait(WITHIN_S)

    for _ in range(20):
        threads.submit(wait)
    for _ in range(20):
        assert waiting.acquire(timeout=WITHIN_S)
    free = threads.free()
    release.set()
    threads.stop()

    assert free == BURST


def test_a_job_is_run_without_a_limit_however_many_work(release: threading.Event) -> None:
    threads = WorkerThreads(None)
    for _ in range(BURST + 5):
        threads.submit(lambda: release.wait(WITHIN_S))

    answer = threads.submit(lambda: "ran").result(WITHIN_S)
    release.set()
    threads.stop()

    assert answer == "ran"


def test_a_burst_costs_its_submitter_one_thread_and_still_runs_side_by_side() -> None:
    threads = WorkerThreads(None)
    everybody = threading.Barrier(20)
    starters: list[str] = []

    class Noted(threading.Thread):
        def start(self) -> None:
            starters.append(threading.current_thread().name)
            super().start()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "Thread", Noted)
        # Each job waits for all others: none may be left behind a thread that waits.
        futures = [threads.submit(lambda: everybody.wait(WITHIN_S)) for _ in range(20)]
        for future in futures:
            future.result(WITHIN_S)
    threads.stop()

    assert len(starters) == 20
    assert any(name.startswith("dbos-worker") for name in starters)


def test_the_jobs_of_a_group_do_not_wait_behind_all_those_of_another(
    release: threading.Event,
) -> None:
    threads = WorkerThreads(1)
    order: list[str] = []

    def noted(name: str) -> Callable[[], None]:
        return lambda: order.append(name)

    threads.submit(lambda: release.wait(WITHIN_S))
    many = threads.submit_all([noted(f"many {number}") for number in range(4)], "many")
    few = threads.submit_all([noted(f"few {number}") for number in range(2)], "few")
    release.set()
    for future in (*many, *few):
        future.result(WITHIN_S)
    threads.stop()

    assert order == ["many 0", "few 0", "many 1", "few 1", "many 2", "many 3"]


def test_jobs_submitted_together_run_side_by_side() -> None:
    threads = WorkerThreads(None)
    everybody = threading.Barrier(20)

    jobs = [lambda: everybody.wait(WITHIN_S)] * 20
    futures = threads.submit_all(jobs, "queue")
    for future in futures:
        future.result(WITHIN_S)
    threads.stop()

    assert len(futures) == 20


def test_a_thread_that_cannot_be_had_refuses_all_jobs_of_a_submission() -> None:
    threads = WorkerThreads(None)
    ran: list[int] = []

    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "Thread", Refused)
        with pytest.raises(RuntimeError):
            threads.submit_all([lambda: ran.append(1), lambda: ran.append(2)], "queue")
    threads.submit(lambda: None).result(WITHIN_S)
    threads.stop()

    assert ran == []


def test_who_claims_is_told_when_there_is_room_again(release: threading.Event) -> None:
    told = threading.Event()
    threads = WorkerThreads(None, told.set)
    begun = threading.Semaphore(0)

    def work() -> None:
        begun.release()
        release.wait(WITHIN_S)

    futures = threads.submit_all([work] * (BURST - REFILL + 1), "queue")
    for _ in futures:
        assert begun.acquire(timeout=WITHIN_S)
    full, room = threads.is_full(), threads.room()
    told.clear()
    release.set()

    assert (full, room) == (True, REFILL - 1)
    assert told.wait(WITHIN_S)
    assert not threads.is_full()
    threads.stop()
