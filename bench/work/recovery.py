"""Times a launch that finds crashed runs, until all are finished. Parameters: runs.

The program first runs itself once more as the process that crashes: there every run records five
steps, then blocks, and the process kills itself with a signal it cannot see.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time

from bench.work.program import (
    config,
    database_url,
    parameters,
    program_command,
    report,
    run_to_end,
    wait_until_finished,
)
from dbos import DBOS

STEPS = 5
REACHED = threading.Semaphore(0)
MAY_FINISH = threading.Event()


@DBOS.step()
def add_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
def interrupted() -> int:
    number = 0
    for _ in range(STEPS):
        number = add_one(number)
    REACHED.release()
    MAY_FINISH.wait()
    return number


def crash(runs: int) -> None:
    DBOS(config=config())
    DBOS.launch()
    for _ in range(runs):
        DBOS.start_workflow(interrupted)
    wait_until_reached(runs)
    os.kill(os.getpid(), signal.SIGKILL)


def resume(runs: int) -> dict[str, float]:
    MAY_FINISH.set()
    load_driver()
    started = time.perf_counter()
    DBOS(config=config())
    DBOS.launch()
    launched = time.perf_counter()
    wait_until_reached(runs)
    wait_until_finished(runs)
    elapsed = time.perf_counter() - started
    DBOS.destroy()
    return {
        "workflows_per_s": runs / elapsed,
        "elapsed_ms": elapsed * 1000,
        "launch_ms": (launched - started) * 1000,
    }


def load_driver() -> None:
    """Load the database driver: one package does so on import and the other when it connects."""
    if not database_url().startswith("sqlite"):
        importlib.import_module("psycopg")


def wait_until_reached(runs: int) -> None:
    for _ in range(runs):
        REACHED.acquire()


def main() -> None:
    given = parameters()
    runs = int(given["runs"])
    if "crash" in given:
        crash(runs)
        return
    command = program_command("bench.work.recovery", [*sys.argv[1:], "crash=1"])
    run_to_end(command, expected_status=-signal.SIGKILL)
    report(resume(runs))


if __name__ == "__main__":
    main()
