"""The life of one worker process, as its parent sees it: commands in, sayings out, death."""

from __future__ import annotations

import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.process.errands import Errand

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


@dataclass(slots=True)
class Heard:
    """What workers have said so far."""

    is_ready: bool = False
    acknowledged: set[str] = field(default_factory=set[str])
    results: dict[str, str] = field(default_factory=dict[str, str])

    def take(self, line: str) -> None:
        verb, *details = line.split()
        if verb == "ready":
            self.is_ready = True
        elif verb in ("started", "returned"):
            self.acknowledged.add(details[0])
        elif verb == "result":
            self.results[details[0]] = details[1]


class Life:
    """One worker process. What it writes to standard error goes to the file `complaints`."""

    def __init__(
        self,
        database_url: str,
        directory: Path,
        heard: Heard,
        *,
        lease_s: float = 15.0,
        patience_s: int = 10,
    ) -> None:
        """`patience_s` is how long background runs have to end when it shuts down."""
        command = [sys.executable, "-m", "tests.process.worker", database_url, str(directory)]
        command += [str(lease_s), str(patience_s)]
        self.heard = heard
        self.heard.is_ready = False
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.started_at = time.monotonic()
        self.launch_s = math.inf
        self.complaints = directory / f"{time.monotonic_ns()}.stderr"
        with self.complaints.open("wb") as complaints:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                bufsize=1,
            )
        self._reader = threading.Thread(target=self._read, name="worker's sayings", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, errand: Errand) -> None:
        self._command(errand.command())

    def ask_result(self, workflow_id: str) -> None:
        self._command(f"result {workflow_id}")

    def set_clock(self, ahead_s: float) -> None:
        """Have the worker's wall clock show another time from now on."""
        self._command(f"clock {ahead_s}")

    def listen(self, until: float) -> bool:
        """Take in what the worker says until it says something; False at the given time."""
        try:
            line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return False
        if line is None:
            raise RuntimeError(f"The worker ended by itself:\n{self.complaints.read_text()}")
        self.heard.take(line)
        return True

    def get_ready(self, until: float) -> bool:
        """Listen until the worker is launched; False if it was not at the given time."""
        while not self.heard.is_ready:
            if not self.listen(until):
                return False
        self.launch_s = min(self.launch_s, time.monotonic() - self.started_at)
        return True

    def be_ready(self) -> None:
        if not self.get_ready(time.monotonic() + PATIENCE_S):
            raise TimeoutError(f"The worker did not launch in {PATIENCE_S:.0f} s.")

    def freeze(self) -> None:
        """Stop the process where it is, as a machine that is paused would."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill with no chance to say goodbye, and take in what it has said before."""
        os.kill(self.pid, signal.SIGKILL)
        self._bury()
        while (line := self._lines.get()) is not None:
            self.heard.take(line)

    def end(self) -> int:
        """Let the worker shut down in good order; its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._bury()

    def abandon(self) -> None:
        """Whatever has happened, leave nothing behind. Harmless after an end."""
        if self._process.poll() is None:
            self._process.kill()
        self._bury()

    def _bury(self) -> int:
        code = self._process.wait(PATIENCE_S)
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        return code

    def _command(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)


def environment() -> dict[str, str]:
    """Our own environment, where the package and these tests can be imported."""
    paths = [str(ROOT / "src"), str(ROOT)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DBOS_")}
    return inherited | {"PYTHONPATH": os.pathsep.join(paths)}
