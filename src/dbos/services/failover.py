"""Takeover: runs whose owner is gone go back on their queues, whoever started them."""

from __future__ import annotations

from collections.abc import Callable

from dbos.clock import HostIdentity
from dbos.runtime.committer import Committer
from dbos.runtime.reader import Reader
from dbos.runtime.service import Service
from dbos.storage import executors, recovery
from dbos.storage.recovery import TakeOver
from dbos.storage.rows import LiveExecutor

BATCH = 500
LOOK_AT_PEERS_S = 5.0
LOOK_AT_PIDS_S = 1.0
EXPIRED_KEPT_MS = 60_000


class Failover(Service):
    """Looks for incarnations that ended, and takes over what they own.

    A peer on this host whose process is gone is found within a second, without a query: its pid is
    looked up in the system. Any other peer is dead when its lease has expired by the database's
    clock.
    """

    name = "failover"

    def __init__(
        self,
        committer: Committer,
        reader: Reader,
        host: HostIdentity,
        take_over: Callable[[], TakeOver],
    ) -> None:
        super().__init__()
        self._committer = committer
        self._reader = reader
        self._host = host
        self._take_over = take_over
        self._peers: list[LiveExecutor] = []
        self._look_again_ms = 0
        self.is_enabled = True

    def tick(self) -> float:
        dead = [peer for peer in self._peers if self._is_dead(peer)]
        if dead or self.was_rung or self._reader.now_ms() >= self._look_again_ms:
            self.recover_all()
        return LOOK_AT_PIDS_S

    def recover_all(self) -> int:
        """Look at all peers and take over what has no live owner; the number of runs."""
        application_name = self._take_over().application_name
        self._peers, has_open_runs = self._reader.run(recovery.look, application_name)
        dead = [peer.incarnation_id for peer in self._peers if self._is_dead(peer)]
        for incarnation_id in dead:
            self._committer.run(executors.remove, incarnation_id, "")
        self._peers = [peer for peer in self._peers if peer.incarnation_id not in dead]
        now_ms = self._reader.now_ms()
        expiries = [peer.lease_until_ms for peer in self._peers if peer.lease_until_ms > now_ms]
        self._look_again_ms = min([now_ms + round(LOOK_AT_PEERS_S * 1000), *expiries])
        total = 0
        while (has_open_runs or dead) and (
            taken := self._committer.run(recovery.take_over, self._take_over(), "")
        ):
            total += len(taken)
            if len(taken) < BATCH:
                break
        if any(peer.lease_until_ms < now_ms - EXPIRED_KEPT_MS for peer in self._peers):
            self._committer.run(executors.sweep, EXPIRED_KEPT_MS, "")
        return total

    def _is_dead(self, peer: LiveExecutor) -> bool:
        return self._host.is_provably_dead(peer.host, peer.pid, peer.process_started)
