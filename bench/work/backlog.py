"""Works beside a backlog of queued runs, to show whether its length costs anything.

Parameters: runs, and either seconds (how many of the backlog one worker runs in that time) or
samples (how long an enqueue on another, quiet queue takes to start).
"""

from __future__ import annotations

import queue
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from bench.work.program import (
    config,
    database_url,
    finished_runs,
    latencies,
    launched,
    parameters,
    pauses,
    program_command,
    report,
    run_to_end,
)
from dbos import DBOS, Queue

BACKLOG = Queue("bench")
QUIET = Queue("quiet")
STARTED: queue.SimpleQueue[float] = queue.SimpleQueue()


@DBOS.workflow()
def quick(number: int) -> int:
    return number


@DBOS.workflow()
def note_start() -> None:
    STARTED.put(time.perf_counter())


def fill(runs: int) -> None:
    """Enqueues one run, and copies its row; columns that number the rows are left to fill in."""
    DBOS(config=config())
    DBOS.listen_queues([])
    DBOS.launch()
    BACKLOG.enqueue(quick, 0)
    DBOS.destroy()
    with statements() as execute:
        copy_rows(execute, runs - 1)


def copy_rows(execute: Callable[[str], list[tuple[Any, ...]]], copies: int) -> None:
    if database_url().startswith("sqlite"):
        table = "workflow_status"
        columns = [row[1] for row in execute(f"PRAGMA table_info({table})")]
    else:
        table = "dbos.workflow_status"
        columns = [
            row[0]
            for row in execute(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = 'dbos'"
                " AND table_name = 'workflow_status'"
                " AND COALESCE(column_default, '') NOT LIKE 'nextval(%'"
            )
        ]
    kept = ", ".join(name for name in columns if name != "workflow_uuid")
    execute(
        f"WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number"
        f" WHERE n < {copies})"
        f" INSERT INTO {table} (workflow_uuid, {kept})"
        f" SELECT 'backlog-' || n, {kept} FROM {table}, number"
    )
    execute(f"ANALYZE {table}")


@contextmanager
def statements() -> Generator[Callable[[str], list[tuple[Any, ...]]]]:
    """A function that executes one statement by itself."""
    url = database_url()
    connection: Any
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    else:
        import psycopg

        connection = psycopg.connect(url, autocommit=True)

    def execute(statement: str) -> list[tuple[Any, ...]]:
        cursor = connection.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []

    try:
        yield execute
    finally:
        connection.close()


def claim_rate(seconds: float) -> dict[str, float]:
    """How many runs of the backlog finish in a while, from the launch of the worker on."""
    with launched(), finished_runs() as count:
        begun = time.monotonic()
        time.sleep(seconds)
        finished, elapsed = count(), time.monotonic() - begun
    return {"workflows_per_s": finished / elapsed}


def quiet_latency_s() -> float:
    enqueued = time.perf_counter()
    QUIET.enqueue(note_start)
    return STARTED.get(timeout=60) - enqueued


def main() -> None:
    given = parameters()
    if "fill" in given:
        fill(int(given["runs"]))
        return
    run_to_end(program_command("bench.work.backlog", [f"runs={int(given['runs'])}", "fill=1"]))
    if "seconds" in given:
        report(claim_rate(given["seconds"]))
        return
    with launched():
        quiet_latency_s()
        figures = latencies([quiet_latency_s() for _ in pauses(int(given["samples"]))])
    report(figures)


if __name__ == "__main__":
    main()
