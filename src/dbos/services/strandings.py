"""Stranded runs: one warning an hour for each workflow name and version that no process may run.

A process that starts has not yet told what it serves, and a deploy ends one process before it
starts the next. So what is found is looked at once more, after a moment, before it is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dbos.engine.eligibility import as_of_now, reason
from dbos.engine.engine import Engine
from dbos.runtime.reader import Reader
from dbos.runtime.service import Service
from dbos.storage import listing
from dbos.telemetry import log

LOOK_EVERY_S = 60.0
CONFIRM_AFTER_S = 10.0
FIRST_AFTER_S = 2.0
REPEAT_AFTER_S = 3600.0
MOST_AT_ONCE = 20
"""Warnings of one look. Names come from the database, and may be any number."""

Key = tuple[str, str | None]


class Strandings(Service):
    """Warns of runs of this application that wait for nobody."""

    name = "strandings"
    first_after_s = FIRST_AFTER_S

    def __init__(
        self, engine: Engine, reader: Reader, elapsed_s: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._engine = engine
        self._reader = reader
        self._elapsed_s = elapsed_s
        self._suspected: set[Key] = set()
        self._told_at_s: dict[Key, float] = {}

    def tick(self) -> float:
        now_s = self._elapsed_s()
        self._told_at_s = {
            key: at_s for key, at_s in self._told_at_s.items() if now_s - at_s < REPEAT_AFTER_S
        }
        found = {key: why for key, why in self._look().items() if key not in self._told_at_s}
        confirmed = sorted(found.keys() & self._suspected, key=repr)[:MOST_AT_ONCE]
        for key in confirmed:
            self._told_at_s[key] = now_s
            log.stranded(*key, found[key])
        self._suspected = found.keys() - set(confirmed)
        return CONFIRM_AFTER_S if self._suspected else LOOK_EVERY_S

    def _look(self) -> dict[Key, str]:
        """Names and versions of stranded runs, each with a reason of theirs."""
        if not self._engine.lease.is_trusted():
            # Nobody may seem to be alive after an outage, before the leases are renewed.
            return {}
        own, unnamed = self._engine.settings.name, self._engine.codec.unnamed
        kinds = self._reader.run(listing.waiting_kinds)
        kinds = [kin for kin in kinds if kin.application_name in (None, own)]
        if not kinds:
            return {}
        fleet = as_of_now(self._reader.run(listing.fleet), self._engine)
        found: dict[Key, str] = {}
        for kin in kinds:
            if why := reason(kin, fleet, unnamed):
                found.setdefault((kin.name, kin.app_version), why)
        return found
