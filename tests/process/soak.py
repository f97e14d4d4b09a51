"""The long run: storms and hardships on one database, watching a worker that lives through it all.

    python -m tests.process.soak [--minutes N] [--seed N] [--database sqlite|postgres]

Three workers. Two of them are killed again and again; the steady one is never killed. It gets
errands like the others and takes over theirs, while its process is paused, now and then for longer
than its lease, and its wall clock jumps by an hour. Then all three go through a hardship of the
database: a restart, lost sessions, a locked file. Each round prints threads and resident memory of
the steady worker. At the end neither may be above 1.2 times what it was after the settling time:
five minutes, or a third of a shorter run. Both are measured at rest, when idle threads have ended.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.process.driver import Outcome, Storm, Weather
from tests.process.errands import draw_errands
from tests.process.hardship import HARDSHIPS, Hardship, Place, place
from tests.process.ledger import read_ledger, runs_after_record
from tests.process.lives import Life
from tests.process.storm import complaints
from tests.process.trials import Crew, Verdict

SETTLING_MINUTES = 5.0
GROWTH = 1.2
REST_S = 35.0
STEADY_ERRANDS = 40
HARDSHIP_ERRANDS = 30
HARDSHIP_S = 3.0
LEASE_S = 5.0
PAUSES_S = (0.5, 2.0, LEASE_S + 3.0)
JUMPS_S = (3600.0, -3600.0, 0.0)
ROW = "{:>7} {:>6} {:>6} {:>7} {:>16} {:>7} {:>8} {:>7}  {}"
COLUMNS = ("minute", "round", "kills", "paused", "hardship", "runs", "threads", "MB", "found")


@dataclass(frozen=True, slots=True)
class Figures:
    """What the steady worker needs of the machine."""

    threads: int
    resident_mb: float


@dataclass(slots=True)
class Soak:
    """One database, the worker that stays, and what was seen so far."""

    where: Place
    steady: Life
    seed: int
    hardships: list[Hardship]
    began: float = field(default_factory=time.monotonic)
    found: list[str] = field(default_factory=list[str])

    @property
    def minutes(self) -> float:
        """How long it has lasted."""
        return (time.monotonic() - self.began) / 60

    def at_rest(self) -> Figures:
        """The figures of the steady worker after a while without work."""
        time.sleep(REST_S)
        return measure(self.steady.pid)

    def round(self, number: int) -> None:
        """A storm, then a hardship; what was found is in `found`."""
        randomness = random.Random(f"{self.seed}/{number}")
        hardship = self.hardships[number % len(self.hardships)]
        with ExitStack() as stack:
            crew = Crew(self.where, stack, LEASE_S)
            crew.lives.append(self.steady)
            crew.send(draw_errands(STEADY_ERRANDS, f"steady{number}-", randomness))
            with _troubled(self.steady, randomness) as pauses:
                outcome = self._storm(number)
            crew.hire(2)
            prefix = f"hard{number}-"
            errands = draw_errands(2 * HARDSHIP_ERRANDS, prefix, randomness)
            crew.send(errands[:HARDSHIP_ERRANDS])
            crew.look()
            with hardship.inflict(self.where):
                crew.send(errands[HARDSHIP_ERRANDS:])
                time.sleep(min(hardship.lasts_s, HARDSHIP_S))
            verdict = crew.judge(Verdict(hardship.name, hardship.kind, 0), self.steady)
        self.found += complaints(outcome) + _words(verdict) + self._run_again(number, crew)
        self._print_row(number, outcome, len(pauses), hardship)

    def _storm(self, number: int) -> Outcome:
        directory = self._directory(number)
        directory.mkdir()
        weather = Weather(self.seed + number, 8, 80, 2, f"round{number}-")
        return Storm(self.where.url, directory, weather).run()

    def _directory(self, number: int) -> Path:
        return self.where.directory / f"round{number}"

    def _run_again(self, number: int, crew: Crew) -> list[str]:
        """Steps begun after their record was seen, wherever: who is killed has its own ledger."""
        entries = crew.entries() + read_ledger(self._directory(number))
        rerun = runs_after_record(sorted(entries, key=lambda entry: entry.at_ns), crew.snapshots)
        return [f"doubled: {entry.text().strip()}" for entry in rerun.values()]

    def _print_row(self, number: int, outcome: Outcome, pauses: int, hardship: Hardship) -> None:
        now = measure(self.steady.pid)
        cells = (f"{self.minutes:.1f}", number, outcome.kills, pauses, hardship.name)
        figures = (outcome.runs, now.threads, f"{now.resident_mb:.0f}")
        said = f"{len(self.found)} problems" if self.found else "clean"
        print(ROW.format(*cells, *figures, said), flush=True)


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    print(f"seed {options.seed}, {options.database}\n\n{ROW.format(*COLUMNS)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="perdure-soak-") as name, ExitStack() as stack:
        # The database server runs as another account, and must get through.
        Path(name).chmod(0o755)
        where = stack.enter_context(place(options.database, Path(name) / "place"))
        crew = Crew(where, stack, LEASE_S)
        crew.hire(1)
        soak = Soak(where, crew.lives[0], options.seed, _hardships(where))
        found = _endure(soak, options.minutes)
    for line in found:
        print(line)
    print("failed" if found else "\nLost, doubled, wrong, hung: 0. No growth.")
    return 1 if found else 0


def _endure(soak: Soak, minutes: float) -> list[str]:
    """Rounds until the time is up or something was found; what was found."""
    settled: Figures | None = None
    number = 0
    while not soak.found and (soak.minutes < minutes or settled is None):
        number += 1
        soak.round(number)
        if settled is None and soak.minutes >= min(SETTLING_MINUTES, minutes / 3):
            settled = soak.at_rest()
    if soak.found or settled is None:
        return soak.found
    return growth(settled, soak.at_rest())


def _hardships(where: Place) -> list[Hardship]:
    """Those of this database that need no disk of their own."""
    return [
        one
        for one in HARDSHIPS
        if one.kind == where.kind and not one.needs_own_disk and one.may_be(where.directory)
    ]


@contextmanager
def _troubled(life: Life, randomness: random.Random) -> Generator[list[float]]:
    """Pause a worker and set its clock, again and again for the length of the block."""
    over, pauses = threading.Event(), list[float]()

    def trouble() -> None:
        while not over.wait(randomness.uniform(1.0, 3.0)):
            life.set_clock(randomness.choice(JUMPS_S))
            pauses.append(randomness.choices(PAUSES_S, (6, 3, 1))[0])
            life.freeze()
            over.wait(pauses[-1])
            life.thaw()

    troubling = threading.Thread(target=trouble)
    troubling.start()
    try:
        yield pauses
    finally:
        over.set()
        troubling.join()


def _words(verdict: Verdict) -> list[str]:
    """What is not as it must be after a hardship."""
    kinds = {"lost": verdict.lost, "doubled": verdict.doubled}
    kinds |= {"wrong": verdict.wrong, "hung": verdict.hung}
    lines = [f"{kind}: {found}" for kind, all_found in kinds.items() for found in all_found]
    return lines + verdict.complaints


def measure(pid: int) -> Figures:
    """Threads and memory of a process, as the kernel counts them."""
    fields: dict[str, str] = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        fields[name] = value.strip()
    return Figures(int(fields["Threads"]), int(fields["VmRSS"].split()[0]) / 1024)


def growth(settled: Figures, last: Figures) -> list[str]:
    """What grew too much. Says by how much either did."""
    threads, memory = last.threads / settled.threads, last.resident_mb / settled.resident_mb
    print(f"\nthreads {settled.threads} -> {last.threads}, ratio {threads:.2f}")
    print(f"memory {settled.resident_mb:.0f} -> {last.resident_mb:.0f} MB, ratio {memory:.2f}")
    found: list[str] = []
    if threads > GROWTH:
        found.append(f"Threads grew from {settled.threads} to {last.threads}.")
    if memory > GROWTH:
        found.append(f"Memory grew from {settled.resident_mb:.0f} to {last.resident_mb:.0f} MB.")
    return found


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.process.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="postgres")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
