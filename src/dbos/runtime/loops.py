"""Event loops for background async workflows: the adopted main loop, else one of our own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

R = TypeVar("R")

STOP_WITHIN_S = 5.0


def _nothing() -> None:
    return None


class LoopHouse:
    """The loops of one engine. The lock guards the start of our own loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._main: asyncio.AbstractEventLoop | None = None
        self._own: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def adopt_running_loop(self) -> None:
        """Make the loop that runs in this thread, if any, the main loop."""
        self._main = running_loop()

    def spawn_here(
        self, operation: Coroutine[Any, Any, Any], on_end: Callable[[], None] = _nothing
    ) -> None:
        """Run an operation as a task of the caller's loop, kept alive until it ends.

        `on_end` is called then, also if the task was cancelled before its first turn: nothing of
        the operation has run in that case.
        """
        self._keep(asyncio.get_running_loop().create_task(operation), on_end)

    def spawn(
        self, make: Callable[[], Coroutine[Any, Any, Any]], on_end: Callable[[], None] = _nothing
    ) -> None:
        """Run an operation as a task of the main loop, else of our own."""
        main = self._main
        if main is not None and main.is_running() and not main.is_closed():
            try:
                main.call_soon_threadsafe(self._start_task, make, on_end)
            except RuntimeError:
                if not main.is_closed():
                    raise
            else:
                return
        self._own_loop().call_soon_threadsafe(self._start_task, make, on_end)

    def run_to_end(self, operation: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine on our own loop and block until it ends."""
        try:
            return asyncio.run_coroutine_threadsafe(operation, self._own_loop()).result()
        except concurrent.futures.CancelledError:
            # The future's error is an `Exception`; a cancelled task is no outcome of user code.
            raise asyncio.CancelledError from None

    def stop(self) -> None:
        """Cancel what still runs on our own loop and end its thread."""
        with self._lock:
            loop, thread, self._own, self._thread = self._own, self._thread, None, None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            # The thread is daemonic: a body that swallows its cancellation holds nobody up.
            thread.join(STOP_WITHIN_S)

    def _start_task(
        self, make: Callable[[], Coroutine[Any, Any, Any]], on_end: Callable[[], None]
    ) -> None:
        self._keep(asyncio.get_running_loop().create_task(make()), on_end)

    def _keep(self, task: asyncio.Task[Any], on_end: Callable[[], None]) -> None:
        self._tasks.add(task)

        def forget(_: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                # Fetched so that asyncio does not report it: the outcome is in the database.
                task.exception()
            on_end()

        task.add_done_callback(forget)

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._own is None:
                self._own = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._own,), name="dbos-loop", daemon=True
                )
                self._thread.start()
            return self._own


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread, if any."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        _cancel_all(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
