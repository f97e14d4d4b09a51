"""The lease of this incarnation: renewed by the database's clock, trusted by our own.

Theory of operation. Each renewal writes `now + lease` by the database's clock. We trust the lease
for as long from the moment before the renewal was *sent*, less a margin: so when peers may take
over, we have stopped starting operations already. Our own clock counts while the host is suspended,
as the database's does. Renewals come at a third of the lease, on a thread and a connection of their
own: no other write holds them up.
"""

from __future__ import annotations

from collections.abc import Callable

from dbos.engine.io import Io
from dbos.runtime.committer import Committer
from dbos.runtime.service import Service
from dbos.runtime.wakeups import WakeupHub
from dbos.storage import executors
from dbos.storage.host_clock import host_boot_clock
from dbos.storage.protocol import Topic
from dbos.storage.rows import ExecutorRow

REGAINED = Topic("lease", "regained")
CAPABILITIES = Topic("lease", "capabilities")
"""Rung when what this process can run has changed, which its row tells."""

TRUSTED_SHARE = 0.9
RENEWALS_PER_LEASE = 3
RENEWALS_PER_CLOCK = 2
"""Our idea of the database's time is refreshed with every other renewal."""


class LeaseKeeper(Service):
    """Renews the lease, and tells whether it can be trusted."""

    name = "leases"

    def __init__(
        self,
        committer: Committer,
        hub: WakeupHub,
        row: Callable[[], ExecutorRow],
        refresh_clock: Callable[[], None],
        elapsed_ms: Callable[[], int] | None = None,
    ) -> None:
        """`elapsed_ms` is the time since the host's boot, suspension included."""
        super().__init__()
        hub.attach(CAPABILITIES, self.bell)
        self._committer = committer
        self._hub = hub
        self._row = row
        self._refresh_clock = refresh_clock
        self._elapsed_ms = elapsed_ms or host_boot_clock().elapsed_ms
        self._due_at_ms = 0
        self._told: ExecutorRow | None = None
        self._trusted_until_ms = 0
        self._renewals = 0
        self.term: int = 0

    def renew(self) -> None:
        """Renew now; raises if the database does not take it."""
        row = self._row()
        sent_at_ms = self._elapsed_ms()
        self._committer.run(executors.renew, row, row.incarnation_id)
        was_trusted = self.is_trusted()
        self.term += not was_trusted
        self._trusted_until_ms = sent_at_ms + round(row.lease_ms * TRUSTED_SHARE)
        self._told, self._due_at_ms = row, sent_at_ms + row.lease_ms // RENEWALS_PER_LEASE
        if not was_trusted:
            self._hub.publish((REGAINED,))
        if self._renewals % RENEWALS_PER_CLOCK == 0 or not was_trusted:
            self._refresh_clock()
        self._renewals += 1

    def release(self) -> None:
        """Give the lease back: what this incarnation owns may be taken over at once."""
        row = self._row()
        self._trusted_until_ms = 0
        self._committer.run(executors.remove, row.incarnation_id, row.incarnation_id)

    def is_trusted(self) -> bool:
        return self._elapsed_ms() < self._trusted_until_ms

    async def regain(self, io: Io) -> None:
        """Wait for the lease, for a second at the most: the waiter may have to stop meanwhile."""
        with self._hub.watch(REGAINED) as bell:
            if not self.is_trusted():
                await io.wait(bell, 1.0)

    def tick(self) -> float:
        """Renew, a third of the lease after the renewal before was sent, however long it took.

        A row that tells something else than the last one is written at once.
        """
        if self._elapsed_ms() >= self._due_at_ms or self._row() != self._told:
            self.renew()
        return max(0, self._due_at_ms - self._elapsed_ms()) / 1000
