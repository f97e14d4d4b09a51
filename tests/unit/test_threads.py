"""Worker threads: bursts are bounded, and those that only wait are not counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from dbos.runtime.threads import BURST, DROP, WorkerThreads

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
