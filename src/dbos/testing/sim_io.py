"""The simulating driver: every effect of an operation takes virtual time, and may go wrong.

Writes of a process gather in lanes as in `runtime.committer`: what is handed over while a commit
is under way goes into the next one. A commit may be late, may be refused for a while, and may be
applied without its answer arriving; then, by the committer's rule, the same batch is applied again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Protocol, TypeVar, cast
from zlib import crc32

from dbos.engine.context import current_scope
from dbos.engine.io import Call, Signal
from dbos.runtime.aio import SETTLING_TURNS
from dbos.runtime.committer import FIRST_RETRY_S, LARGEST_BATCH
from dbos.storage.protocol import Database, SingleRead, Topic, Tx, Write
from dbos.testing.sim_clock import SimClock
from dbos.testing.sim_loop import Effect, SimLoop, Wake

A = TypeVar("A")
R = TypeVar("R")


@dataclass(slots=True)
class Weather:
    """How the world treats one process: how long things take and how often they fail."""

    random: Random = field(repr=False)
    turn_s: float = 0.0005
    commit_s: float = 0.004
    answer_s: float = 0.002
    read_s: float = 0.003
    refused: float = 0.0
    """Share of commits that the database refuses for now."""
    ambiguous: float = 0.0
    """Share of commits that are applied, but whose answer is lost."""
    slow: float = 0.0
    """Share of commits whose answer takes up to `slow_s`."""
    slow_s: float = 0.0
    crowded: float = 0.0
    """Share of claimed runs for which the process has no thread, so that it gives them back."""
    skew_ms: int = 0
    """How far this process's idea of the database's clock is off."""

    def turn(self) -> float:
        return self.random.random() * self.turn_s

    def read(self) -> float:
        return self.random.random() * self.read_s

    def commit(self) -> float:
        return self.random.random() * self.commit_s

    def answer(self) -> float:
        if self.slow and self.random.random() < self.slow:
            return self.random.random() * self.slow_s
        return self.random.random() * self.answer_s

    def fate(self) -> str:
        """What becomes of a commit: `kept`, `refused` or `ambiguous`."""
        if not self.refused and not self.ambiguous:
            return "kept"
        drawn = self.random.random()
        if drawn < self.refused:
            return "refused"
        return "ambiguous" if drawn < self.refused + self.ambiguous else "kept"


class Witness(Protocol):
    """Who watches a simulation from outside and judges it."""

    def applies(
        self, process: int, write: Write[Any, Any], args: Sequence[Any], apply: Callable[[], Any]
    ) -> Any:
        """Apply writes of one kind within a transaction: call `apply` and return its answers."""
        ...

    def acknowledges(self, process: int, arg: object, answer: object) -> None:
        """The answer to a durable write reaches the process."""
        ...

    def body_begins(self, process: int, workflow_id: str, step_id: int) -> None: ...


class SimBell:
    """A signal of a simulated process; at most one task waits for it."""

    __slots__ = ("_wake", "is_rung")

    def __init__(self) -> None:
        self.is_rung: bool = False
        self._wake: Wake | None = None

    def ring(self) -> None:
        self.is_rung = True
        wake, self._wake = self._wake, None
        if wake is not None:
            wake(True)

    def clear(self) -> None:
        self.is_rung = False

    def arm(self, wake: Wake) -> None:
        self._wake = wake


class SimHub:
    """The bells of one process by topic, rung in the order in which they were left."""

    def __init__(self) -> None:
        self._bells: dict[Topic, list[SimBell]] = {}
        self._subjects: dict[Topic, tuple[str, ...]] = {}

    @contextmanager
    def watch(self, topic: Topic, *subject: str, also: Sequence[Topic] = ()) -> Generator[Signal]:
        bell = SimBell()
        for watched in (topic, *also):
            self._bells.setdefault(watched, []).append(bell)
        if subject:
            self._subjects[topic] = subject
        try:
            yield bell
        finally:
            for watched in (topic, *also):
                self._leave(watched, bell)

    def publish(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
            for known in (topic, Topic(topic.kind, "")):
                for bell in list(self._bells.get(known, ())):
                    bell.ring()

    def subjects(self, kind: str) -> list[tuple[str, ...]]:
        """What is waited for, of one kind."""
        return [subject for topic, subject in self._subjects.items() if topic.kind == kind]

    def _leave(self, topic: Topic, bell: SimBell) -> None:
        bells = self._bells[topic]
        bells.remove(bell)
        if not bells:
            del self._bells[topic]
            self._subjects.pop(topic, None)


@dataclass(slots=True, eq=False)
class SimTicket:
    """A write that was handed over, and who waits for its answer."""

    write: Write[Any, Any]
    arg: Any
    wake: Wake | None
    in_doubt: bool = False
    """An earlier commit may have applied it."""
    answer: Any = None
    error: Exception | None = None


@dataclass(slots=True)
class SimWorld:
    """What the processes of a simulation share."""

    clock: SimClock
    database: Database
    witness: Witness
    random: Random


class SimLane:
    """One lane of commits of one process."""

    def __init__(self, world: SimWorld, process: int, loop: SimLoop, weather: Weather) -> None:
        self.publish: Callable[[Iterable[Topic]], None] = _nobody
        self._world = world
        self._process = process
        self._loop = loop
        self._weather = weather
        self._queue: list[SimTicket] = []
        self._is_busy = False

    def hand_over(self, ticket: SimTicket) -> None:
        # A process that is being killed hands nothing over any more.
        if self._loop.is_alive:
            self._queue.append(ticket)
            if not self._is_busy:
                self._plan_commit()

    def _plan_commit(self) -> None:
        self._is_busy = True
        self._world.clock.after(self._weather.commit(), self._take_batch)

    def _take_batch(self) -> None:
        batch, self._queue = self._queue[:LARGEST_BATCH], self._queue[LARGEST_BATCH:]
        self._commit(batch)

    def _commit(self, batch: list[SimTicket]) -> None:
        """The batch reaches the database; the one of a dead process may have been on its way."""
        if not self._loop.is_alive:
            if self._world.random.random() < 0.5:
                self._apply(batch)
            return
        fate = self._weather.fate()
        if fate != "refused":
            topics = self._apply(batch)
            if fate == "kept":
                self._world.clock.after(self._weather.answer(), lambda: self._settle(batch, topics))
                return
            batch = handed_over_again(batch)
        for ticket in batch:
            ticket.in_doubt = True
        self._world.clock.after(FIRST_RETRY_S, lambda: self._commit(batch))

    def _settle(self, batch: Sequence[SimTicket], topics: Sequence[Topic]) -> None:
        if not self._loop.is_alive:
            return
        self.publish(topics)
        for ticket in batch:
            if ticket.error is None:
                self._world.witness.acknowledges(self._process, ticket.arg, ticket.answer)
            if ticket.wake is None:
                continue
            if ticket.error is not None:
                ticket.wake.fail(ticket.error)
            else:
                ticket.wake(ticket.answer)
        self._is_busy = False
        if self._queue:
            self._plan_commit()

    def _apply(self, batch: Sequence[SimTicket]) -> list[Topic]:
        """One transaction for the batch; taken apart if the database refuses one of its writes."""
        topics: list[Topic] = []
        kinds = _by_kind(batch)
        single = len(kinds) == 1 and kinds[0][0].single
        try:
            with self._world.database.write(single=single) as tx:
                for write, tickets in kinds:
                    args = [ticket.arg for ticket in tickets]
                    answers = self._world.witness.applies(
                        self._process, write, args, _application(write, tx, tickets)
                    )
                    _give(write, tickets, answers, topics)
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
                return []
            return [topic for ticket in batch for topic in self._apply([ticket])]
        return topics


class SimIo:
    """`Io` for the tasks of a simulated process."""

    cooperative = True
    waits = True

    def __init__(self, world: SimWorld, process: int, weather: Weather, lanes: int) -> None:
        self.loop: SimLoop = SimLoop(world.clock, weather.turn)
        self.hub: SimHub = SimHub()
        self._world = world
        self._process = process
        self._weather = weather
        self._lanes = [SimLane(world, process, self.loop, weather) for _ in range(lanes)]
        for lane in self._lanes:
            lane.publish = self.hub.publish

    async def call(self, call: Call) -> Any:
        __tracebackhide__ = True
        scope = current_scope()
        if scope.run is not None and scope.step is not None:
            self._world.witness.body_begins(
                self._process, scope.run.workflow_id, scope.step.step_id
            )
        answer = call.function(*call.args, **call.kwargs)
        return await answer if call.is_async else answer

    async def call_within(self, call: Call, timeout_s: float | None, stop: Signal | None) -> Any:
        raise NotImplementedError("A simulated step cannot be cut short: give it no timeout.")

    async def read(self, query: Callable[..., R], /, *args: Any) -> R:
        def look(wake: Wake) -> None:
            with self._world.database.read(single=isinstance(query, SingleRead)) as tx:
                answer = query(tx, *args)
            self._world.clock.after(self._weather.read(), lambda: wake(answer))

        def begin(wake: Wake) -> None:
            self._world.clock.after(self._weather.read(), lambda: look(wake))

        return cast("R", await Effect(begin))

    async def commit(self, write: Write[A, R], arg: A, lane_key: str) -> R:
        def begin(wake: Wake) -> None:
            self._lane(lane_key).hand_over(SimTicket(write, arg, wake))

        return cast("R", await Effect(begin))

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
        self._lane(lane_key).hand_over(SimTicket(write, arg, None))

    def signal(self) -> SimBell:
        return SimBell()

    async def wait(self, signal: Signal, seconds: float | None) -> bool:
        assert isinstance(signal, SimBell)

        def begin(wake: Wake) -> None:
            if signal.is_rung:
                wake(True)
                return
            signal.arm(wake)
            if seconds is not None:
                self._world.clock.after(seconds, lambda: wake(False))

        await Effect(begin)
        rang = signal.is_rung
        signal.clear()
        return rang

    async def sleep(self, seconds: float) -> None:
        def begin(wake: Wake) -> None:
            self._world.clock.after(seconds, wake)

        await Effect(begin)

    async def settle(self) -> None:
        for _ in range(SETTLING_TURNS):
            await Effect(_next_turn)

    def is_abandonment(self, error: BaseException) -> bool:
        return isinstance(error, GeneratorExit)

    def now_ms(self) -> int:
        return self._world.clock.database_ms() + self._weather.skew_ms

    def _lane(self, key: str) -> SimLane:
        return self._lanes[crc32(key.encode()) % len(self._lanes)]


def handed_over_again(batch: list[SimTicket]) -> list[SimTicket]:
    """What is applied after an answer was lost: the very same writes."""
    return batch


def _application(
    write: Write[Any, Any], tx: Tx, tickets: Sequence[SimTicket]
) -> Callable[[], Sequence[Any]]:
    again = write.again if tickets[0].in_doubt else None
    return partial(again or write.apply, tx, [ticket.arg for ticket in tickets])


def _by_kind(batch: Sequence[SimTicket]) -> list[tuple[Write[Any, Any], list[SimTicket]]]:
    kinds: dict[Write[Any, Any], list[SimTicket]] = {}
    for ticket in batch:
        kinds.setdefault(ticket.write, []).append(ticket)
    return sorted(kinds.items(), key=_rank)


def _rank(kind: tuple[Write[Any, Any], list[SimTicket]]) -> int:
    return kind[0].rank


def _give(
    write: Write[Any, Any], tickets: Sequence[SimTicket], answers: Any, topics: list[Topic]
) -> None:
    for ticket, answer in zip(tickets, answers, strict=True):
        ticket.answer = answer
        if write.topics is not None:
            topics.extend(write.topics(ticket.arg, answer))


def _next_turn(wake: Wake) -> None:
    wake()


def _nobody(_: Iterable[Topic]) -> None:
    return None
