"""A second process of the same program, told what to do line by line.

Both read the same clock: `time.perf_counter` counts from the boot of the machine for all processes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.work.program import config, program_command
from dbos import DBOS

READY = "ready"


class Peer:
    """The other process, seen from the one that started it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the other process has ended")
        return line.strip()


@contextmanager
def started_peer(module: str, *arguments: str) -> Iterator[Peer]:
    """Start a program of this folder as the other process, and wait until it is ready."""
    process = subprocess.Popen(
        program_command(module, ["peer=1", *arguments]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        peer = Peer(process)
        try:
            assert peer.hear() == READY
            yield peer
        finally:
            process.kill()


@contextmanager
def launched_as_peer(*, serves_queues: bool = True) -> Iterator[None]:
    """An engine in the other process, under a label of its own: labels may not be shared there."""
    DBOS(config={**config(), "executor_id": "peer"})
    if not serves_queues:
        DBOS.listen_queues([])
    DBOS.launch()
    try:
        yield
    finally:
        DBOS.destroy()


def say(word: object) -> None:
    print(word, flush=True)


def told() -> Iterator[str]:
    """The words of the process that started this one."""
    for line in sys.stdin:
        yield line.strip()
