"""Kill real worker processes at random, on both databases, and print what is left (`make storm`).

python -m tests.process.storm [--seed N] [--kills N] [--errands N]
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.process.driver import Outcome, Storm, Weather
from tests.support.postgres import PostgresServer

ROW = "{:<10} {:>5} {:>5} {:>5} {:>6} {:>6} {:>6} {:>7} {:>5} {:>5} {:>5} {:>6} {:>7}"
COLUMNS = (
    *("database", "seats", "kills", "(up)", "starts", "runs", "steps"),
    *("again*", "lost", "wrong", "rerun", "active", "seconds"),
)
LEGEND = """
kills (up): SIGKILLs, and how many of them hit a worker that was still starting up.
starts, runs, steps: workflows asked for, workflows with their children, different steps begun.
again*: steps cut off before they were recorded, and so begun again in another process. Allowed.
lost, wrong, rerun, active: acknowledged workflows that are gone, results that are wrong, recorded
steps that ran again, runs that have not ended. Each must be 0."""


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    print(f"seed {options.seed}\n\n{ROW.format(*COLUMNS)}", flush=True)
    failures = 0
    with tempfile.TemporaryDirectory(prefix="perdure-storm-") as place:
        for kind in ("sqlite", "postgres"):
            for seats in (1, 2):
                weather = Weather(options.seed, options.kills, options.errands, seats)
                directory = Path(place) / f"{kind}-{seats}"
                directory.mkdir()
                with database(kind, directory) as url:
                    outcome = Storm(url, directory, weather).run()
                _print_row(kind, seats, outcome)
                failures += not outcome.is_clean
    print(LEGEND)
    return 1 if failures else 0


@contextmanager
def database(kind: str, directory: Path) -> Iterator[str]:
    """The URL of an empty database; a PostgreSQL server is started for it."""
    if kind == "sqlite":
        yield f"sqlite:///{directory / 'system.sqlite'}"
        return
    with PostgresServer(durable=False) as server:
        yield server.url(server.create_database())


def _print_row(kind: str, seats: int, outcome: Outcome) -> None:
    figures = (
        *(kind, seats, outcome.kills, f"({outcome.kills_at_start_up})", outcome.errands),
        *(outcome.runs, outcome.steps, outcome.repeated_unrecorded, len(outcome.lost)),
        *(len(outcome.wrong), len(outcome.rerun), len(outcome.active), f"{outcome.seconds:.1f}"),
    )
    print(ROW.format(*figures), flush=True)
    for line in complaints(outcome):
        print(f"    {line}", flush=True)


def complaints(outcome: Outcome) -> list[str]:
    """What is not as it must be, in words."""
    lines = [f"lost: {workflow_id}" for workflow_id in sorted(outcome.lost)]
    lines += [f"wrong: {run} is {found}" for run, found in outcome.wrong.items()]
    lines += [f"ran again: {entry.text().strip()}" for entry in outcome.rerun.values()]
    lines += [f"still active: {workflow_id}" for workflow_id in outcome.active]
    if outcome.tracebacks:
        lines.append(f"{outcome.tracebacks} tracebacks in what the workers wrote")
    if outcome.bad_exits:
        lines.append(f"{outcome.bad_exits} workers did not end in good order")
    return lines


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.process.storm", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--kills", type=int, default=25, help="of each worker seat")
    parser.add_argument("--errands", type=int, default=250, help="workflows for each seat")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
