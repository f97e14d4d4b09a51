"""The command behind `make simulate`: many seeds; it names those that fail, and replays one."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path

from tests.simulation.storm import Verdict, play

REGRESSIONS = Path(__file__).with_name("regressions.txt")
CHUNK = 50
MOST_SHOWN = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Play seeds; 0 if none showed a violation."""
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _replay(options.seed)
    seeds = [*regressions(), *range(options.first, options.first + options.seeds)]
    began = time.monotonic()
    failed: list[Verdict] = []
    takeovers = 0
    for count, verdict in enumerate(_play_all(seeds, options.processes), start=1):
        takeovers += verdict.takeovers
        if verdict.violations:
            failed.append(verdict)
            if len(failed) <= MOST_SHOWN:
                _show(verdict)
        if count % 1000 == 0:
            print(f"{count} seeds, {len(failed)} failed", flush=True)
    seconds = time.monotonic() - began
    print(
        f"{len(seeds)} seeds, {takeovers} takeovers, {len(failed)} failed;"
        f" {seconds:.0f} s, {len(seeds) / seconds:.0f} seeds/s"
    )
    return 1 if failed else 0


def regressions() -> list[int]:
    """The seeds that once failed."""
    lines = REGRESSIONS.read_text(encoding="utf-8").splitlines()
    return [int(line) for line in lines if line and not line.startswith("#")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many (10000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--seed", type=int, help="replay this one and tell its story")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser


def _play_all(seeds: Sequence[int], processes: int) -> Iterator[Verdict]:
    if processes <= 1:
        yield from map(play, seeds)
        return
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(processes) as pool:
        yield from chain.from_iterable(pool.map(_play_some, chunks))


def _play_some(seeds: Sequence[int]) -> list[Verdict]:
    return [play(seed) for seed in seeds]


def _replay(seed: int) -> int:
    verdict = play(seed)
    print(*verdict.story, sep="\n")
    _show(verdict)
    return 1 if verdict.violations else 0


def _show(verdict: Verdict) -> None:
    said = "no violation" if not verdict.violations else "violations:"
    print(f"seed {verdict.seed}: {said}", *verdict.violations, sep="\n    ")
    if verdict.violations:
        print(f"    replay: python -m tests.simulation --seed {verdict.seed}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
