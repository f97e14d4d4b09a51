"""A supervised background loop: one thread, one tick at a time, and no failure ends it."""

from __future__ import annotations

import threading
import time

from dbos.runtime.wakeups import Bell
from dbos.telemetry import log

FIRST_BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 5.0
LONGEST_DOUBLING = 10
"""A float holds no power of the thousands of failures that an outage of hours makes."""


def back_off_s(failures: int) -> float:
    """The pause after so many failures in a row."""
    doubled = FIRST_BACK_OFF_S * 2 ** min(failures - 1, LONGEST_DOUBLING)
    return float(min(doubled, LONGEST_BACK_OFF_S))


class Service:
    """Something that an engine does again and again.

    A subclass implements `tick`: do a bounded amount of work, and return the seconds until the next
    tick. `bell` may be attached to topics at the hub; a ring brings the next tick forward.
    """

    name = "service"
    first_after_s: float = 0.0
    """Seconds from the start to the first tick. What is not urgent leaves the launch to others."""

    def __init__(self) -> None:
        self.bell: Bell = Bell()
        self.failures: int = 0
        """Failed ticks since the last good one."""
        self.restarts: int = 0
        """Failed ticks in all: after each the loop began again."""
        self.ticked_at: float | None = None
        """When the last good tick ended, by the monotonic clock."""
        self.was_rung: bool = False
        """Whether a ring brought the tick forward."""
        self.is_stopping: bool = False
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def tick(self) -> float:
        raise NotImplementedError

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"dbos-{self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the loop after the tick that is under way. Safe twice, and before `start`."""
        self.is_stopping = True
        self.bell.ring()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        if self.first_after_s:
            self._pause(self.first_after_s)
        while not self.is_stopping:
            try:
                delay_s = self.tick()
                self.failures = 0
                self.ticked_at = time.monotonic()
            except Exception as error:
                self.failures += 1
                self.restarts += 1
                delay_s = back_off_s(self.failures)
                log.service_failed(self.name, self.failures, error)
            if not self.is_stopping:
                self._pause(delay_s)

    def _pause(self, seconds: float) -> None:
        rung = threading.Lock()
        rung.acquire()
        if self.bell.arm(rung.release):
            rung.acquire(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX)))
        self.was_rung = self.bell.disarm()
