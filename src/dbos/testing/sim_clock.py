"""Virtual time for simulations: events in order, and a clock that jumps from one to the next."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

EPOCH_MS = 1_700_000_000_000
"""Where simulated database time begins."""


class SimClock:
    """The time of a simulated world. It stands still while code runs, and jumps when none can."""

    def __init__(self) -> None:
        self.now_s: float = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def database_ms(self) -> int:
        """The database's clock."""
        return EPOCH_MS + int(self.now_s * 1000)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Have something happen in a while; of two events at one moment the older comes first."""
        moment = self.now_s + max(0.0, seconds)
        heapq.heappush(self._events, (moment, next(self._numbers), action))

    def step(self) -> bool:
        """Jump to the next event and let it happen; False if nothing will ever happen again."""
        if not self._events:
            return False
        moment, _, action = heapq.heappop(self._events)
        self.now_s = moment
        action()
        return True
