"""SQLite across processes: an outbox row with each commit that rings, and a probe that finds it.

`PRAGMA data_version` changes when any other connection has committed. It runs no query and costs
microseconds, so it can be asked many times a second; only then is the outbox read, past a cursor.
The ids are a safe cursor: SQLite commits one writer after the other.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence

from dbos.storage import channels
from dbos.storage.connections import Connector
from dbos.storage.protocol import Statement, Topic, Tx

PROBE_EVERY_S = 0.02
KEPT_MS = 60_000

RING = Statement("INSERT INTO {perdure_wakeups} (topics) VALUES (:topics)")

TRIM = Statement("DELETE FROM {perdure_wakeups} WHERE created_at < {now_ms} - :kept_ms")

VERSION = "PRAGMA data_version"
LAST = "SELECT COALESCE(MAX(id), 0) FROM perdure_wakeups"
NEWER = "SELECT id, topics FROM perdure_wakeups WHERE id > ? ORDER BY id"


def ring(tx: Tx, topics: Sequence[Topic]) -> None:
    """Tell other processes of topics, in the transaction that changes them."""
    tx.run(RING, topics=channels.to_text(dict.fromkeys(topics)))


def trim(tx: Tx) -> None:
    """Remove rows that every process has seen, or has missed and noticed the gap."""
    tx.run(TRIM, kept_ms=KEPT_MS)


class OutboxListener:
    """Notices commits of other processes. Used by one thread; `close` may come from another."""

    def __init__(self, connector: Connector[sqlite3.Connection]) -> None:
        self._connector = connector
        self._connection = connector.connect()
        self._closing = threading.Event()
        self._version = self._ask(VERSION)
        self._cursor = self._ask(LAST)

    def wait(self, seconds: float) -> list[Topic] | None:
        """Topics that changed; [] when the time is over; None when anything may have changed."""
        for _ in range(max(1, round(seconds / PROBE_EVERY_S))):
            version = self._ask(VERSION)
            if version != self._version:
                self._version = version
                return self._newer()
            if self._closing.wait(PROBE_EVERY_S):
                break
        return []

    def interrupt(self) -> None:
        self._closing.set()

    def close(self) -> None:
        self._connector.disconnect(self._connection)

    def _newer(self) -> list[Topic] | None:
        rows = self._connection.execute(NEWER, (self._cursor,)).fetchall()
        if not rows:
            return []
        has_gap = rows[0][0] != self._cursor + 1
        self._cursor = rows[-1][0]
        topics: list[Topic] = []
        for _, text in rows:
            told = channels.from_text(text)
            if told is None:
                return None
            topics.extend(told)
        return None if has_gap else topics

    def _ask(self, question: str) -> int:
        answer: int = self._connection.execute(question).fetchone()[0]
        return answer
