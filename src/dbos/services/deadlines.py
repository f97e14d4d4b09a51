"""Deadlines: runs whose time is over are cancelled, whoever owns them and wherever they wait.

A run here whose deadline is near is known in memory; of all others the database is asked every ten
seconds, when the next known one is over, and, at most once a second, after a deadline was set here.
Whoever claims a run that is overdue cancels it before its code runs.
"""

from __future__ import annotations

from dbos.engine.engine import Engine
from dbos.engine.execution import DEADLINE_SET
from dbos.runtime.committer import Committer
from dbos.runtime.reader import Reader
from dbos.runtime.service import Service
from dbos.runtime.wakeups import WakeupHub
from dbos.storage import deadlines
from dbos.storage.deadlines import Expiry

BATCH = 1000
ASK_EVERY_MS = 10_000
ASK_AT_MOST_EVERY_MS = 1000
LONGEST_PAUSE_MS = 1000


class Deadlines(Service):
    """Cancels what is overdue."""

    name = "deadlines"

    def __init__(
        self, engine: Engine, committer: Committer, reader: Reader, hub: WakeupHub
    ) -> None:
        super().__init__()
        hub.attach(DEADLINE_SET, self.bell)
        self._engine = engine
        self._committer = committer
        self._reader = reader
        self._ask_again_ms = 0
        self._asked_ms = 0

    def tick(self) -> float:
        now_ms = self._reader.now_ms()
        overdue = self._overdue_here(now_ms)
        if self.was_rung:
            # A run that waits on a queue is not in memory, and its deadline may be near.
            soon_ms = self._asked_ms + ASK_AT_MOST_EVERY_MS
            self._ask_again_ms = min(self._ask_again_ms, soon_ms)
        if now_ms >= self._ask_again_ms:
            self._asked_ms = now_ms
            name = self._engine.settings.name
            due = self._reader.run(deadlines.due, name, now_ms, ASK_EVERY_MS, BATCH)
            is_full = len(due.workflow_ids) == BATCH
            next_ms = now_ms if is_full else due.next_ms or now_ms + ASK_EVERY_MS
            self._ask_again_ms = min(next_ms, now_ms + ASK_EVERY_MS)
            overdue += due.workflow_ids
        if overdue:
            self._expire(tuple(dict.fromkeys(overdue)), now_ms)
        return self._pause_ms(now_ms) / 1000

    def _overdue_here(self, now_ms: int) -> list[str]:
        return [
            run.workflow_id
            for run in list(self._engine.running.values())
            if run.deadline_ms is not None and run.deadline_ms <= now_ms and run.stop is None
        ]

    def _expire(self, workflow_ids: tuple[str, ...], now_ms: int) -> None:
        expiry = Expiry(workflow_ids, now_ms)
        for workflow_id, claim in self._committer.run(deadlines.expire, expiry, workflow_ids[0]):
            run = self._engine.running.get(workflow_id)
            if run is not None and run.claim == claim:
                self._engine.dismiss(run, "cancelled")

    def _pause_ms(self, now_ms: int) -> int:
        """Until the next deadline. One that was over just now has been dealt with."""
        upcoming = [
            run.deadline_ms
            for run in list(self._engine.running.values())
            if run.deadline_ms is not None and run.deadline_ms > now_ms and run.stop is None
        ]
        next_ms = min([*upcoming, self._ask_again_ms, now_ms + LONGEST_PAUSE_MS])
        return max(1, next_ms - now_ms)
