"""The lease of this incarnation: renewed by the database's clock, trusted by our own.

Theory of operation. Each renewal writes `now + lease` by the database's clock. We trust the lease
for as long from the moment before the renewal was *sent*, less a margin: so when peers may take
over, we have stopped starting operations already. Renewals come at a third of the lease, on a
thread of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dbos.engine.io import Io
from dbos.runtime.committer import Committer
from dbos.runtime.service import Service
from dbos.runtime.wakeups import WakeupHub
from dbos.storage import executors
from dbos.storage.protocol import Topic
from dbos.storage.rows import ExecutorRow

REGAINED = Topic("lease", "regained")
TRUSTED_SHARE = 0.9
RENEWALS_PER_LEASE = 3


class LeaseKeeper(Service):
    """Renews the lease, and tells whether it can be trusted."""

    name = "leases"

    def __init__(
        self,
        committer: Committer,
        hub: WakeupHub,
        row: Callable[[], ExecutorRow],
        refresh_clock: Callable[[], None],
    ) -> None:
        super().__init__()
        self._committer = committer
        self._hub = hub
        self._row = row
        self._refresh_clock = refresh_clock
        self._trusted_until = 0.0
        self.term: int = 0

    def renew(self) -> None:
        """Renew now; raises if the database does not take it."""
        row = self._row()
        sent_at = time.monotonic()
        self._committer.run(executors.renew, row, row.incarnation_id)
        self._refresh_clock()
        was_trusted = self.is_trusted()
        self.term += not was_trusted
        self._trusted_until = sent_at + row.lease_ms / 1000 * TRUSTED_SHARE
        if not was_trusted:
            self._hub.publish((REGAINED,))

    def release(self) -> None:
        """Give the lease back: what this incarnation owns may be taken over at once."""
        row = self._row()
        self._trusted_until = 0.0
        self._committer.run(executors.remove, row.incarnation_id, row.incarnation_id)

    def is_trusted(self) -> bool:
        return time.monotonic() < self._trusted_until

    async def regain(self, io: Io) -> None:
        """Wait for the lease, for a second at the most: the waiter may have to stop meanwhile."""
        with self._hub.watch(REGAINED) as bell:
            if not self.is_trusted():
                await io.wait(bell, 1.0)

    def tick(self) -> float:
        self.renew()
        return self._row().lease_ms / 1000 / RENEWALS_PER_LEASE
