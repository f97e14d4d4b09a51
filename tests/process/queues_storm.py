"""Kill workers that serve limited queues, and count from an outside ledger (`make queues`).

python -m tests.process.queues_storm [--seed N] [--kills N] [--jobs N]
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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from tests.process.jobs import (
    GLOBAL_MOST,
    PARTITION_MOST,
    QUEUES,
    RATE_LIMIT,
    RATE_PERIOD_S,
    WORKER_MOST,
    Line,
    done_again,
    most_in_window,
    peaks,
    read_jobs,
)
from tests.process.lives import ROOT, environment
from tests.process.observer import ACTIVE, Observer
from tests.process.storm import database

MOST = {"global": GLOBAL_MOST, "worker": WORKER_MOST, "partition": PARTITION_MOST, "lane": 1}
PATIENCE_S = 120.0
WORKERS = 3
PREFIX = "sched-"
OUTAGE_S = 2.0
"""How long no worker is up, at least."""
STALL_S = 5.0
"""A worker may stand still for so long, starved by those that start; its late ticks collapse."""
OLDEST = 0.8
"""How often the worker that lives longest is killed: the others may still be starting."""


@dataclass(slots=True)
class Findings:
    """What the storm did, and what of it must not have been."""

    kills: int
    peaks: dict[str, int]
    most_starts: int
    ticks: int
    collapsed: int
    """Ticks that were passed over because a later one was due as well."""
    repeated: int
    """Jobs whose body began more than once: allowed, a kill cut them off."""
    waiting: dict[str, int]
    """On each queue, the jobs that waited for the workers when they came back."""
    seconds: float
    violations: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Outage:
    """The time in which no worker was up."""

    dead_at: datetime
    """All were dead by now."""
    started_at: datetime
    """None had been started again until now."""
    back_at: datetime
    """All were serving by now."""
    waiting: dict[str, int]


class QueueStorm:
    """Three workers over one database, killed at random until enough were.

    Half-way all of them are killed together. Half of the jobs are enqueued before; the others
    while no worker is up, so that the limits certainly have more waiting than they let through.
    """

    def __init__(self, url: str, directory: Path, seed: int, kills: int, jobs: int) -> None:
        self._url = url
        self._directory = directory
        self._random = random.Random(seed)
        self._kills = kills
        self._jobs = jobs
        self._next_seat = 0
        self._ready: set[int] = set()
        self._deaths_ns: dict[int, int] = {}
        self._workers: list[subprocess.Popen[bytes]] = []

    def run(self) -> Findings:
        began = time.monotonic()
        try:
            self._workers = [self._start() for _ in range(WORKERS)]
            for worker in self._workers:
                self._be_ready(worker)
            half = self._jobs // 2
            seeder = self._start("0", str(half))
            self._kill_some(self._kills // 2)
            seeder.communicate(timeout=PATIENCE_S)
            outage = self._kill_all(str(half), str(self._jobs))
            self._kill_some(self._kills - self._kills // 2)
            statuses = self._await_end()
            for worker in self._workers:
                worker.communicate(timeout=PATIENCE_S)
        finally:
            for worker in self._workers:
                worker.kill()
                worker.wait()
        return self._findings(statuses, outage, time.monotonic() - began)

    def _start(self, *jobs: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.process.queues_worker", self._url]
        return subprocess.Popen(
            [*command, str(self._directory), *jobs],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def _be_ready(self, worker: subprocess.Popen[bytes]) -> None:
        if worker.pid in self._ready:
            return
        assert worker.stdout is not None
        if worker.stdout.readline() != b"ready\n":
            raise RuntimeError("a worker ended before it was ready")
        self._ready.add(worker.pid)

    def _kill_some(self, kills: int) -> None:
        for _ in range(kills):
            time.sleep(self._random.uniform(0.1, 0.9))
            self._kill_one()

    def _kill_one(self) -> None:
        """Kill a worker and start another; it may be killed while it still starts."""
        seat = (
            self._next_seat if self._random.random() < OLDEST else self._random.randrange(WORKERS)
        )
        self._next_seat = (seat + 1) % WORKERS
        # Ticks while no process is up are nobody's.
        self._be_ready(self._workers[self._next_seat])
        self._kill(self._workers[seat])
        self._workers[seat] = self._start()

    def _kill(self, *workers: subprocess.Popen[bytes]) -> None:
        for worker in workers:
            # Nobody takes its jobs over before it is dead, so they certainly ran until now.
            self._deaths_ns[worker.pid] = time.monotonic_ns()
            worker.kill()
        for worker in workers:
            worker.communicate()

    def _kill_all(self, *jobs: str) -> Outage:
        """Kill every worker, enqueue some more jobs, and start as many workers again."""
        self._kill(*self._workers)
        dead_at, until = datetime.now(UTC), time.monotonic() + OUTAGE_S
        self._start(*jobs).communicate(timeout=PATIENCE_S)
        waiting = Counter(
            run.partition("-")[0]
            for run, status in Observer(self._url).statuses().items()
            if status in ACTIVE and not run.startswith(PREFIX)
        )
        time.sleep(max(0.0, until - time.monotonic()))
        started_at = datetime.now(UTC)
        self._workers = [self._start() for _ in range(WORKERS)]
        for worker in self._workers:
            self._be_ready(worker)
        return Outage(dead_at, started_at, datetime.now(UTC), dict(waiting))

    def _await_end(self) -> dict[str, str]:
        """The statuses of all jobs, once none is active or the patience is over."""
        observer, until = Observer(self._url), time.monotonic() + PATIENCE_S
        while True:
            statuses = observer.statuses()
            jobs = {run: status for run, status in statuses.items() if not run.startswith(PREFIX)}
            if time.monotonic() > until or not any(s in ACTIVE for s in jobs.values()):
                return statuses
            time.sleep(0.2)

    def _findings(self, statuses: dict[str, str], outage: Outage, seconds: float) -> Findings:
        lines = read_jobs(self._directory)
        ids = {f"{queue}-{number}" for queue in QUEUES for number in range(self._jobs)}
        starts = [line.started_ms for line in lines if line.kind == "begin" and line.started_ms]
        begun = Counter(line.workflow_id for line in lines if line.kind == "begin")
        moments = ticks_of(statuses)
        found = Findings(
            len(self._deaths_ns),
            peaks(lines, self._deaths_ns),
            most_in_window(starts, round(RATE_PERIOD_S * 1000)),
            len(moments),
            sum(round(gap.total_seconds()) - 1 for gap in gaps(moments, outage)),
            sum(1 for times in begun.values() if times > 1),
            outage.waiting,
            seconds,
        )
        found.violations += [
            f"{found.peaks[queue]} ran at once on {queue!r}, where {most} may"
            for queue, most in MOST.items()
            if found.peaks.get(queue, 0) > most
        ]
        if found.most_starts > RATE_LIMIT:
            found.violations.append(f"{found.most_starts} starts in a window for {RATE_LIMIT}")
        found.violations += [
            f"{run} is {statuses.get(run)}" for run in sorted(ids) if statuses.get(run) != "SUCCESS"
        ]
        found.violations += [f"{run} was done again" for run in done_again(lines)]
        found.violations += tick_faults(lines, statuses, outage)
        return found


def ticks_of(statuses: Iterable[str]) -> list[datetime]:
    """The ticks that have a run, in order."""
    return sorted(
        datetime.fromisoformat(run.rpartition("tick-")[2])
        for run in statuses
        if run.startswith(PREFIX)
    )


def gaps(moments: Sequence[datetime], outage: Outage) -> list[timedelta]:
    """From each tick to the next one, but where no worker was up; a second is the rule."""
    return [
        after - before
        for before, after in pairwise(moments)
        if not (before <= outage.back_at and after >= outage.dead_at)
    ]


def tick_faults(lines: Iterable[Line], statuses: dict[str, str], outage: Outage) -> list[str]:
    """Ticks that nobody fired in a long time, that were nobody's or none, or that did not run."""
    ticks = sorted(run for run in statuses if run.startswith(PREFIX))
    done = {line.workflow_id for line in lines if line.kind == "known" and line.queue == "tick"}
    moments = ticks_of(ticks)
    faults = [
        f"no tick in {gap.total_seconds()} s"
        for gap in gaps(moments, outage)
        if gap.total_seconds() > STALL_S
    ]
    faults += [f"{moment} is no tick" for moment in moments if moment.microsecond]
    faults += [
        f"{moment.time()} was due while no worker was up"
        for moment in moments
        if outage.dead_at < moment <= outage.started_at
    ]
    if not moments or moments[-1] <= outage.back_at:
        faults.append("no tick after the outage")
    # The last ones may just have been enqueued when the workers ended.
    return faults + [f"{run} did not run" for run in ticks[:-2] if run not in done]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.process.queues_storm")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=60, help="jobs on each queue")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}; at most {MOST} at once, {RATE_LIMIT} starts in a window")
    violations = 0
    with tempfile.TemporaryDirectory(prefix="perdure-queues-") as place:
        for kind in ("sqlite", "postgres"):
            directory = Path(place) / kind
            directory.mkdir()
            with database(kind, directory) as url:
                storm = QueueStorm(url, directory, options.seed, options.kills, options.jobs)
                found = storm.run()
            found.violations += [
                f"{found.peaks.get(queue, 0)} at most ran at once on {queue!r}, never {most}"
                for queue, most in MOST.items()
                if found.peaks.get(queue, 0) < most
            ]
            print(
                f"{kind}: {found.kills} kills, {found.repeated} jobs cut off and begun again, "
                f"peaks {found.peaks}, {found.most_starts} starts in a window, "
                f"{found.ticks} ticks ({found.collapsed} collapsed), "
                f"{len(found.violations)} violations, {found.seconds:.1f} s",
                *found.violations,
                sep="\n    ",
                flush=True,
            )
            violations += len(found.violations)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
