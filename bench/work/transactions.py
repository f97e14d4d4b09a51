"""Times workflows of ten transactions, each inserting one row. Parameters: seconds, threads.

Without threads they are called one after the other; with them the transactions are counted.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

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


def in_turn(seconds: float) -> dict[str, float]:
    durations: list[float] = []
    for _ in range(3):
        chain()
    for _ in rounds(seconds, at_least=10):
        started = time.perf_counter()
        chain()
        durations.append(time.perf_counter() - started)
    return latencies(durations)


def at_once(seconds: float, threads: int) -> dict[str, float]:
    def call_repeatedly() -> int:
        return sum(TRANSACTIONS for _ in rounds(seconds) if chain() is None)

    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        calls = [pool.submit(call_repeatedly) for _ in range(threads)]
        done = sum(call.result() for call in calls)
        elapsed = time.perf_counter() - started
    return {"transactions_per_s": done / elapsed}


def main() -> None:
    given = parameters()
    # The reference runs no transaction without an application database.
    with launched({**config(), "application_database_url": database_url()}):
        prepare()
        if "threads" in given:
            figures = at_once(given["seconds"], int(given["threads"]))
        else:
            figures = in_turn(given["seconds"])
    report(figures)


if __name__ == "__main__":
    main()
