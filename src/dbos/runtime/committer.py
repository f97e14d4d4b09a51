"""Group commit: every durable write of an engine goes through here.

Theory of operation. A blocking caller that finds its lane idle commits on its own thread: no hand-
off. Whoever finds the lane busy queues its write, and so does every asyncio caller; the lane's
writer thread takes all that is queued and commits it as one transaction. There is no timer: the
commit in flight is the window in which the next batch gathers. Tickets leave the queue under the
lane's lock only, so whoever holds the lock and finds the queue empty overtakes nobody.

What must hold:

- An answer is given only after the transaction that holds the write has committed.
- Writes with one lane key are committed, and answered, in the order in which they were handed over.
- Writes are idempotent, so a batch whose commit is in doubt is applied again.
- A write that the database refuses fails alone: its batch is taken apart and applied one by one.
- A thread that commits inline carries its own write alone, so an interrupt in the main thread
  cannot take the writes of others with it; and wherever the interrupt strikes, the lane is free
  afterwards.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeVar
from zlib import crc32

from dbos.engine.io import Closed
from dbos.storage.protocol import Database, Topic, Tx, Write
from dbos.telemetry import log

A = TypeVar("A")
R = TypeVar("R")

LARGEST_BATCH = 512
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 3.0
"""What an outage may cost beyond its own length: the pause between two tries."""
LONGEST_COLLISION_S = 0.05
"""Transactions that collided part by a random pause, of this length at the most."""


class Ticket:
    """A write that was handed over, and later its answer."""

    __slots__ = ("_gate", "answer", "arg", "error", "on_settled", "write")

    def __init__(
        self, write: Write[Any, Any], arg: Any, on_settled: Callable[[], None] | None = None
    ) -> None:
        self.write: Write[Any, Any] = write
        self.arg: Any = arg
        self.answer: Any = None
        self.error: BaseException | None = None
        self.on_settled: Callable[[], None] | None = on_settled
        self._gate: threading.Lock | None = None

    def prepare_to_block(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()

    def block(self) -> None:
        assert self._gate is not None
        self._gate.acquire()

    def settle(self) -> None:
        if self._gate is not None:
            self._gate.release()
        if self.on_settled is not None:
            self.on_settled()

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.answer


class Committer:
    """The lanes of one engine."""

    def __init__(
        self,
        database: Database,
        publish: Callable[[list[Topic]], None],
        settle_all: Callable[[Sequence[Ticket]], None],
        lanes: Sequence[int] | None = None,
        *,
        is_patient: bool = True,
        closed: type[Closed] = Closed,
    ) -> None:
        """`lanes` are those of the database to write on; None is all that are for everyone.

        Without patience a write fails while the database is away. `closed` is what who writes later
        is told.
        """
        self._database = database
        self._closed = closed
        self._is_patient = is_patient
        self._publish = publish
        self._settle_all = settle_all
        self._hurrying = threading.Event()
        numbers = range(database.lanes) if lanes is None else lanes
        self._lanes = [_Lane(number) for number in numbers]

    def start(self) -> None:
        for lane in self._lanes:
            lane.thread = threading.Thread(
                target=self._drain, args=(lane,), name=f"dbos-writer-{lane.number}", daemon=True
            )
            lane.thread.start()

    def run(self, write: Write[A, R], arg: A, lane_key: str) -> R:
        """Commit a write; durable when this returns."""
        lane = self._lane(lane_key)
        ticket = Ticket(write, arg)
        if not self._commit_here(lane, ticket):
            ticket.prepare_to_block()
            self._hand_over(lane, ticket)
            ticket.block()
        answer: R = ticket.result()
        return answer

    @contextmanager
    def held(self, lane_key: str) -> Generator[None, None, None]:
        """Keep a lane for the block, in which somebody else writes. It must not write itself."""
        lane = self._lane(lane_key)
        with lane.lock:
            if lane.is_closed:
                raise self._closed
            lane.is_busy = True
            try:
                yield
            finally:
                lane.is_busy = False

    def publish(self, topics: Sequence[Topic]) -> None:
        """Ring what a transaction that is not ours has made durable."""
        if topics:
            self._publish(list(topics))

    def commit_now(self, lane_key: str, ticket: Ticket) -> bool:
        """Commit on this thread if nobody else uses the lane; False if it was not done."""
        return self._commit_here(self._lane(lane_key), ticket)

    def submit(self, lane_key: str, ticket: Ticket) -> None:
        """Hand over a write; its ticket is settled later, by the writer thread."""
        self._hand_over(self._lane(lane_key), ticket)

    def hurry(self) -> None:
        """From now on try each batch once: an outage is not waited out any more."""
        self._hurrying.set()

    def stop(self) -> None:
        """Commit what was handed over, then refuse everything."""
        self.hurry()
        for lane in self._lanes:
            lane.is_ending = True
            lane.arrivals.put(None)
        for lane in self._lanes:
            if lane.thread is not None and lane.thread is not threading.current_thread():
                lane.thread.join()
            with lane.lock:
                lane.is_closed = True
                self._refuse(lane)

    def _lane(self, key: str) -> _Lane:
        if len(self._lanes) == 1:
            return self._lanes[0]
        return self._lanes[crc32(key.encode()) % len(self._lanes)]

    def _commit_here(self, lane: _Lane, ticket: Ticket) -> bool:
        """Commit a write on this thread if nobody else is at work on the lane or waits for it."""
        if lane.queue:
            return False
        is_mine = False
        # The lock tells by itself whether this thread holds it: an interrupt may strike between its
        # acquisition and any note of ours about it.
        try:
            if lane.lock.acquire(blocking=False) and not lane.is_busy and not lane.queue:
                is_mine = lane.is_busy = True
                self._commit(lane, [ticket])
                return True
            return False
        finally:
            if is_mine:
                lane.is_busy = False
            # Not `suppress`: an interrupt could strike in its construction.
            try:  # noqa: SIM105
                lane.lock.release()
            except RuntimeError:
                pass  # It was not acquired.

    def _hand_over(self, lane: _Lane, ticket: Ticket) -> None:
        lane.queue.append(ticket)
        lane.arrivals.put(None)
        if lane.is_closed:
            with lane.lock:
                self._refuse(lane)

    def _drain(self, lane: _Lane) -> None:
        while not (lane.is_ending and not lane.queue):
            lane.arrivals.get()
            if not lane.queue:
                continue
            with lane.lock:
                batch = _gather(lane.queue)
                if batch:
                    self._commit(lane, batch)
                    # Within the lock, so that no later write is answered before these.
                    self._settle_all(batch)

    def _refuse(self, lane: _Lane) -> None:
        refused: list[Ticket] = []
        while lane.queue:
            refused += _gather(lane.queue)
        self._close(refused)
        self._settle_all(refused)

    def _close(self, batch: Iterable[Ticket]) -> None:
        for ticket in batch:
            ticket.error = self._closed()

    def _commit(self, lane: _Lane, batch: Sequence[Ticket], *, in_doubt: bool = False) -> None:
        """Give every ticket of the batch its answer or its error."""
        if lane.is_closed:
            self._close(batch)
            return
        delay_s = FIRST_RETRY_S
        while True:
            try:
                topics = self._apply(lane, batch, in_doubt=in_doubt)
            except Exception as error:
                if self._database.is_collision(error) and not self._hurrying.is_set():
                    time.sleep(random.uniform(0.0, LONGEST_COLLISION_S))
                    continue
                if self._is_patient and self._database.is_transient(error):
                    log.database_unavailable("writer", self._database.translate(error))
                    if self._hurrying.wait(delay_s):
                        # Nobody is told of a fault that the next launch may find cured.
                        self._close(batch)
                        return
                    delay_s = min(delay_s * 2, LONGEST_RETRY_S)
                    in_doubt = True
                    continue
                if len(batch) == 1:
                    self._fail(batch, error)
                    return
                for ticket in batch:
                    self._commit(lane, [ticket], in_doubt=in_doubt)
                return
            log.database_available("writer")
            if topics:
                self._publish(topics)
            return

    def _apply(self, lane: _Lane, batch: Sequence[Ticket], *, in_doubt: bool) -> list[Topic]:
        """One transaction for the batch; the topics to ring once it is durable."""
        topics: list[Topic] = []
        kinds = _by_kind(batch)
        is_single = len(kinds) == 1 and self._is_single(kinds[0][0], in_doubt=in_doubt)
        with self._database.write(lane.number, single=is_single) as tx:
            for write, tickets in kinds:
                apply = self._applied(write, in_doubt=in_doubt, is_single=is_single)
                answers = apply(tx, [ticket.arg for ticket in tickets])
                _give_answers(write, tickets, answers, topics)
            if topics and self._database.rings_within:
                self._database.ring_within(tx, topics)
        return topics

    def _is_single(self, write: Write[Any, Any], *, in_doubt: bool) -> bool:
        """Whether a batch of this kind is one changing statement, which commits by itself."""
        if write.topics is not None and self._database.rings_within:
            # It may add an outbox row to its transaction.
            return False
        if write.single:
            return True
        is_again = in_doubt and write.again is not None
        return write.at_once is not None and self._database.writes_at_once and not is_again

    def _applied(
        self, write: Write[A, R], *, in_doubt: bool, is_single: bool
    ) -> Callable[[Tx, Sequence[A]], list[R]]:
        if in_doubt and write.again is not None:
            return write.again
        if is_single and write.at_once is not None:
            return write.at_once
        return write.apply

    def _fail(self, batch: Iterable[Ticket], error: Exception) -> None:
        for ticket in batch:
            ticket.error = self._database.translate(error)


class _Lane:
    """One writer connection's worth of order.

    The lock guards the connection and the leaving of the queue. It is reentrant for the sake of its
    release, which fails for whoever does not hold it; `is_busy` refuses a second entry.
    """

    __slots__ = (
        "arrivals",
        "is_busy",
        "is_closed",
        "is_ending",
        "lock",
        "number",
        "queue",
        "thread",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.lock = threading.RLock()
        self.queue: deque[Ticket] = deque()
        self.arrivals: SimpleQueue[None] = SimpleQueue()
        """One entry for each ticket that came: what the writer thread sleeps on."""
        self.thread: threading.Thread | None = None
        self.is_busy = False
        """Whether a thread commits a write of its own."""
        self.is_ending = False
        self.is_closed = False


def _gather(queue: deque[Ticket]) -> list[Ticket]:
    """All that is queued, up to the largest batch. For the holder of the lane's lock."""
    return [queue.popleft() for _ in range(min(len(queue), LARGEST_BATCH))]


def _by_kind(batch: Sequence[Ticket]) -> list[tuple[Write[Any, Any], Sequence[Ticket]]]:
    if len(batch) == 1:
        return [(batch[0].write, batch)]
    kinds: dict[Write[Any, Any], list[Ticket]] = {}
    for ticket in batch:
        kinds.setdefault(ticket.write, []).append(ticket)
    return sorted(kinds.items(), key=lambda kind: kind[0].rank)


def _give_answers(
    write: Write[Any, Any],
    tickets: Sequence[Ticket],
    answers: Sequence[Any],
    topics: list[Topic],
) -> None:
    for ticket, answer in zip(tickets, answers, strict=True):
        ticket.answer = answer
        if write.topics is not None:
            topics.extend(write.topics(ticket.arg, answer))
