"""What befalls a database while workers use it: each hardship lasts for the length of a block."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psycopg

from tests.support.postgres import PostgresServer, StopMode

DISK_BYTES = 8 * 1024 * 1024
CUTS = 5
BLOCK = bytes(4096)

Kind = Literal["sqlite", "postgres"]


@dataclass(slots=True)
class Place:
    """One database, empty, and whatever can be done to it."""

    kind: Kind
    directory: Path
    url: str = ""
    server: PostgresServer | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def file(self) -> Path:
        return Path(self.url.removeprefix("sqlite:///"))

    @property
    def postgres(self) -> PostgresServer:
        assert self.server is not None
        return self.server


@dataclass(frozen=True, slots=True)
class Hardship:
    """A kind of fault, the database it befalls, and how to bring it about."""

    name: str
    kind: Kind
    inflict: Callable[[Place], AbstractContextManager[None]]
    lasts_s: float = 4.0
    needs_own_disk: bool = False
    may_be: Callable[[Path], bool] = lambda _: True
    """Whether this account can bring it about in a directory."""


@contextmanager
def place(kind: Kind, directory: Path, *, own_disk: bool = False) -> Generator[Place]:
    """An empty database; with a small disk of its own, if that is asked for and allowed."""
    directory.mkdir(parents=True, exist_ok=True)
    made = Place(kind, directory)
    with made.stack:
        if kind == "postgres":
            # Durable: an immediate stop must lose nothing that was acknowledged.
            made.server = made.stack.enter_context(PostgresServer(durable=True))
            made.url = made.server.url(made.server.create_database())
        else:
            disk = directory / "disk"
            disk.mkdir()
            if own_disk:
                made.stack.enter_context(_small_disk(disk))
            made.url = f"sqlite:///{disk / 'system.sqlite'}"
        yield made


def can_mount(directory: Path) -> bool:
    """Whether this account may make disks."""
    probe = directory / "probe"
    probe.mkdir()
    try:
        with _small_disk(probe):
            return True
    except subprocess.CalledProcessError:
        return False


@contextmanager
def _small_disk(disk: Path) -> Generator[None]:
    options = f"size={DISK_BYTES}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True, capture_output=True)


def _stopped(mode: StopMode) -> Callable[[Place], AbstractContextManager[None]]:
    @contextmanager
    def stop(where: Place) -> Generator[None]:
        where.postgres.stop(mode)
        yield
        where.postgres.start()

    return stop


@contextmanager
def _paused(where: Place) -> Generator[None]:
    """The server and all its sessions stand still; connections stay open."""
    postmaster = where.postgres.pid
    os.kill(postmaster, signal.SIGSTOP)
    sessions = _children(postmaster)
    for session in sessions:
        _signal(session, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in (*sessions, postmaster):
            _signal(process, signal.SIGCONT)


@contextmanager
def _cut(where: Place) -> Generator[None]:
    """Again and again all sessions of the workers are ended."""
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    for _ in range(CUTS):
        with psycopg.connect(where.url, autocommit=True) as connection:
            connection.execute(f"{others} AND datname = current_database()".encode())
        time.sleep(0.3)
    yield


@contextmanager
def _locked(where: Place) -> Generator[None]:
    connection = sqlite3.connect(where.file, timeout=30, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@contextmanager
def _full(where: Place) -> Generator[None]:
    filler = where.file.with_name("filler")
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(BLOCK):
                pass
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def _read_only(where: Place) -> Generator[None]:
    """Not even connections that are open may write, as after a disk was found to be faulty."""
    files = [str(where.file), f"{where.file}-wal"]
    subprocess.run(["chattr", "+i", *files], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *files], check=True, capture_output=True)


def can_forbid_writes(directory: Path) -> bool:
    """Whether this account may make files immutable, on this file system."""
    probe = directory / "immutable"
    probe.touch()
    try:
        subprocess.run(["chattr", "+i", str(probe)], check=True, capture_output=True)
        subprocess.run(["chattr", "-i", str(probe)], check=True, capture_output=True)
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False
    return True


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _signal(pid: int, which: signal.Signals) -> None:
    try:
        os.kill(pid, which)
    except ProcessLookupError:
        return


HARDSHIPS = (
    Hardship("restarted", "postgres", _stopped("fast")),
    Hardship("crashed", "postgres", _stopped("immediate")),
    Hardship("away for 40 s", "postgres", _stopped("fast"), 40.0),
    Hardship("paused", "postgres", _paused, 5.0),
    Hardship("cut off", "postgres", _cut, 0.0),
    Hardship("locked for 10 s", "sqlite", _locked, 10.0),
    Hardship("locked for 40 s", "sqlite", _locked, 40.0),
    Hardship("read-only", "sqlite", _read_only, 5.0, may_be=can_forbid_writes),
    Hardship("disk full", "sqlite", _full, 5.0, needs_own_disk=True, may_be=can_mount),
)
