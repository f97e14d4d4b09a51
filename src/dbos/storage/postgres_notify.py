"""PostgreSQL across processes: notifications after the commit, and the session that hears."""

from __future__ import annotations

import threading
from collections.abc import Sequence

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

SLICE_S = 0.2
"""How long the listener is deaf to `interrupt`."""


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
        self._closing = threading.Event()
        self._connection = connector.connect()
        try:
            for channel in channels.CHANNELS:
                self._connection.execute(f"LISTEN {channel}".encode())
        except BaseException:
            self.close()
            raise

    def wait(self, seconds: float) -> list[Topic] | None:
        """Topics that changed; [] when the time is over; None when anything may have changed."""
        left_s = seconds
        while left_s > 0 and not self._closing.is_set():
            heard = list(self._connection.notifies(timeout=min(left_s, SLICE_S), stop_after=1))
            if heard:
                heard += self._connection.notifies(timeout=0)
                return self._topics(heard)
            left_s -= SLICE_S
        return []

    def interrupt(self) -> None:
        self._closing.set()

    def close(self) -> None:
        self._connector.disconnect(self._connection)

    @staticmethod
    def _topics(heard: Sequence[psycopg.Notify]) -> list[Topic] | None:
        topics: list[Topic] = []
        for notification in heard:
            told = channels.topics_of(notification.channel, notification.payload)
            if told is None:
                return None
            topics.extend(told)
        return topics
