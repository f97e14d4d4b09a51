"""The storm itself: start workers, kill them at random moments, and check what is left.

Theory of operation. Each worker seat has errands of its own. In each of its lives it is told the
errands that are due and neither acknowledged nor found in the database after a kill: those it must
never need to be told again. A life ends by SIGKILL at a moment drawn uniformly from the time
between the start of the process and a while after its launch; how long that launch will take is
guessed from the one before it. Right after the kill the database is read from outside. After the
last kill every seat lives once more, gets the rest done, and is asked for all results.
"""

from __future__ import annotations

import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.process.errands import Errand, draw_errands
from tests.process.ledger import (
    Entry,
    Snapshot,
    StepKey,
    lives_of_steps,
    read_ledger,
    runs_after_record,
)
from tests.process.lives import PATIENCE_S, Heard, Life
from tests.process.observer import Observer

WORK_S = 0.8


@dataclass(frozen=True, slots=True)
class Weather:
    """How strong a storm is. Kills and errands are those of each seat."""

    seed: int
    kills: int = 22
    errands: int = 220
    seats: int = 1
    prefix: str = ""
    """What the ids begin with, if this storm is not the only one over its database."""


@dataclass(slots=True)
class Record:
    """What one seat went through."""

    heard: Heard = field(default_factory=Heard)
    snapshots: list[Snapshot] = field(default_factory=list[Snapshot])
    lost: set[str] = field(default_factory=set[str])
    launch_s: float = 0.0
    kills_at_start_up: int = 0
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a storm left behind. All but the first block must be empty or zero."""

    seed: int
    kills: int
    kills_at_start_up: int
    errands: int
    runs: int
    steps: int
    repeated_unrecorded: int
    """Step bodies run again in another process, not recorded in the first: that is allowed."""
    seconds: float

    lost: frozenset[str]
    wrong: dict[str, str]
    rerun: dict[StepKey, Entry]
    active: list[str]
    tracebacks: int
    bad_exits: int

    @property
    def is_clean(self) -> bool:
        found = (self.lost, self.wrong, self.rerun, self.active, self.tracebacks, self.bad_exits)
        return not any(found)


class Storm:
    """One storm over one database, which must be empty."""

    def __init__(self, database_url: str, directory: Path, weather: Weather) -> None:
        self._database_url = database_url
        self._directory = directory
        self._weather = weather
        self._observer = Observer(database_url)

    def run(self) -> Outcome:
        launch_s = measure_launch(self._directory)
        began = time.monotonic()
        seats = range(self._weather.seats)
        with ThreadPoolExecutor(len(seats), "seat") as pool:
            endings = [pool.submit(self._endure, seat, launch_s) for seat in seats]
            records = [ending.result() for ending in endings]
        return self._judge(records, time.monotonic() - began)

    def errands_of(self, seat: int) -> list[Errand]:
        randomness = random.Random(f"{self._weather.seed}/{seat}/errands")
        return draw_errands(self._weather.errands, f"{self._weather.prefix}seat{seat}-", randomness)

    def _endure(self, seat: int, launch_s: float) -> Record:
        randomness = random.Random(f"{self._weather.seed}/{seat}/kills")
        errands, record = self.errands_of(seat), Record(launch_s=launch_s)
        for number in range(self._weather.kills):
            due = errands[: math.ceil((number + 1) / self._weather.kills * len(errands))]
            moment_s = randomness.uniform(0, record.launch_s + WORK_S)
            life = Life(self._database_url, self._directory, record.heard)
            try:
                _live(life, _unheard(due, record), moment_s, record)
                record.kills_at_start_up += not record.heard.is_ready
                life.kill()
            finally:
                life.abandon()
            self._look(record)
        self._finish(errands, record)
        return record

    def _look(self, record: Record) -> None:
        snapshot = self._observer.snapshot()
        record.snapshots.append(snapshot)
        record.lost |= record.heard.acknowledged - snapshot.started

    def _finish(self, errands: list[Errand], record: Record) -> None:
        life = Life(self._database_url, self._directory, record.heard)
        try:
            life.be_ready()
            for errand in _unheard(errands, record):
                life.send(errand)
            for errand in errands:
                life.ask_result(errand.workflow_id)
            deadline = time.monotonic() + PATIENCE_S
            while len(record.heard.results) < len(errands) and life.listen(deadline):
                pass
            record.exit_code = life.end()
        finally:
            life.abandon()

    def _judge(self, records: list[Record], seconds: float) -> Outcome:
        entries = read_ledger(self._directory)
        statuses = self._observer.statuses()
        wrong: dict[str, str] = {}
        lost: set[str] = set()
        for seat, record in enumerate(records):
            lost |= record.lost
            for errand in self.errands_of(seat):
                result = record.heard.results.get(errand.workflow_id)
                status = statuses.get(errand.workflow_id)
                if status is None:
                    lost.add(errand.workflow_id)
                elif status != "SUCCESS" or result != str(errand.expected):
                    wrong[errand.workflow_id] = f"{status} {result}, expected {errand.expected}"
        lives = lives_of_steps(entries)
        return Outcome(
            seed=self._weather.seed,
            kills=sum(len(record.snapshots) for record in records),
            kills_at_start_up=sum(record.kills_at_start_up for record in records),
            errands=self._weather.errands * self._weather.seats,
            runs=len(statuses),
            steps=len(lives),
            repeated_unrecorded=sum(len(pids) > 1 for pids in lives.values()),
            seconds=seconds,
            lost=frozenset(lost),
            wrong=wrong,
            rerun=runs_after_record(entries, [s for r in records for s in r.snapshots]),
            active=[run for run in self._observer.active() if run.startswith(self._weather.prefix)],
            tracebacks=count_tracebacks(self._directory),
            bad_exits=sum(record.exit_code != 0 for record in records),
        )


def measure_launch(directory: Path) -> float:
    """How long a worker takes to launch here and now, on a database of its own."""
    apart = directory / "measured"
    apart.mkdir()
    life = Life(f"sqlite:///{apart / 'system.sqlite'}", apart, Heard())
    try:
        life.be_ready()
        life.end()
    finally:
        life.abandon()
    return life.launch_s


def count_tracebacks(directory: Path) -> int:
    """Tracebacks that workers wrote while they were alive."""
    said = [file.read_text() for file in directory.glob("*.stderr")]
    return sum(text.count("Traceback") for text in said)


def _live(life: Life, errands: list[Errand], moment_s: float, record: Record) -> None:
    """Send the worker its errands once it is launched, and listen to it until its moment comes."""
    moment = life.started_at + moment_s
    if moment_s >= record.launch_s:
        # A launch that takes longer than the one before must not eat up the time for work.
        life.be_ready()
        moment = time.monotonic() + moment_s - record.launch_s
    if life.get_ready(moment):
        record.launch_s = life.launch_s
        for errand in errands:
            life.send(errand)
    while life.listen(moment):
        pass


def _unheard(errands: list[Errand], record: Record) -> list[Errand]:
    """The errands whose workflows nobody knows to exist yet."""
    found = record.snapshots[-1].started if record.snapshots else frozenset[str]()
    known = record.heard.acknowledged | found
    return [errand for errand in errands if errand.workflow_id not in known]
