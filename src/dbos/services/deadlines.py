"""Deadlines: runs whose time is over are cancelled, whoever owns them and wherever they wait.

A run here whose deadline is near is known in memory; of all others the database is asked every few
seconds. Whoever claims a run that is overdue cancels it before its code runs.
"""

from __future__ import annotations

from dbos.engine.engine import Engine
from dbos.engine.execution import DEADLINE_SET
from dbos.runtime.committer import Committer
from dbos.runtime.reader import Reader
from dbos.runtime.service import Service
from dbos.runtime.wakeups import WakeupHub
from dbos.storage import management
from dbos.storage.management import Command

BATCH = 1000
ASK_EVERY_MS = 5000
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

    def tick(self) -> float:
        now_ms = self._reader.now_ms()
        overdue = [
            run.workflow_id
            for run in list(self._engine.running.values())
            if run.deadline_ms is not None and run.deadline_ms <= now_ms and run.stop is None
        ]
        if now_ms >= self._ask_again_ms:
            self._ask_again_ms = now_ms + ASK_EVERY_MS
            overdue += self._reader.run(management.due, self._engine.settings.name, BATCH)
        if overdue:
            command = Command(tuple(dict.fromkeys(overdue)))
            self._committer.run(management.cancel, command, command.workflow_ids[0])
        return self._pause_ms(now_ms) / 1000

    def _pause_ms(self, now_ms: int) -> int:
        next_ms = min(
            (
                run.deadline_ms
                for run in list(self._engine.running.values())
                if run.deadline_ms is not None and run.stop is None
            ),
            default=now_ms + LONGEST_PAUSE_MS,
        )
        return max(1, min(next_ms - now_ms, LONGEST_PAUSE_MS))
