"""The lease: how long this process trusts it, by which clock, and when it renews."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dbos.runtime.aio import settle_all
from dbos.runtime.committer import Committer
from dbos.runtime.wakeups import WakeupHub
from dbos.services.leases import REGAINED, LeaseKeeper
from dbos.storage.host_clock import host_boot_clock
from dbos.storage.protocol import Topic
from dbos.storage.rows import ExecutorRow
from dbos.storage.sqlite import SqliteDatabase

LEASE_MS = 9000
ROW = ExecutorRow("inc", "local", "shop", "v1", "compatible", "host", 1, "", LEASE_MS, "{}")


class Clock:
    """The time since boot, which goes on while the host sleeps."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def elapsed_ms(self) -> int:
        return self.now_ms


class Keeper:
    """A lease keeper over a real database, with a clock of the test's."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.clock = Clock()
        self.hub = WakeupHub()
        self.commit_takes_ms = 0
        self.committer = Committer(database, self._publish, settle_all, (database.lanes,))
        self.lease = LeaseKeeper(
            self.committer, self.hub, self._row, self._measure, self.clock.elapsed_ms
        )

    def _row(self) -> ExecutorRow:
        self.clock.now_ms += self.commit_takes_ms
        return ROW

    def _measure(self) -> None:
        return None

    def _publish(self, topics: list[Topic]) -> None:
        self.hub.publish(topics)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    database = SqliteDatabase(tmp_path / "system.sqlite")
    database.migrate()
    made = Keeper(database)
    yield made
    made.committer.stop()
    database.close()


def test_a_lease_is_trusted_for_less_than_its_length(keeper: Keeper) -> None:
    before = keeper.lease.is_trusted()
    keeper.lease.renew()
    fresh = keeper.lease.is_trusted()
    keeper.clock.now_ms += LEASE_MS * 8 // 10
    late = keeper.lease.is_trusted()
    keeper.clock.now_ms += LEASE_MS * 15 // 100

    assert (before, fresh, late, keeper.lease.is_trusted()) == (False, True, True, False)


def test_a_suspended_process_does_not_trust_its_lease_when_it_wakes_up(keeper: Keeper) -> None:
    keeper.lease.renew()
    term = keeper.lease.term
    keeper.clock.now_ms += 8 * 3600 * 1000
    asleep_too_long = keeper.lease.is_trusted()
    with keeper.hub.watch(REGAINED) as bell:
        keeper.lease.renew()
        was_rung = bell.disarm()

    assert not asleep_too_long
    assert keeper.lease.is_trusted()
    assert keeper.lease.term == term + 1
    assert was_rung


def test_the_clock_of_the_lease_counts_while_the_host_sleeps(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "system.sqlite")
    committer = Committer(database, WakeupHub().publish, settle_all)
    lease = LeaseKeeper(committer, WakeupHub(), lambda: ROW, database.refresh_clock)

    assert lease._elapsed_ms.__qualname__ == host_boot_clock().elapsed_ms.__qualname__  # pyright: ignore[reportPrivateUsage]


def test_the_next_renewal_is_due_a_third_of_the_lease_after_the_last_was_sent(
    keeper: Keeper,
) -> None:
    assert keeper.lease.tick() == LEASE_MS / 3000


def test_a_lease_that_was_renewed_at_the_launch_is_not_renewed_again_at_once(
    keeper: Keeper,
) -> None:
    keeper.lease.renew()
    keeper.clock.now_ms += 1000

    pause_s = keeper.lease.tick()

    assert pause_s == LEASE_MS / 3000 - 1
    keeper.clock.now_ms += LEASE_MS // 3 - 1000
    assert keeper.lease.tick() == LEASE_MS / 3000


def test_a_lease_that_was_released_is_not_trusted(keeper: Keeper) -> None:
    keeper.lease.renew()
    keeper.lease.release()

    assert not keeper.lease.is_trusted()
