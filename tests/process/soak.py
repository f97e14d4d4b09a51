"""The long run: storm after storm on one database, watching a worker that lives through it all.

    python -m tests.process.soak [--minutes N] [--seed N] [--database sqlite|postgres]

The steady worker gets errands like the others and takes over theirs, and is never killed. Each
round prints its threads and its resident memory. At the end neither may be above 1.2 times what it
was after the settling time: five minutes, or a third of a shorter run.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.process.driver import Outcome, Storm, Weather
from tests.process.errands import Errand, draw_errands
from tests.process.lives import PATIENCE_S, Heard, Life
from tests.process.storm import complaints, database

SETTLING_MINUTES = 5.0
GROWTH = 1.2
STEADY_ERRANDS = 40
ROW = "{:>7} {:>6} {:>6} {:>8} {:>8} {:>8}  {}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What the steady worker needs of the machine."""

    at_minute: float
    threads: int
    resident_mb: float


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    print(f"seed {options.seed}\n")
    print(ROW.format("minute", "round", "kills", "runs", "threads", "MB", "found"), flush=True)
    with tempfile.TemporaryDirectory(prefix="perdure-soak-") as place, ExitStack() as stack:
        url = stack.enter_context(database(options.database, Path(place)))
        steady = Life(url, Path(place), Heard())
        stack.callback(steady.abandon)
        steady.be_ready()
        found, figures = _endure(url, Path(place), steady, options)
    found += _growth(figures, min(SETTLING_MINUTES, options.minutes / 3))
    for line in found:
        print(line)
    print("failed" if found else "\nLost, doubled, wrong, hung: 0. No growth.")
    return 1 if found else 0


def _endure(
    url: str, place: Path, steady: Life, options: argparse.Namespace
) -> tuple[list[str], list[Figures]]:
    """Rounds until the time is up: what was found, and the figures after each round."""
    found: list[str] = []
    figures: list[Figures] = []
    began = time.monotonic()
    number = 0
    while not found and time.monotonic() - began < options.minutes * 60:
        number += 1
        seed = options.seed + number
        errands = draw_errands(STEADY_ERRANDS, f"steady{number}-", random.Random(seed))
        for errand in errands:
            steady.send(errand)
        directory = place / f"round{number}"
        directory.mkdir()
        outcome = Storm(url, directory, Weather(seed, 8, 80, 2, f"round{number}-")).run()
        found = complaints(outcome) + _unfinished(steady, errands)
        figures.append(_measure(steady.pid, (time.monotonic() - began) / 60))
        _print_row(number, outcome, figures[-1], found)
    return found, figures


def _unfinished(steady: Life, errands: list[Errand]) -> list[str]:
    """What the steady worker has not brought to its right end in good time."""
    for errand in errands:
        steady.ask_result(errand.workflow_id)
    deadline = time.monotonic() + PATIENCE_S
    results = steady.heard.results
    while any(errand.workflow_id not in results for errand in errands):
        if not steady.listen(deadline):
            break
    return [
        f"hung or wrong: {errand.workflow_id} is {results.get(errand.workflow_id)}"
        for errand in errands
        if results.get(errand.workflow_id) != str(errand.expected)
    ]


def _measure(pid: int, at_minute: float) -> Figures:
    """Threads and memory of a process, as the kernel counts them."""
    fields: dict[str, str] = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        fields[name] = value.strip()
    return Figures(at_minute, int(fields["Threads"]), int(fields["VmRSS"].split()[0]) / 1024)


def _growth(figures: list[Figures], settling_minutes: float) -> list[str]:
    settled = next((one for one in figures if one.at_minute >= settling_minutes), figures[0])
    last = figures[-1]
    found: list[str] = []
    if last.threads > settled.threads * GROWTH:
        found.append(f"Threads grew from {settled.threads} to {last.threads}.")
    if last.resident_mb > settled.resident_mb * GROWTH:
        found.append(f"Memory grew from {settled.resident_mb:.0f} to {last.resident_mb:.0f} MB.")
    return found


def _print_row(number: int, outcome: Outcome, now: Figures, found: list[str]) -> None:
    verdict = f"{len(found)} problems" if found else "clean"
    minute, memory = f"{now.at_minute:.1f}", f"{now.resident_mb:.0f}"
    cells = (minute, number, outcome.kills, outcome.runs, now.threads, memory, verdict)
    print(ROW.format(*cells), flush=True)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.process.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="postgres")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
