"""PostgreSQL across processes: notifications after the commit, and the session that hears."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Sequence
from contextlib import suppress

import psycopg

from dbos.storage import channels
from dbos.storage.connections import Connector
from dbos.storage.protocol import Topic

NOTIFY = (
    "SELECT pg_notify(told.channel, told.payload) "
    "FROM unnest(%s::text[], %s::text[]) AS told (channel, payload)"
)
UNHURRIED = "SET synchronous_commit = off"
"""A notification is no data: it need not be on disk, nor make those who write data wait."""


class Announcer:
    """Sends notifications on its own connection, so that no checkpoint waits for NOTIFY's lock."""

    def __init__(self, connector: Connector[psycopg.Connection]) -> None:
        self._connector = connector
        self._connection: psycopg.Connection | None = None

    def announce(self, topics: Sequence[Topic]) -> None:
        """Tell all listeners of topics, in one statement."""
        told = channels.notifications(topics)
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._connector.connect()
                self._connection.execute(UNHURRIED)
            self._connection.execute(
                NOTIFY, ([channel for channel, _ in told], [payload for _, payload in told])
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._connector.disconnect(connection)


class SessionListener:
    """A session that LISTENs. Used by one thread; `interrupt` may come from another."""

    def __init__(self, connector: Connector[psycopg.Connection]) -> None:
        self._connector = connector
        self._connection = connector.connect()
        self._awakened, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        try:
            for channel in channels.CHANNELS:
                self._connection.execute(f"LISTEN {channel}".encode())
        except BaseException:
            self.close()
            raise

    def wait(self, seconds: float) -> list[Topic] | None:
        """Topics that changed; [] when the time is over; None when anything may have changed."""
        heard = list(self._connection.notifies(timeout=0))
        if not heard and self._is_readable(seconds):
            heard = list(self._connection.notifies(timeout=0))
        return self._topics(heard)

    def interrupt(self) -> None:
        # Full, or closed already: the listener is awake in either case.
        with suppress(OSError):
            self._waker.send(b"!")

    def close(self) -> None:
        self._connector.disconnect(self._connection)
        self._awakened.close()
        self._waker.close()

    def _is_readable(self, seconds: float) -> bool:
        """Wait until the server says something; False when the time is over or on an interrupt."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection.pgconn.socket, selectors.EVENT_READ)
            selector.register(self._awakened, selectors.EVENT_READ)
            ready = {key.fileobj for key, _ in selector.select(seconds)}
        return bool(ready) and self._awakened not in ready

    @staticmethod
    def _topics(heard: Sequence[psycopg.Notify]) -> list[Topic] | None:
        topics: list[Topic] = []
        for notification in heard:
            told = channels.topics_of(notification.channel, notification.payload)
            if told is None:
                return None
            topics.extend(told)
        return topics
