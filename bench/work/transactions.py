"""Times workflows of ten transactions, each inserting one row. Parameters: seconds."""

from __future__ import annotations

import time

from sqlalchemy import text

from bench.work.program import config, database_url, latencies, launched, parameters, report, rounds
from dbos import DBOS

TRANSACTIONS = 10


@DBOS.transaction()
def create_table() -> None:
    DBOS.sql_session.execute(text("CREATE TABLE bench_rows (number INTEGER)"))


@DBOS.transaction()
def insert(number: int) -> int:
    DBOS.sql_session.execute(text("INSERT INTO bench_rows VALUES (:number)"), {"number": number})
    return number


@DBOS.workflow()
def prepare() -> None:
    create_table()


@DBOS.workflow()
def chain() -> None:
    for number in range(TRANSACTIONS):
        insert(number)


def main() -> None:
    durations: list[float] = []
    # The reference runs no transaction without an application database.
    with launched({**config(), "application_database_url": database_url()}):
        prepare()
        for _ in range(3):
            chain()
        for _ in rounds(parameters()["seconds"], at_least=10):
            started = time.perf_counter()
            chain()
            durations.append(time.perf_counter() - started)
    report(latencies(durations))


if __name__ == "__main__":
    main()
