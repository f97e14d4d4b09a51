"""Reused threads for sync workflows: as many as there is work, or as many as the user allows."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

IDLE_S = 30.0
"""How long a thread without work stays."""
BURST = 256
"""Without a limit: how many threads may work before claimed runs come by drops."""
DROP = 32
DROP_EVERY_S = 1.0


class WorkerThreads:
    """Threads that run one job after another. The condition guards the queue and the counts.

    Without a limit a job never waits for a thread. With one, jobs queue, but only behind threads
    that work: one that waits for something is not counted, for it may wait for a queued job.

    Threads grow in a chain: whoever submits starts one at the most, and a thread that takes its
    first job starts the next if jobs are left. So a burst of jobs costs the submitter one start and
    not hundreds, and threads that are done meanwhile take what would have needed a new one.
    """

    def __init__(self, limit: int | None, on_free: Callable[[], None] | None = None) -> None:
        self._limit = limit
        self._on_free = on_free
        self._condition = threading.Condition()
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._idle = 0
        self._waiting = 0
        self._coming = 0
        """Threads that were started and have not taken their first job."""
        self._threads: set[threading.Thread] = set()
        self._started = 0
        self._is_stopping = False
        self._dropped_at = 0.0

    def submit(self, job: Callable[[], Any]) -> Future[Any]:
        """Run a job on a thread; its future."""
        future: Future[Any] = Future()
        with self._condition:
            self._jobs.append((job, future))
            if self._idle >= len(self._jobs):
                self._condition.notify()
            elif not self._coming:
                try:
                    self._add_thread_if_allowed()
                except BaseException:
                    # The system has no thread to give: the caller is told, and the job is not run.
                    self._jobs.pop()
                    raise
        return future

    @contextmanager
    def not_working(self) -> Generator[None, None, None]:
        """For the block in which the calling thread only waits."""
        if threading.current_thread() not in self._threads:
            yield
            return
        with self._condition:
            self._waiting += 1
            if self._limit is not None and self._jobs:
                if self._idle:
                    self._condition.notify()
                else:
                    self._add_thread_if_allowed()
        self._tell_free()
        try:
            yield
        finally:
            with self._condition:
                self._waiting -= 1

    def free(self) -> int:
        """How many more jobs it is sensible to claim: with a limit, those that find a thread.

        Without one, a recovery of many thousand runs must not start as many threads at once; yet
        long steps must not keep the next runs waiting for ever. So beyond a burst of working
        threads there is a drop of new ones each second.
        """
        with self._condition:
            working = self._working() + len(self._jobs)
            if self._limit is not None:
                return max(0, self._limit - working)
            if working < BURST:
                return BURST - working
            now = time.monotonic()
            if now - self._dropped_at < DROP_EVERY_S:
                return 0
            self._dropped_at = now
            return DROP

    def _tell_free(self) -> None:
        """Have it known that a job may find a thread now; only where threads can run out."""
        if self._limit is not None and self._on_free is not None:
            self._on_free()

    def stop(self) -> None:
        """Let idle threads go. A thread that is still in user code ends when that code does."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify_all()

    def _is_surplus(self) -> bool:
        """Whether this thread, which is idle, would be one too many if it took a job."""
        return self._limit is not None and self._working() >= self._limit

    def _working(self) -> int:
        return len(self._threads) - self._idle - self._waiting

    def _add_thread_if_allowed(self) -> None:
        if self._limit is None or len(self._threads) - self._waiting < self._limit:
            self._add_thread()

    def _add_thread(self) -> None:
        self._started += 1
        # Daemonic: a process whose main thread has ended must not be kept alive by user code that
        # hangs.
        thread = threading.Thread(
            target=self._work, name=f"dbos-worker-{self._started}", daemon=True
        )
        thread.start()
        self._threads.add(thread)
        self._coming += 1

    def _continue_chain(self) -> None:
        """Start the next thread if more jobs wait than threads are at hand."""
        if self._coming or len(self._jobs) <= self._idle:
            return
        try:
            self._add_thread_if_allowed()
        except RuntimeError:
            # The system has no thread to give now. What waits is taken by those that end first.
            return

    def _work(self) -> None:
        is_new = True
        try:
            while (taken := self._next(is_new=is_new)) is not None:
                is_new = False
                job, future = taken
                if future.set_running_or_notify_cancel():
                    _run(job, future)
                del job, future, taken
        finally:
            with self._condition:
                self._threads.discard(threading.current_thread())

    def _next(self, *, is_new: bool) -> tuple[Callable[[], Any], Future[Any]] | None:
        with self._condition:
            self._idle += 1
            self._coming -= is_new
            if not self._jobs:
                self._tell_free()
            try:
                while not self._jobs or self._is_surplus():
                    if self._is_stopping or (not self._condition.wait(IDLE_S) and not self._jobs):
                        self._threads.discard(threading.current_thread())
                        return None
                job = self._jobs.popleft()
            finally:
                self._idle -= 1
            self._continue_chain()
            return job


def _run(job: Callable[[], Any], future: Future[Any]) -> None:
    try:
        result = job()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
