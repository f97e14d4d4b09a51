"""Reused threads for sync workflows: as many as there is work, or as many as the user allows."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

IDLE_S = 30.0
"""How long a thread without work stays."""
BURST = 256
"""Without a limit: how many threads may work before claimed runs come by drops."""
DROP = 32
DROP_EVERY_S = 1.0
REFILL = 96
"""Without a limit: claims wait for this much room in the burst, so that they stay large."""

Job = tuple[Callable[[], Any], Future[Any]]


class WorkerThreads:
    """Threads that run one job after another. The condition guards the queue and the counts.

    Without a limit a job never waits for a thread. With one, jobs queue, but only behind threads
    that work: one that waits for something is not counted, for it may wait for a queued job.

    The jobs of each group take turns with those of the others: a run of a quiet queue is not kept
    waiting by hundreds of another that were claimed before it.

    Threads grow in a chain: whoever submits starts one at the most, and a thread that takes its
    first job starts the next if jobs are left. So a burst of jobs costs the submitter one start and
    not hundreds, and threads that are done meanwhile take what would have needed a new one.
    """

    def __init__(self, limit: int | None, on_free: Callable[[], None] | None = None) -> None:
        self._limit = limit
        self._on_free = on_free
        self._condition = threading.Condition()
        self._jobs = _Turns()
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
        [future] = self.submit_all([job], "")
        return future

    def submit_all(self, jobs: Sequence[Callable[[], Any]], group: str) -> list[Future[Any]]:
        """Run jobs on threads, in their order as far as threads are free; their futures.

        All of them or none: the system may have no thread to give, which raises.
        """
        added: list[Job] = [(job, Future()) for job in jobs]
        with self._condition:
            if self._idle < len(self._jobs) + len(added) and not self._coming:
                self._add_thread_if_allowed()
            self._jobs.extend(group, added)
            self._condition.notify(min(self._idle, len(added)))
        return [future for _, future in added]

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
        room = self.room()
        if self._limit is not None or room > 0:
            return max(0, room)
        now = time.monotonic()
        if now - self._dropped_at < DROP_EVERY_S:
            return 0
        self._dropped_at = now
        return DROP

    def room(self) -> int:
        """How many more jobs find a thread within the limit, or else within the burst."""
        if self._limit is None:
            # Roughly is enough, and hundreds of threads may be passing the condition.
            return self._room()
        with self._condition:
            return self._room()

    def is_full(self) -> bool:
        """Whether it is better to claim later, when `on_free` is called."""
        return self._is_full(self.room())

    def _is_full(self, room: int) -> bool:
        return room < (REFILL if self._limit is None else 1)

    def _room(self) -> int:
        most = BURST if self._limit is None else self._limit
        return most - self._working() - len(self._jobs)

    def _tell_free(self) -> None:
        """Have it known that more jobs may be claimed."""
        if self._on_free is not None and not self._is_full(self._room()):
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

    def _next(self, *, is_new: bool) -> Job | None:
        with self._condition:
            self._idle += 1
            self._coming -= is_new
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


class _Turns:
    """Jobs that wait for a thread: within a group in order, and the groups in turn."""

    __slots__ = ("_count", "_groups")

    def __init__(self) -> None:
        self._groups: dict[str, deque[Job]] = {}
        """Those with jobs; the first one is next."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, group: str, jobs: Sequence[Job]) -> None:
        if jobs:
            self._groups.setdefault(group, deque()).extend(jobs)
            self._count += len(jobs)

    def popleft(self) -> Job:
        group = next(iter(self._groups))
        jobs = self._groups.pop(group)
        job = jobs.popleft()
        if jobs:
            self._groups[group] = jobs
        self._count -= 1
        return job


def _run(job: Callable[[], Any], future: Future[Any]) -> None:
    try:
        result = job()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
