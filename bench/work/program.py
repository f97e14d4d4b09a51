"""What every measured program shares: its parameters, a launched engine, its one line of output.

Programs run under either package, so they and this module use the public interface alone, and
only the part of it that both packages have.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbos import DBOSConfig

DATABASE_VARIABLE = "BENCH_DATABASE_URL"
POLLING_PERIOD_S = 1.0
SHORTEST_PAUSE_S = 0.1


def database_url() -> str:
    return os.environ[DATABASE_VARIABLE]


def parameters() -> dict[str, float]:
    """The `name=number` arguments of the command line."""
    pairs = (argument.partition("=") for argument in sys.argv[1:])
    return {name: float(number) for name, _, number in pairs}


def config() -> DBOSConfig:
    """The settings both packages get: their defaults, and no log lines but errors."""
    return {"name": "bench", "system_database_url": database_url(), "log_level": "ERROR"}


@contextmanager
def launched(settings: DBOSConfig | None = None) -> Iterator[None]:
    """An engine, launched; `dbos` is imported here so that import time can be measured."""
    from dbos import DBOS

    DBOS(config=settings or config())
    DBOS.launch()
    try:
        yield
    finally:
        DBOS.destroy()


def report(figures: Mapping[str, float]) -> None:
    """Prints the figures, and where the package came from, as the program's last line."""
    package = importlib.util.find_spec("dbos")
    origin = "" if package is None else package.origin
    print(json.dumps({"package": origin, "figures": dict(figures)}), flush=True)


def rounds(seconds: float, at_least: int = 1) -> Iterator[int]:
    """Counts up until the time is over.

    A fixed time instead of a fixed count gives the faster package as long a look as the slower.
    """
    end = time.perf_counter() + seconds
    number = 0
    while number < at_least or time.perf_counter() < end:
        yield number
        number += 1


def pauses(count: int) -> Iterator[int]:
    """Counts up with a pause before each, so that something idle or waiting is met.

    Polling packages begin a period when they begin to wait. Pauses that cover one whole default
    period evenly meet it at every point alike; shorter ones would always meet its beginning.
    """
    for number, pause_s in enumerate(even_pauses_s(count)):
        time.sleep(pause_s)
        yield number


def even_pauses_s(count: int) -> list[float]:
    """Evenly spaced lengths over one polling period, in an order that is mixed but the same."""
    lengths = [SHORTEST_PAUSE_S + POLLING_PERIOD_S * (n + 0.5) / count for n in range(count)]
    random.Random(1).shuffle(lengths)
    return lengths


def latencies(durations_s: Sequence[float]) -> dict[str, float]:
    """The middle, the 99th percentile and the worst, in milliseconds."""
    ordered = sorted(duration * 1000 for duration in durations_s)
    return {
        "p50_ms": statistics.median(ordered),
        "p99_ms": ordered[math.ceil(0.99 * len(ordered)) - 1],
        "max_ms": ordered[-1],
    }


def wait_until_finished(runs: int) -> None:
    """Waits until this many runs of this database have succeeded.

    It asks the table itself, which both packages share, on a connection of its own: so the end is
    seen at once, and neither package is kept busy by being asked.
    """
    with finished_runs() as count:
        while count() < runs:
            time.sleep(0.01)


@contextmanager
def finished_runs() -> Iterator[Callable[[], int]]:
    """A function that counts the runs that have succeeded."""
    url = database_url()
    table = "workflow_status" if url.startswith("sqlite") else "dbos.workflow_status"
    question = f"SELECT count(*) FROM {table} WHERE status = 'SUCCESS'"
    connection: Any
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    else:
        import psycopg

        connection = psycopg.connect(url, autocommit=True)
    try:
        yield lambda: int(connection.execute(question).fetchone()[0])
    finally:
        connection.close()


def program_command(module: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs a program of this folder with this same package."""
    return [sys.executable, "-m", module, *arguments]


def run_to_end(command: Sequence[str], expected_status: int = 0) -> None:
    """Runs another process; its output goes to our error stream, where a failure shows it."""
    status = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    if status != expected_status:
        raise SystemExit(f"{command} ended with status {status}, not {expected_status}")
