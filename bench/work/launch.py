"""Times processes that construct and launch an engine. Parameters: rounds.

The first process finds an empty database and makes the tables; the others find them made. What
construction imports on first need counts; the import of the package does not.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from bench.work.program import config, parameters, program_command, report


def launch_and_leave() -> None:
    """Ends the process at once, so that the time to stop is not counted."""
    from dbos import DBOS

    started = time.perf_counter()
    DBOS(config=config())
    DBOS.launch()
    print((time.perf_counter() - started) * 1000, flush=True)
    os._exit(0)


def one_process() -> tuple[float, float]:
    """How long one process took to launch, and how long it took altogether, in milliseconds."""
    command = program_command("bench.work.launch", ["child=1"])
    started = time.perf_counter()
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(ended.stdout.split()[-1]), (time.perf_counter() - started) * 1000


def main() -> None:
    given = parameters()
    if "child" in given:
        launch_and_leave()
    # The files of the package are read once before, so that the first launch finds them cached.
    subprocess.run([sys.executable, "-c", "import dbos"], check=True)
    first, _ = one_process()
    later = [one_process() for _ in range(int(given["rounds"]))]
    report(
        {
            "first_launch_ms": first,
            "launch_ms": statistics.median(launch for launch, _ in later),
            "whole_process_ms": statistics.median(whole for _, whole in later),
        }
    )


if __name__ == "__main__":
    main()
