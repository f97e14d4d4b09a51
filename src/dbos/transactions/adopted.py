"""Our statements and operations inside a transaction that is open on a SQLAlchemy connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import TextClause, text
from sqlalchemy.engine import Connection

from dbos.engine.io import Call, Io, Signal
from dbos.storage.protocol import Database, Row, Topic, Write

A = TypeVar("A")
R = TypeVar("R")


@lru_cache(maxsize=256)
def _clause(sql: str) -> TextClause:
    return text(sql)


class AdoptedConnection:
    """A SQLAlchemy connection as storage takes it. Its owner begins, commits and closes."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, sql: str, params: Mapping[str, Any]) -> tuple[list[Row], int]:
        result = self._connection.execute(_clause(sql), params)
        if result.returns_rows:
            rows = [tuple(row) for row in result.fetchall()]
            return rows, len(rows)
        return [], result.rowcount


class AdoptedIo:
    """The driver of operations that belong to somebody's open transaction on our database.

    A write is applied at once and durable with that transaction; nothing waits.
    """

    cooperative = False
    waits = False

    def __init__(self, database: Database, connection: Connection, outer: Io) -> None:
        self._database = database
        self._tx = database.adopt(AdoptedConnection(connection))
        self._outer = outer
        self.topics: list[Topic] = []
        """Whom to wake after the commit."""

    async def call(self, call: Call) -> Any:
        __tracebackhide__ = True
        return await self._outer.call(call)

    async def call_within(self, call: Call, timeout_s: float | None, stop: Signal | None) -> Any:
        __tracebackhide__ = True
        return await self._outer.call_within(call, timeout_s, stop)

    async def read(self, query: Callable[..., R], /, *args: Any) -> R:
        return query(self._tx, *args)

    async def commit(self, write: Write[A, R], arg: A, lane_key: str) -> R:
        return self.apply(write, arg)

    def apply(self, write: Write[A, R], arg: A) -> R:
        """Make a write part of the transaction."""
        [answer] = write.apply(self._tx, [arg])
        if write.topics is not None:
            self.topics.extend(write.topics(arg, answer))
        return answer

    def ring_within(self) -> None:
        """Before the commit: leave word for other processes, where a row of ours does it."""
        if self.topics and self._database.rings_within:
            self._database.ring_within(self._tx, self.topics)

    async def commit_last(self, write: Write[A, R], arg: A, lane_key: str) -> R:
        return await self.commit(write, arg, lane_key)

    async def commit_carried(
        self,
        write: Write[A, R],
        arg: A,
        commit: Callable[[], Awaitable[R]],
        topics: Sequence[Topic] = (),
    ) -> R:
        return await commit()

    def lane(self, lane_key: str) -> AbstractContextManager[None]:
        return nullcontext()

    def post(self, write: Write[A, R], arg: A, lane_key: str) -> None:
        self.apply(write, arg)

    def signal(self) -> Signal:
        return self._outer.signal()

    async def wait(self, signal: Signal, seconds: float | None) -> bool:
        """Not at all: what is waited for may need the locks that the transaction holds."""
        return False

    async def sleep(self, seconds: float) -> None:
        return None

    async def settle(self) -> None:
        return None

    def is_abandonment(self, error: BaseException) -> bool:
        return self._outer.is_abandonment(error)

    def now_ms(self) -> int:
        return self._outer.now_ms()
