"""Counts what a launched process does while nothing happens. Parameters: seconds.

One queue is declared, as in most applications. Statements are counted on PostgreSQL only.
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

QUEUE = Queue("bench")
SETTLING_S = 3.0


@DBOS.workflow()
def quick() -> None:
    return None


def main() -> None:
    seconds = parameters()["seconds"]
    counter: StatementCounter | None = None
    if database_url().startswith("postgresql"):
        counter = StatementCounter(database_url())
        os.environ[DATABASE_VARIABLE] = counter.url
    with launched():
        QUEUE.enqueue(quick).get_result()
        time.sleep(SETTLING_S)
        statements = counter.count if counter else 0
        cpu_s = time.process_time()
        time.sleep(seconds)
        figures = {"cpu_ms_per_s": (time.process_time() - cpu_s) * 1000 / seconds}
        if counter:
            figures["statements_per_s"] = (counter.count - statements) / seconds
    report(figures)


if __name__ == "__main__":
    main()
