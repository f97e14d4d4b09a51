"""Identity and time of this process: fresh ids, the clock since boot, and whether a peer is dead.

Theory of operation. A run belongs to a process. A peer on the same host may take over at once
when it can *prove* that the process is gone; otherwise it waits for the lease. A pid alone proves
nothing: it is reused, and another container has a process of the same number. So a process is named
by the boot of its host, its pid namespace, its pid and its start time. Two processes may compare
pids only if boot and namespace are equal, and a pid whose start time differs is somebody else.
Whatever cannot be read makes the answer "not proven".
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
_PID_NAMESPACE_LINK = "/proc/self/ns/pid"
_UUID_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def new_id() -> str:
    """A fresh random UUID as text; several times faster than `uuid.uuid4()`."""
    digits = os.urandom(16).hex()
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}"
        f"-{_UUID_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
    )


def new_token() -> str:
    """A fresh random token for a claim: 32 hexadecimal digits."""
    return os.urandom(16).hex()


def boot_id() -> str | None:
    """The identity of this boot of the host, or None where the system does not tell one."""
    try:
        with open(_BOOT_ID_FILE, encoding="ascii") as file:
            return file.read().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def boot_clock_ms() -> int | None:
    """Milliseconds since the host's boot, suspension included; None where there is no such clock.

    Every process of a host reads the same value, and no change of the wall clock moves it.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None:
        return None
    return time.clock_gettime_ns(clock) // 1_000_000


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """Which process this is, in a form that other processes of the same host can check."""

    host: str
    """`<boot id>/<pid namespace>`. Equal texts mean that pids are comparable."""
    pid: int
    process_started: str
    """The start time of the pid as the system gives it; empty where it gives none."""

    @classmethod
    def current(cls) -> HostIdentity:
        """The identity of this process. Take it anew after a fork."""
        pid = os.getpid()
        stat = _read_stat(pid)
        return cls(_host_text(), pid, stat.started if stat is not None else "")

    def is_provably_dead(self, host: str, pid: int, process_started: str) -> bool:
        """Whether that process surely runs no more. False when it cannot be told from here."""
        if host != self.host or pid <= 0:
            return False
        if not _exists(pid):
            return True
        stat = _read_stat(pid)
        if stat is None:
            return False
        if stat.is_gone:
            return True
        return bool(process_started) and stat.started != process_started


@dataclass(frozen=True, slots=True)
class _ProcessStat:
    """The two facts of `/proc/<pid>/stat` that matter here."""

    started: str
    is_gone: bool


def _host_text() -> str:
    """Boot and pid namespace; a random text, which equals no other, where either is unknown."""
    boot = boot_id()
    try:
        namespace = os.readlink(_PID_NAMESPACE_LINK)
    except (OSError, AttributeError):
        namespace = None
    if boot is None or namespace is None:
        return f"unknown-{new_token()}"
    return f"{boot}/{namespace}"


def _exists(pid: int) -> bool:
    """Whether the pid is taken. Signal 0 is safe wherever `/proc` told the namespace."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _read_stat(pid: int) -> _ProcessStat | None:
    """What the system says about a pid, or None when it says nothing."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode("ascii", "replace")
    except OSError:
        return None
    # The command, field 2, stands in parentheses and may hold spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    if len(fields) < 20:
        return None
    state, thread_count, started = fields[0], fields[17], fields[19]
    # A leader that ended before its other threads is a zombie too, but its process still works.
    return _ProcessStat(started, is_gone=state in "ZX" and thread_count in ("0", "1"))
