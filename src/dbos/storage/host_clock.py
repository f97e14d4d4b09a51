"""The clock of a SQLite database: the host's time since boot plus an offset agreed on in the file.

SQLite has no clock of its own. The wall clock jumps, and processes that read it at different
instants would disagree about leases. The time since boot never jumps and is the same for every
process of the host; the first process after a boot writes down how far the wall clock is from it,
and all others use that. A platform without such a clock gets the wall clock at start plus
monotonic time: steady within a process, and as good as the wall clock between processes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE_OFFSETS = Path("/proc/self/timens_offsets")

_READ = "SELECT offset_ms FROM perdure_host_clock WHERE boot_id = ?"
_AGREE = (
    "INSERT INTO perdure_host_clock (boot_id, offset_ms) VALUES (?, ?)"
    " ON CONFLICT (boot_id) DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class BootClock:
    """A clock that counts since the boot named by `boot_id`; None if processes cannot share it."""

    boot_id: str | None
    elapsed_ms: Callable[[], int]


def host_boot_clock() -> BootClock:
    """The clock of this host since boot, suspension included, where the platform has one."""
    try:
        boot_id = _BOOT_ID.read_text().strip()
        started_ns = _namespace_offset_ns()
        time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError, ValueError):
        return BootClock(None, _monotonic_ms)

    def elapsed_ms() -> int:
        return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - started_ns) // 1_000_000

    return BootClock(boot_id, elapsed_ms)


class HostClock:
    """Milliseconds since the epoch, steady; agreed among processes once `settle` has run."""

    def __init__(self, boot_clock: BootClock | None = None) -> None:
        self._boot_clock = boot_clock or host_boot_clock()
        self._offset_ms = time.time_ns() // 1_000_000 - self._boot_clock.elapsed_ms()

    def now_ms(self) -> int:
        return self._boot_clock.elapsed_ms() + self._offset_ms

    def settle(self, connection: sqlite3.Connection) -> None:
        """Take over the offset in the file; the first process since the boot writes its own."""
        boot_id = self._boot_clock.boot_id
        if boot_id is None:
            return
        agreed = connection.execute(_READ, (boot_id,)).fetchone()
        if agreed is None:
            connection.execute(_AGREE, (boot_id, self._offset_ms))
            agreed = connection.execute(_READ, (boot_id,)).fetchone()
        self._offset_ms = int(agreed[0])


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _namespace_offset_ns() -> int:
    """How far this time namespace is from the host: containers of one host must agree."""
    if not _NAMESPACE_OFFSETS.exists():
        return 0
    for line in _NAMESPACE_OFFSETS.read_text().splitlines():
        clock, seconds, nanoseconds = line.split()
        if clock in ("boottime", "7"):
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return 0
