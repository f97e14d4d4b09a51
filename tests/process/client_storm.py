"""Clients steer runs while workers are killed; an outside ledger is counted (`make client`).

python -m tests.process.client_storm [--seed N] [--kills N] [--runs N]
"""

from __future__ import annotations

import argparse
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.process.client_errands import CUT_OFF, Told
from tests.process.jobs import Line, done_again, read_jobs
from tests.process.lives import ROOT, environment
from tests.process.observer import ACTIVE, Observer
from tests.process.storm import database

WORKERS = 2
PATIENCE_S = 600.0
STEPS_OF_A_JOB = 2


@dataclass(slots=True)
class Findings:
    """What the storm did, and what of it must not have been."""

    kills: int
    runs: int
    """All runs in the database at the end, children and forks included."""
    cut_off: int
    """Runs that failed because a child of theirs was cancelled."""
    repeated: int
    """Steps whose body ran more than once: allowed, no record of them was durable."""
    commands: dict[str, int]
    seconds: float
    violations: list[str] = field(default_factory=list[str])


class ClientStorm:
    """Two workers that are killed at random, and a client process that is not."""

    def __init__(self, url: str, directory: Path, seed: int, kills: int, runs: int) -> None:
        self._url = url
        self._directory = directory
        self._seed = seed
        self._random = random.Random(seed)
        self._kills = kills
        self._runs = runs
        self._killed = 0
        self._workers: list[subprocess.Popen[bytes]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        """All that were started."""

    def run(self) -> Findings:
        began = time.monotonic()
        exits = 0
        try:
            self._workers = [self._worker() for _ in range(WORKERS)]
            for worker in self._workers:
                _be_ready(worker)
            client = self._start("client_errands", str(self._seed), str(self._runs))
            self._kill_while(client, began + PATIENCE_S)
            exits = client.returncode
            for worker in self._workers:
                worker.communicate(timeout=60)
        finally:
            for process in self._processes:
                process.kill()
                process.communicate()
        return self._findings(exits, time.monotonic() - began)

    def _worker(self) -> subprocess.Popen[bytes]:
        return self._start("client_worker")

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"tests.process.{module}", self._url]
        process = subprocess.Popen(
            [*command, str(self._directory), *arguments],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._processes.append(process)
        return process

    def _kill_while(self, client: subprocess.Popen[bytes], until: float) -> None:
        """Kill a worker now and then while the client is at work, then let it finish."""
        while self._killed < self._kills and client.poll() is None:
            time.sleep(self._random.uniform(0.2, 1.2))
            seat = self._random.randrange(WORKERS)
            self._workers[seat].kill()
            self._workers[seat].communicate()
            self._workers[seat] = self._worker()
            self._killed += 1
        client.communicate(timeout=until - time.monotonic())

    def _findings(self, client_exit: int, seconds: float) -> Findings:
        told, lines = Told.load(self._directory), read_jobs(self._directory)
        statuses = Observer(self._url).statuses()
        worked = Counter(line.workflow_id for line in lines if line.kind == "work")
        found = Findings(
            self._killed,
            len(statuses),
            sum(1 for result in told.results.values() if result == CUT_OFF),
            sum(1 for times in worked.values() if times > 1),
            told.commands,
            seconds,
        )
        if client_exit:
            found.violations.append(f"the client ended with {client_exit}")
        found.violations += faults(told, statuses, lines)
        return found


def faults(told: Told, statuses: dict[str, str], lines: list[Line]) -> list[str]:
    """What was lost, doubled, invented or left without an outcome."""
    found = [
        f"{run} came to {told.results.get(run, 'nothing')!r}"
        for run, may in told.expected.items()
        if told.results.get(run) not in may
    ]
    found += [
        f"{run} is {statuses.get(run, 'lost')}"
        for run, result in told.results.items()
        if statuses.get(run) != ("ERROR" if result == CUT_OFF else "SUCCESS")
    ]
    found += [f"{run} was rolled back and is there" for run in told.rolled_back if run in statuses]
    found += [f"{run} has no outcome" for run, status in statuses.items() if status in ACTIVE]
    parents = {run: run.rpartition("-")[0] for run in statuses if run not in told.expected}
    found += [
        f"{run} was never asked for" for run, parent in parents.items() if parent not in statuses
    ]
    found += [f"{place} was done again" for place in done_again(lines)]
    known = {line.workflow_id for line in lines if line.kind == "known"}
    jobs = [run for run in told.results if run.startswith(("job-", "within-"))]
    places = [f"{run}/{number}" for run in jobs for number in range(STEPS_OF_A_JOB)]
    return found + [f"{place} was never done" for place in places if place not in known]


def _be_ready(worker: subprocess.Popen[bytes]) -> None:
    assert worker.stdout is not None
    if worker.stdout.readline() != b"ready\n":
        raise RuntimeError("a worker ended before it was ready")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.process.client_storm")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--kills", type=int, default=60, help="at the most: they end with the work")
    parser.add_argument("--runs", type=int, default=600)
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    violations = 0
    with tempfile.TemporaryDirectory(prefix="perdure-clients-") as place:
        for kind in ("sqlite", "postgres"):
            directory = Path(place) / kind
            directory.mkdir()
            with database(kind, directory) as url:
                storm = ClientStorm(url, directory, options.seed, options.kills, options.runs)
                found = storm.run()
            print(
                f"{kind}: {found.kills} kills, {found.runs} runs, {found.commands}, "
                f"{found.cut_off} cut off with a child, {found.repeated} steps repeated before "
                f"their record, {len(found.violations)} violations, {found.seconds:.1f} s",
                *found.violations,
                sep="\n    ",
                flush=True,
            )
            violations += len(found.violations)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
