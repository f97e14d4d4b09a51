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
"""

from __future__ import annotations

from collections.abc import Sequence

from dbos.engine.io import Io, Signal
from dbos.storage.rows import RecordedStep
from dbos.telemetry import log

# A deterministic workflow asks for every recorded operation in time. One that does not must not
# hang: after this long without a delivery the order is given up, and a changed step id is then
# reported.
PATIENCE_S = 5.0

UNORDERED = "DBOS.sleep"
"""Its row is a deadline, written when the wait begins; it delivers nothing by itself."""


class Replay:
    """The history of one attempt."""

    __slots__ = ("_abandoned", "_bells", "_due", "_next_order", "_next_place", "_places", "steps")

    def __init__(self, recorded: Sequence[RecordedStep] = ()) -> None:
        self.steps: dict[int, RecordedStep] = {step.step_id: step for step in recorded}
        ordered = sorted((step for step in recorded if step.name != UNORDERED), key=_delivery_order)
        self._places = {step.step_id: place for place, step in enumerate(ordered)}
        self._next_place = len(ordered)
        self._next_order = max((step.order or 0 for step in recorded), default=0)
        self._due = 0
        self._bells: dict[int, Signal] = {}
        self._abandoned: set[int] = set()

    def take_order(self) -> int:
        """The next `record_order` of this run."""
        self._next_order += 1
        return self._next_order

    def place(self, step_id: int) -> int | None:
        """A recorded operation's place in the order of delivery; None if it delivers nothing."""
        return self._places.get(step_id)

    def append_place(self) -> int:
        """The place of an operation that is recorded now."""
        self._next_place += 1
        return self._next_place - 1

    def passes(self, place: int) -> bool:
        """Deliver at this place at once if it is due. For a run with nothing else under way."""
        if place != self._due:
            return False
        if self._abandoned or self._bells:
            self._advance(place)
        else:
            self._due += 1
        return True

    async def turn(self, io: Io, place: int) -> None:
        """Wait until all outcomes before this place were delivered and have had their effect."""
        try:
            while self._due < place:
                bell = self._bells[place] = io.signal()
                if not await io.wait(bell, PATIENCE_S) and self._due < place:
                    log.replay_order_given_up()
                    self._due = place
            await io.settle()
        finally:
            self._advance(place)

    def abandon(self, place: int) -> None:
        """The operation at this place will deliver nothing."""
        self._advance(place)

    def _advance(self, place: int) -> None:
        self._bells.pop(place, None)
        self._abandoned.add(place)
        while self._due in self._abandoned:
            self._abandoned.discard(self._due)
            self._due += 1
        bell = self._bells.get(self._due)
        if bell is not None:
            bell.ring()


def _delivery_order(step: RecordedStep) -> tuple[int, int, int]:
    return (step.order or 0, step.completed_at_ms or 0, step.step_id)
