"""Reads: one snapshot per query, waiting out a database that is away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from dbos.engine.io import Closed
from dbos.storage import executors
from dbos.storage.protocol import Database, SingleRead
from dbos.telemetry import log

R = TypeVar("R")

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 3.0
ASYNC_READERS = 8
"""Threads that read for asyncio callers; a read takes well under a millisecond."""


class Reader:
    """The reading side of one engine."""

    def __init__(
        self, database: Database, *, is_patient: bool = True, closed: type[Closed] = Closed
    ) -> None:
        """`closed` is what who reads later is told."""
        self._database = database
        self._closed = closed
        self._is_patient = is_patient
        self._hurrying = threading.Event()
        self._is_stopped = False
        self._pool = ThreadPoolExecutor(ASYNC_READERS, thread_name_prefix="dbos-reader")
        self.now_ms: Callable[[], int] = database.now_ms

    def run(self, query: Callable[..., R], *args: Any) -> R:
        """Run `query(tx, *args)` in one snapshot, on this thread."""
        delay_s = FIRST_RETRY_S
        while True:
            if self._is_stopped:
                raise self._closed
            try:
                with self._database.read(single=isinstance(query, SingleRead)) as tx:
                    answer = query(tx, *args)
            except Exception as error:
                if not self._is_patient or not self._database.is_transient(error):
                    raise self._database.translate(error) from None
                log.database_unavailable("reader", self._database.translate(error))
                if self._hurrying.wait(delay_s):
                    raise self._closed from None
                delay_s = min(delay_s * 2, LONGEST_RETRY_S)
                continue
            log.database_available("reader")
            return answer

    def is_reachable(self) -> bool:
        """Whether the database answers now; tried once."""
        try:
            with self._database.read(single=True) as tx:
                executors.ping(tx)
        except Exception:
            return False
        return not self._is_stopped

    def submit(self, query: Callable[..., R], *args: Any) -> Any:
        """Run a query on a reader thread; a `concurrent.futures.Future`."""
        try:
            return self._pool.submit(self.run, query, *args)
        except RuntimeError:
            if not self._is_stopped:
                raise
            raise self._closed from None

    def hurry(self) -> None:
        """From now on try each query once: an outage is not waited out any more."""
        self._hurrying.set()

    def stop(self) -> None:
        self.hurry()
        self._is_stopped = True
        # Reads that still wait for a thread are told so too: cancelled, they would cancel tasks.
        self._pool.shutdown(wait=False)
