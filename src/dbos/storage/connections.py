"""Connections kept open: one for a write lane, a bounded number for readers.

Both kinds open on demand and on the thread that needs them, so that launching is fast and a server
that comes back after an outage is noticed by the next caller, with no reconnection schedule of our
own in between.
"""

from __future__ import annotations

import threading
import time
from typing import Generic, Protocol, TypeVar

from dbos.config import PoolSettings

C = TypeVar("C")

TRUSTED_IDLE_S = 1.0
"""A connection used this recently is taken to be alive; after longer pauses it is looked at."""

UNLIMITED = 10_000
"""What stands for a pool without a limit: more than any server accepts."""


class Connector(Protocol[C]):
    """Where connections come from: an address, or an engine that the user configured.

    They come in autocommit mode and set up as the database's own connector does it.
    """

    def connect(self) -> C: ...

    def disconnect(self, connection: C) -> None:
        """Close the connection; never raises."""
        ...

    def is_alive(self, connection: C) -> bool:
        """Whether the connection looks usable, found out without a round trip."""
        ...


class PoolExhausted(Exception):
    """All connections of a pool stayed in use for longer than a caller may wait."""


class LaneConnection(Generic[C]):
    """The connection of one write lane. Used by one thread at a time, which its caller sees to."""

    def __init__(self, connector: Connector[C]) -> None:
        self._connector = connector
        self._connection: C | None = None
        self._used_at = 0.0

    def get(self) -> C:
        connection = self._connection
        if connection is not None and time.monotonic() - self._used_at > TRUSTED_IDLE_S:
            if self._connector.is_alive(connection):
                self._used_at = time.monotonic()
            else:
                self.discard()
                connection = None
        if connection is None:
            connection = self._connection = self._connector.connect()
            self._used_at = time.monotonic()
        return connection

    def discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._connector.disconnect(connection)


class ConnectionPool(Generic[C]):
    """A bounded number of connections, the last used first; who finds all in use waits.

    The semaphore bounds the connections in use; the lock guards the idle ones and the closed flag.
    """

    def __init__(self, connector: Connector[C], settings: PoolSettings, *, reserved: int) -> None:
        """`reserved` connections of the settings are used elsewhere."""
        self._connector = connector
        self._settings = settings
        self._size = _most(settings, reserved)
        self._keep = 0 if settings.null_pool else settings.size or UNLIMITED
        self._free = threading.BoundedSemaphore(self._size)
        self._lock = threading.Lock()
        self._idle: list[tuple[C, float, float]] = []
        self._opened_at: dict[int, float] = {}
        self._is_closed = False

    def acquire(self) -> C:
        if not self._free.acquire(timeout=self._settings.timeout_s):
            raise PoolExhausted(
                f"all {self._size} connections stayed in use for"
                f" {self._settings.timeout_s:g} s;"
                " raise the pool size or lower the concurrency"
            )
        try:
            return self._take()
        except BaseException:
            self._free.release()
            raise

    def release(self, connection: C, *, is_usable: bool = True) -> None:
        """Give the connection back. One that is not usable is closed."""
        try:
            with self._lock:
                opened_at = self._opened_at.pop(id(connection))
                kept = is_usable and not self._is_closed and len(self._idle) < self._keep
                if kept:
                    self._idle.append((connection, opened_at, time.monotonic()))
            if not kept:
                self._connector.disconnect(connection)
        finally:
            self._free.release()

    def adopt(self, connection: C) -> None:
        """Keep a connection of the same connector that somebody else has no more use for."""
        with self._lock:
            is_kept = not self._is_closed and len(self._idle) < self._keep
            if is_kept:
                now = time.monotonic()
                self._idle.append((connection, now, now))
        if not is_kept:
            self._connector.disconnect(connection)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they come back."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection, _, _ in idle:
            self._connector.disconnect(connection)

    def _take(self) -> C:
        while True:
            with self._lock:
                entry = self._idle.pop() if self._idle else None
            if entry is None:
                connection, opened_at = self._connector.connect(), time.monotonic()
            else:
                connection, opened_at, used_at = entry
                if not self._is_good(connection, opened_at, used_at):
                    self._connector.disconnect(connection)
                    continue
            with self._lock:
                self._opened_at[id(connection)] = opened_at
            return connection

    def _is_good(self, connection: C, opened_at: float, used_at: float) -> bool:
        now = time.monotonic()
        recycle_s = self._settings.recycle_s
        if recycle_s is not None and now - opened_at > recycle_s:
            return False
        if now - used_at <= TRUSTED_IDLE_S or not self._settings.pre_ping:
            return True
        return self._connector.is_alive(connection)


def _most(settings: PoolSettings, reserved: int) -> int:
    if settings.size == 0 or settings.max_overflow < 0:
        return UNLIMITED
    return max(1, settings.size + settings.max_overflow - reserved)
