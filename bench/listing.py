"""Measures lists of a full database, on both sides in turns: `python -m bench.listing --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench import environments
from bench.compare import SIDES, Side, ratios, spread, turns
from bench.databases import SqliteFiles, postgres
from bench.environments import Interpreter
from bench.execution import run_once
from bench.many_runs import fill
from bench.plan import DATABASES, Database, Row
from bench.results import Run
from bench.tables import ABSENT, number

RUNS: dict[Database, int] = {"sqlite": 200_000, "postgres": 1_000_000}
PAIRS = 3
SAMPLES = 5


class Full:
    """One full database that is lent to every run in turn: lists change nothing."""

    def __init__(self, url: str) -> None:
        self._url = url

    def fresh(self) -> AbstractContextManager[str]:
        return self._lent()

    @contextmanager
    def _lent(self) -> Iterator[str]:
        yield self._url


def main() -> int:
    given = _parser().parse_args()
    sides = {"ours": environments.ours()}
    if given.only != "ours":
        sides["reference"] = environments.reference(given.reference_python)
    runs: list[Run] = []
    for database in given.databases.split(","):
        count = max(1000, round(RUNS[database] * given.scale))
        with _full(database, count) as full:
            row = Row("lists", "list_many", (), {"runs": count, "samples": SAMPLES}, {})
            runs += measured(row, database, full, sides, given)
        print(f"\n{count:,} finished workflows on {database}, medians\n")
        print(table([run for run in runs if run.database == database]), flush=True)
    return 1 if any(run.figures is None for run in runs) else 0


def measured(
    row: Row,
    database: Database,
    full: Full,
    sides: dict[str, Interpreter],
    given: argparse.Namespace,
) -> list[Run]:
    """The runs of both sides, in turns; each gives the medians of its own samples."""
    found: list[Run] = []
    for side in turns(given.pairs, given.only):
        run = run_once(row, database, full, sides[side], quick=False)
        found.append(run)
        print(f"{database} {side} {run.failure or 'done'}", file=sys.stderr, flush=True)
    return found


def table(runs: list[Run]) -> str:
    """A Markdown table: a line for each list, in milliseconds."""
    names = dict.fromkeys(name for run in runs for name in run.figures or ())
    lines = ["| list | reference ms | ours ms | ratio |", "|---|---|---|---|"]
    for name in names:
        theirs, our = (_figures(runs, side, name) for side in SIDES)
        times = spread(ratios(theirs, our, more_is_better=False))
        cells = [spread(theirs), spread(our), times]
        shown = [ABSENT if cell is None else number(cell.middle) for cell in cells]
        lines.append(f"| {' | '.join([name, *shown])} |")
    return "\n".join(lines)


def _figures(runs: list[Run], side: Side, name: str) -> list[float]:
    figures = [run.figures or {} for run in runs if run.side == side]
    return [found[name] for found in figures if name in found]


@contextmanager
def _full(database: Database, count: int) -> Iterator[Full]:
    if database == "sqlite":
        with SqliteFiles().fresh() as url:
            fill(url, count)
            yield Full(url)
        return
    with postgres(None) as server, server.fresh() as url:
        fill(url, count)
        yield Full(url)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.listing", description=__doc__)
    parser.add_argument("--databases", default=",".join(DATABASES))
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of workflows")
    parser.add_argument("--only", choices=SIDES, help="run one side alone")
    parser.add_argument("--reference-python", type=Path, metavar="PATH")
    return parser


if __name__ == "__main__":
    sys.exit(main())
