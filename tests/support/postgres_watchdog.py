"""Runs one PostgreSQL server for as long as anybody uses it, and cleans up after the last user.

Users hold a shared lock on a file, which the kernel drops when they die, however they die. The
watchdog waits for the exclusive lock, which it gets once nobody is left; then it stops the server
and removes what it was told to. So a killed test run leaves no server behind, and the lock counts
the users.

It is run as a script and imports nothing of ours. It prints the server's process id, and goes on
in a session of its own, out of reach of signals meant for the test run.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

STOP_TIMEOUT_S = 20.0


def main() -> None:
    options = _parser().parse_args()
    if os.fork():
        return
    os.setsid()
    server = subprocess.Popen(
        options.command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd="/",
        user=options.uid,
        group=options.gid,
        extra_groups=None if options.uid is None else [],
    )
    _report(server.pid)
    watch(server, options.users, options.discard)


def watch(server: subprocess.Popen[bytes], users: Path, discard: list[Path]) -> None:
    """Return when the server has ended, or has been ended because nobody uses it any more."""
    unused = threading.Event()
    # The lock is kept to the end: a newcomer waits until everything has been removed.
    with users.open("ab") as lock:
        threading.Thread(target=_stop_unused, args=(server, lock, unused), daemon=True).start()
        server.wait()
        if unused.is_set():
            for path in discard:
                _remove(path)


def _stop_unused(server: subprocess.Popen[bytes], lock: IO[bytes], unused: threading.Event) -> None:
    fcntl.flock(lock, fcntl.LOCK_EX)
    unused.set()
    server.send_signal(signal.SIGCONT)
    server.send_signal(signal.SIGINT)
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _report(pid: int) -> None:
    """Say the process id, and close the pipe that whoever started us reads to its end."""
    print(pid, flush=True)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stdout.fileno())
    os.close(silence)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=Path, required=True, help="the file that users lock")
    parser.add_argument(
        "--discard", type=Path, action="append", default=[], help="remove at the end"
    )
    parser.add_argument("--uid", type=int, help="run the server as this user")
    parser.add_argument("--gid", type=int)
    parser.add_argument("command", nargs="+")
    return parser


if __name__ == "__main__":
    main()
