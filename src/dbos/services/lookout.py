"""The safety net beneath the bells: one batched look for all that is waited for.

Most changes ring: those of this process after their commit, those of others through the database's
notifications. Some do not: rows written by hand, by another program, or while a connection was
lost. So now and then the lookout asks the database about everything that somebody here waits for,
one query a kind however many wait, and rings what has changed. It also finds out which of the runs
that are running here were cancelled or taken away.
"""

from __future__ import annotations

from dbos.engine.engine import Engine
from dbos.engine.results import RECHECK_S
from dbos.runtime.reader import Reader
from dbos.runtime.service import Service
from dbos.runtime.wakeups import WakeupHub
from dbos.storage import events, receiving, streams, workflows
from dbos.storage.protocol import Topic


class Lookout(Service):
    """Looks for changes that rang no bell. Rung itself when a run here may have been cancelled."""

    name = "lookout"

    def __init__(self, engine: Engine, reader: Reader, hub: WakeupHub, every_s: float) -> None:
        super().__init__()
        self._engine = engine
        self._reader = reader
        self._hub = hub
        self._every_s = every_s
        self._next_ms = 0
        self._lengths: dict[tuple[str, str], int] = {}
        hub.attach(Topic("cancel", ""), self.bell)

    def tick(self) -> float:
        # Who waits for a result was promised a look each second, however rare those for all others.
        changed = self._ended()
        if self._is_time_for_all():
            self._stop_cancelled_runs()
            changed += self._changed()
        self._hub.publish(changed)
        return min(self._every_s, RECHECK_S)

    def _is_time_for_all(self) -> bool:
        now_ms, every_ms = self._reader.now_ms(), round(self._every_s * 1000)
        is_early = 0 < self._next_ms - now_ms <= every_ms
        if is_early and self._every_s > RECHECK_S and not self.was_rung:
            return False
        self._next_ms = now_ms + every_ms
        return True

    def _stop_cancelled_runs(self) -> None:
        """Tell runs that they were cancelled, or are no longer ours."""
        running = list(self._engine.running.values())
        asked = [run for run in running if run.stop is None]
        if asked:
            stored = self._reader.run(workflows.claims, [run.workflow_id for run in asked])
            for run in asked:
                run.compare(*stored.get(run.workflow_id, (None, "")))
        for run in running:
            if run.stop is not None:
                # One of its operations may have found out first; the others may still be waiting.
                run.tell()

    def _ended(self) -> list[Topic]:
        awaited = [subject[0] for subject in self._hub.subjects("done")]
        if not awaited:
            return []
        return [
            Topic("done", workflow_id) for workflow_id in self._reader.run(workflows.over, awaited)
        ]

    def _changed(self) -> list[Topic]:
        changed: list[Topic] = []
        if waiting := self._pairs("message"):
            changed += self._reader.run(receiving.any_waiting, waiting)
        if awaited := self._pairs("event"):
            changed += self._reader.run(events.any_set, awaited)
        changed += self._longer_streams()
        return changed

    def _longer_streams(self) -> list[Topic]:
        pairs = self._pairs("stream")
        if not pairs:
            self._lengths.clear()
            return []
        lengths = self._reader.run(streams.lengths, pairs)
        grown = [pair for pair, length in lengths.items() if self._lengths.get(pair) != length]
        self._lengths = lengths
        return [streams.stream_topic(*pair) for pair in grown]

    def _pairs(self, kind: str) -> list[tuple[str, str]]:
        return [(subject[0], subject[1]) for subject in self._hub.subjects(kind)]
