"""Times whole processes that import one package each, turn by turn. Parameters: rounds."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from bench.work.program import parameters, report

STATEMENTS = {"bare": "pass", "psycopg": "import psycopg", "dbos": "import dbos"}


def duration_ms(statement: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return (time.perf_counter() - started) * 1000


def main() -> None:
    durations: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for statement in STATEMENTS.values():
        duration_ms(statement)
    for _ in range(int(parameters()["rounds"])):
        for name, statement in STATEMENTS.items():
            durations[name].append(duration_ms(statement))
    middle = {name: statistics.median(every) for name, every in durations.items()}
    import_ms = middle["dbos"] - middle["bare"]
    psycopg_ms = middle["psycopg"] - middle["bare"]
    report(
        {
            "import_ms": import_ms,
            "bare_ms": middle["bare"],
            "psycopg_ms": psycopg_ms,
            "times_psycopg": import_ms / psycopg_ms,
        }
    )


if __name__ == "__main__":
    main()
