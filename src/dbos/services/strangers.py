"""Waiting runs that no live process knows: counted by one process, dead-lettered in the end."""

from __future__ import annotations

from collections.abc import Sequence

from dbos.engine.engine import Engine
from dbos.engine.returns import unknown
from dbos.runtime.committer import Committer
from dbos.runtime.reader import Reader
from dbos.storage import executors, returns
from dbos.storage.returns import WaitingRun

LOOK_EVERY_MS = 1000
LOOK_AT = 1000
"""Runs at the head of a queue that one look compares."""


class Strangers:
    """Finds runs whose function, class or instance nobody has."""

    def __init__(self, engine: Engine, committer: Committer, reader: Reader) -> None:
        self._engine = engine
        self._committer = committer
        self._reader = reader
        self._look_again_ms = 0

    def count(self, queues: Sequence[str]) -> None:
        """Count the unknown runs of queues on which runs were left waiting."""
        now_ms = self._reader.now_ms()
        if not queues or now_ms < self._look_again_ms:
            return
        self._look_again_ms = now_ms + LOOK_EVERY_MS
        name = self._engine.settings.name
        known = self._known()
        for queue in queues:
            waiting = self._reader.run(returns.waiting, name, queue, LOOK_AT)
            rows = [unknown(self._engine, run) for run in waiting if not known.has(run)]
            for row in rows:
                self._committer.run(returns.count_unknown, row, queue)

    def _known(self) -> Known:
        known = Known()
        for peer in self._reader.run(executors.capable):
            if peer.application_name in (None, self._engine.settings.name):
                known.functions.update((name, of) for name, of, _ in peer.can.functions)
                known.instances.update(peer.can.instances)
        registry = self._engine.registry
        known.functions.update(
            (own.run_name, class_name)
            for own in registry.all()
            for class_name in registry.classes.class_names(own)
        )
        known.instances.update(registry.instances())
        return known


class Known:
    """The functions and instances that live processes have."""

    def __init__(self) -> None:
        self.functions: set[tuple[str | None, str | None]] = set()
        self.instances: set[tuple[str | None, str | None]] = set()

    def has(self, run: WaitingRun) -> bool:
        if (run.name, run.class_name) not in self.functions:
            return False
        return run.config_name is None or (run.class_name, run.config_name) in self.instances
