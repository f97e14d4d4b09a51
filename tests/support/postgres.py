"""Real PostgreSQL servers for tests and measurements, on loopback and in a temporary directory.

`PostgresServer` is a server of one's own, to stop, restart and signal. `shared_postgres` is one
server for all the processes of a test run; it takes a second to make, so it is made once.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql

from tests.support import postgres_watchdog
from tests.support.postgres_binaries import find_binaries, run_as, unprivileged_account

USER = "perdure"
START_TIMEOUT_S = 60.0
START_ATTEMPTS = 10

StopMode = Literal["smart", "fast", "immediate"]
STOP_SIGNALS: dict[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """Where a server listens, and how to get in as its superuser."""

    port: int
    password: str = field(repr=False)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """Create an empty database and return its name."""
        name = f"test_{secrets.token_hex(6)}"
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, cutting off whoever is still connected to it."""
        self._execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)


class PostgresServer:
    """A server of one's own. Its contents last until `close`; `stop` and `start` keep the port too.

    A durable server flushes every commit to the disk. One that is not is faster, and loses nothing
    as long as the machine stays up: even an immediate stop is no danger to it.
    """

    def __init__(
        self, *, durable: bool = True, users: Path | None = None, discard: tuple[Path, ...] = ()
    ) -> None:
        """With `users`, whoever locks that file keeps the server alive; else this process does."""
        self._durable = durable
        self._account = unprivileged_account()
        self._directory = Path(tempfile.mkdtemp(prefix="perdure-pg-"))
        self._address = PostgresAddress(_free_port(), secrets.token_urlsafe(12))
        self._users = users or self._directory / "users"
        self._discard = (*discard, self._directory)
        self._alive = ExitStack()
        self._binaries: Path | None = None
        self._pid: int | None = None
        if users is None:
            self._alive.enter_context(locked(self._users, fcntl.LOCK_SH))

    def __enter__(self) -> PostgresServer:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> PostgresAddress:
        return self._address

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        if self._pid is None:
            raise RuntimeError("The PostgreSQL server is not running; call start() first.")
        return self._pid

    @property
    def log(self) -> Path:
        return self._directory / "log"

    def url(self, database: str = "postgres") -> str:
        return self._address.url(database)

    def create_database(self) -> str:
        return self._address.create_database()

    def drop_database(self, name: str) -> None:
        self._address.drop_database(name)

    def start(self) -> None:
        """Start, and return when connections are accepted."""
        is_new = self._binaries is None
        binaries = self._binaries or self._create_cluster()
        for _ in range(START_ATTEMPTS):
            if self._try_to_start(binaries):
                return
            # Somebody took the port since we chose it. Once it is known, it must be had again.
            if is_new:
                self._address = PostgresAddress(_free_port(), self._address.password)
        raise RuntimeError(f"PostgreSQL found no free port:\n{self.log.read_text()}")

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop, and return when the server has ended. "immediate" is a crash."""
        if self._pid is None:
            return
        if self._is_running():
            os.kill(self._pid, STOP_SIGNALS[mode])
        wait_until(lambda: not self._is_running(), START_TIMEOUT_S)
        self._pid = None

    def restart(self, mode: StopMode = "fast") -> None:
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop, and remove all that the server has stored."""
        self.stop("immediate")
        shutil.rmtree(self._directory, ignore_errors=True)
        self._alive.close()

    def _create_cluster(self) -> Path:
        binaries = find_binaries(self._account, self._directory)
        password = self._directory / "password"
        password.write_text(self._address.password)
        # The server's account must reach its files, whatever mask we run under.
        self._directory.chmod(0o755)
        if self._account is not None:
            os.chown(self._directory, self._account.uid, self._account.gid)
            os.chown(password, self._account.uid, self._account.gid)
        command = [str(binaries / "initdb"), f"--pgdata={self._directory / 'data'}"]
        command += [f"--username={USER}", f"--pwfile={password}", "--auth=scram-sha-256"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        try:
            run_as(self._account, command)
        except subprocess.CalledProcessError as failure:
            raise RuntimeError(f"initdb failed:\n{failure.stderr.decode()}") from None
        password.unlink()
        self._binaries = binaries
        return binaries

    def _try_to_start(self, binaries: Path) -> bool:
        """Return whether the server runs; False means that its port is taken."""
        said_before = self.log.stat().st_size if self.log.exists() else 0
        self._pid = self._launch(binaries)
        wait_until(lambda: self._is_ready() or not self._is_running(), START_TIMEOUT_S)
        if self._is_running():
            return True
        self._pid = None
        said = self.log.read_bytes()[said_before:].decode(errors="replace")
        if "Address already in use" not in said:
            raise RuntimeError(f"PostgreSQL did not start:\n{said}")
        return False

    def _launch(self, binaries: Path) -> int:
        watchdog = [sys.executable, str(postgres_watchdog.__file__), f"--users={self._users}"]
        watchdog += [f"--discard={path}" for path in self._discard]
        if self._account is not None:
            watchdog += [f"--uid={self._account.uid}", f"--gid={self._account.gid}"]
        server = [str(binaries / "postgres"), "-D", str(self._directory / "data")]
        for name, value in self._settings().items():
            server += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            launched = subprocess.run(
                [*watchdog, "--", *server], check=True, stdout=subprocess.PIPE, stderr=log
            )
        return int(launched.stdout)

    def _settings(self) -> dict[str, str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._address.port),
            "unix_socket_directories": str(self._directory),
            "max_connections": "300",
            "timezone": "UTC",
        }
        if not self._durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        return settings

    def _is_ready(self) -> bool:
        """Whether the postmaster of this start, not one that crashed, says that it is ready."""
        try:
            lines = (self._directory / "data" / "postmaster.pid").read_text().split()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(self._pid)] and lines[-1] == "ready"

    def _is_running(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


@contextmanager
def shared_postgres(meeting_place: Path) -> Generator[PostgresAddress]:
    """Use the one server of all processes that name this directory, starting it if need be.

    It is not durable, and ends with the block of its last user.
    """
    users, announcement = meeting_place / "postgres.users", meeting_place / "postgres.json"
    with locked(users, fcntl.LOCK_SH):
        with locked(meeting_place / "postgres.starting", fcntl.LOCK_EX):
            if not announcement.exists():
                address = _start_shared(users, announcement)
                known = {"port": address.port, "password": address.password}
                announcement.write_text(json.dumps(known))
        yield PostgresAddress(**json.loads(announcement.read_text()))


def _start_shared(users: Path, announcement: Path) -> PostgresAddress:
    """Start a server and leave it to its watchdog: we may well not be its last user."""
    server = PostgresServer(durable=False, users=users, discard=(announcement,))
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server.address


@contextmanager
def locked(path: Path, how: int) -> Generator[None]:
    """Hold a lock on a file, creating it if need be. The kernel ends it with the process."""
    with path.open("ab") as file:
        fcntl.flock(file, how)
        yield


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    """Look every 10 ms: other people's processes have no signal that we could wait for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"PostgreSQL did not do what was asked in {timeout_s:.0f} s.")
        time.sleep(0.01)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Run a server until standard input closes. Its URL is the only line on standard output."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--durable", action=argparse.BooleanOptionalAction, default=True)
    with PostgresServer(durable=parser.parse_args().durable) as server:
        print(server.url(), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
