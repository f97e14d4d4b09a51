"""A run's history in memory, and the order in which outcomes reach its tasks.

Theory of operation. The recorded operations of a run are loaded once per attempt; a first attempt
loads nothing. An operation finds its record by step id, without a query.

Step ids are handed out when calls are made, so in a run with several asyncio tasks they depend on
which task continues first after each outcome. Two rules make every replay continue in the same
order:

1. Outcomes are delivered one at a time, in the order of their records (`record_order`).
2. Between two deliveries every task that can run does so first (`Io.settle`), so all that follows
   one outcome has happened before the next one is seen.

Both rules hold in the first attempt as in a replay. A run with a single operation under way has
nothing to order and skips them in its first attempt; the blocking driver has no tasks and never
needs them.

The end of a sleep is an outcome too, but has no record: its row is written when the sleep begins.
Its wake time says where it belongs: before the first record that was made at that time or later.
Of several sleeps the one that is over first comes first. A record therefore waits until the sleeps
that belong before it have ended, and a sleep for the records that belong before its end.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from dbos.engine.io import Io, Signal
from dbos.storage.rows import RecordedStep
from dbos.telemetry import log

# A deterministic workflow asks for every recorded operation in time. One that does not must not
# hang: after this long without a delivery the order is given up, and a changed step id is then
# reported.
PATIENCE_S = 5.0

UNORDERED = "DBOS.sleep"
"""Its row is a deadline, written when the wait begins; it delivers nothing by itself."""


class Sleeper:
    """A sleep that has begun and has not ended yet."""

    __slots__ = ("bell", "delivered", "is_called", "place", "wake_at_ms")

    def __init__(self, wake_at_ms: int, bell: Signal, delivered: int) -> None:
        self.wake_at_ms: int = wake_at_ms
        self.bell: Signal = bell
        self.delivered: int = delivered
        """How much was delivered before it began."""
        self.is_called: bool = False
        """Whether the next record waits for its end."""
        self.place: int | None = None
        """The place before which its end belongs; None while its time is not over."""


class Replay:
    """The history of one attempt."""

    __slots__ = (
        "_abandoned",
        "_awaiting",
        "_bells",
        "_due",
        "_next_order",
        "_next_place",
        "_places",
        "_sleepers",
        "_times",
        "delivered",
        "latest_ms",
        "steps",
    )

    def __init__(self, recorded: Sequence[RecordedStep] = ()) -> None:
        self.steps: dict[int, RecordedStep] = {step.step_id: step for step in recorded}
        ordered = sorted((step for step in recorded if step.name != UNORDERED), key=_delivery_order)
        self._places = {step.step_id: place for place, step in enumerate(ordered)}
        self._next_place = len(ordered)
        self._next_order = max((step.order or 0 for step in recorded), default=0)
        self._due = 0
        self._bells: dict[int, Signal] = {}
        self._abandoned: set[int] = set()
        self._times = [step.completed_at_ms or 0 for step in ordered]
        self._sleepers: list[Sleeper] = []
        self._awaiting: Signal | None = None
        self.delivered: int = 0
        """How many outcomes and ends of sleeps were delivered."""
        self.latest_ms: int = 0
        """When the latest record of this attempt was made."""

    def take_order(self) -> int:
        """The next `record_order` of this run."""
        self._next_order += 1
        return self._next_order

    def made_at(self, now_ms: int) -> int:
        """The time of a record that is made now: never before the one that was made last."""
        self.latest_ms = max(self.latest_ms, now_ms)
        return self.latest_ms

    def place(self, step_id: int) -> int | None:
        """A recorded operation's place in the order of delivery; None if it delivers nothing."""
        return self._places.get(step_id)

    def append_place(self) -> int:
        """The place of an operation that is recorded now."""
        self._next_place += 1
        return self._next_place - 1

    def passes(self, place: int, delivered: int) -> bool:
        """Deliver at this place at once if it is due. For a run with nothing else under way.

        `delivered` is how much was delivered when the place was taken: what follows from anything
        that was delivered since may still be on its way.
        """
        if place != self._due or delivered != self.delivered:
            return False
        self.delivered += 1
        if self._abandoned or self._bells:
            self._advance(place)
        else:
            self._due += 1
        return True

    async def turn(self, io: Io, place: int, made_at_ms: int) -> None:
        """Wait until all that belongs before this place was delivered and has had its effect."""
        try:
            while self._due < place:
                bell = self._bells[place] = io.signal()
                if not await io.wait(bell, PATIENCE_S) and self._due < place:
                    log.replay_order_given_up()
                    self._due = place
            await self._settle(io)
            await self._wake_before(io, made_at_ms)
        finally:
            self._advance(place)

    def abandon(self, place: int) -> None:
        """The operation at this place will deliver nothing."""
        self._advance(place)

    @contextmanager
    def asleep(self, wake_at_ms: int, bell: Signal) -> Generator[Sleeper, None, None]:
        """Have a sleep known until it has ended; its bell rings when it may have to end."""
        sleeper = Sleeper(wake_at_ms, bell, self.delivered)
        insort(self._sleepers, sleeper, key=_wake_time)
        try:
            yield sleeper
        finally:
            self._sleepers.remove(sleeper)
            self.delivered += 1
            if self._awaiting is not None:
                self._awaiting.ring()
            self._call_first_sleeper()

    async def wake(self, io: Io, sleeper: Sleeper, *, is_alone: bool) -> None:
        """At the end of a sleep's time: wait until all that belongs before its end has happened.

        `is_alone`: it sleeps for the first time, with no other operation under way.
        """
        if io.cooperative and not (is_alone and self.delivered == sleeper.delivered):
            sleeper.place = self._place_of(sleeper)
            while not await self._is_its_turn(io, sleeper):
                # What is recorded may never be asked for; what is being recorded will be.
                limit_s = PATIENCE_S if self._due < len(self._times) else None
                if not await io.wait(sleeper.bell, limit_s) and not self._may_wake(sleeper):
                    log.replay_order_given_up()
                    break
        self.made_at(sleeper.wake_at_ms)

    def _place_of(self, sleeper: Sleeper) -> int:
        for place in range(self._due, len(self._times)):
            if self._times[place] >= sleeper.wake_at_ms:
                return place
        return self._next_place

    async def _is_its_turn(self, io: Io, sleeper: Sleeper) -> bool:
        if not sleeper.is_called and self._may_wake(sleeper):
            await self._settle(io)
        return sleeper.is_called or self._may_wake(sleeper)

    def _may_wake(self, sleeper: Sleeper) -> bool:
        place = sleeper.place
        return self._sleepers[0] is sleeper and place is not None and self._due >= place

    async def _wake_before(self, io: Io, made_at_ms: int) -> None:
        """Have the sleeps end that belong before a record, with all that follows from each."""
        while self._sleepers and self._sleepers[0].wake_at_ms <= made_at_ms:
            sleeper = self._sleepers[0]
            sleeper.is_called = True
            ended = self._awaiting = io.signal()
            sleeper.bell.ring()
            while sleeper in self._sleepers:
                if not await io.wait(ended, PATIENCE_S) and sleeper in self._sleepers:
                    log.replay_order_given_up()
                    return
            await self._settle(io)

    async def _settle(self, io: Io) -> None:
        """Let all that can run do so, until nothing was delivered meanwhile."""
        delivered = -1
        while delivered != self.delivered:
            delivered = self.delivered
            await io.settle()

    def _advance(self, place: int) -> None:
        self.delivered += 1
        self._bells.pop(place, None)
        self._abandoned.add(place)
        while self._due in self._abandoned:
            self._abandoned.discard(self._due)
            self._due += 1
        bell = self._bells.get(self._due)
        if bell is not None:
            bell.ring()
        self._call_first_sleeper()

    def _call_first_sleeper(self) -> None:
        if self._sleepers and self._may_wake(self._sleepers[0]):
            self._sleepers[0].bell.ring()


def _wake_time(sleeper: Sleeper) -> int:
    return sleeper.wake_at_ms


def _delivery_order(step: RecordedStep) -> tuple[int, int, int]:
    return (step.order or 0, step.completed_at_ms or 0, step.step_id)
