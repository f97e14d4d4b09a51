"""Counts what a launched process does while nothing happens. Parameters: seconds, settling, queues.

A queue declared is a queue looked at: once in its `polling_interval_sec`, which is a second, for
rows written by hand. The first minute after a launch looks for changed schedules more often than
later: `settling` is how many seconds pass before the count. Statements are counted on PostgreSQL
only.
"""

from __future__ import annotations

import os
import time

from bench.work.program import (
    DATABASE_VARIABLE,
    database_url,
    launched,
    parameters,
    report,
)
from bench.work.statement_count import StatementCounter
from dbos import DBOS, Queue


@DBOS.workflow()
def quick() -> None:
    return None


def main() -> None:
    given = parameters()
    seconds = given["seconds"]
    queues = [Queue(f"bench-{number}") for number in range(int(given.get("queues", 0)))]
    counter: StatementCounter | None = None
    if database_url().startswith("postgresql"):
        counter = StatementCounter(database_url())
        os.environ[DATABASE_VARIABLE] = counter.url
    with launched():
        quick()
        for queue in queues:
            queue.enqueue(quick).get_result()
        time.sleep(given["settling"])
        statements = counter.count if counter else 0
        cpu_s = time.process_time()
        time.sleep(seconds)
        figures = {"cpu_ms_per_s": (time.process_time() - cpu_s) * 1000 / seconds}
        if counter:
            figures["statements_per_s"] = (counter.count - statements) / seconds
    report(figures)


if __name__ == "__main__":
    main()
