"""Orphans: runs that this process owns and that no attempt here works on are handed back.

An attempt that ends without an outcome hands its run back. Where the database refused that too, a
live process would own the run for ever, and nobody may take over from the living. Two looks must
agree: a claim that was committed a moment ago has not begun yet.
"""

from __future__ import annotations

from dbos.engine.engine import Engine
from dbos.engine.execution import hand_back_claim
from dbos.runtime.reader import Reader
from dbos.runtime.service import Service
from dbos.storage import recovery

LOOK_EVERY_S = 60.0
CONFIRM_AFTER_S = 30.0
FIRST_AFTER_S = 2.0


class Orphans(Service):
    """Compares what this process owns with what runs in it."""

    name = "orphans"
    first_after_s = FIRST_AFTER_S

    def __init__(self, engine: Engine, reader: Reader) -> None:
        super().__init__()
        self._engine = engine
        self._reader = reader
        self._suspected: set[tuple[str, str]] = set()

    def tick(self) -> float:
        owned = self._reader.run(recovery.owned, self._engine.identity.incarnation_id)
        # A run whose former attempt winds down here is held back, and will begin.
        found = {(run, claim) for run, claim in owned if run not in self._engine.running}
        for workflow_id, claim in found & self._suspected:
            hand_back_claim(self._engine.blocking, workflow_id, claim, workflow_id)
        self._suspected = found
        return CONFIRM_AFTER_S if found else LOOK_EVERY_S
