"""A worker that runs what clients ask for, and notes in a ledger each step that it does.

python -m tests.process.client_worker DATABASE_URL LEDGER_DIRECTORY
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from dbos import DBOS, Queue
from tests.process.client_errands import QUEUE, TALK
from tests.process.jobs import JobLedger

URL = sys.argv[1]
LEDGER = JobLedger(Path(sys.argv[2]))


@DBOS.step()
def work(number: int) -> int:
    LEDGER.append("work", f"{DBOS.workflow_id}/{number}", "-", "-")
    time.sleep(0.002)
    return number


def done(number: int) -> int:
    """Work, and note that the workflow was told its result: so it is durable."""
    result = work(number)
    LEDGER.append("known", f"{DBOS.workflow_id}/{number}", "-", "-")
    return result


@DBOS.workflow(name="job")
def job(number: int) -> list[int]:
    return [number, done(0), done(1)]


@DBOS.workflow(name="chat")
def chat(count: int) -> list[Any]:
    heard: list[Any] = []
    for number in range(count):
        heard.append(DBOS.recv(TALK, 120))
        DBOS.set_event("heard", number)
        done(number)
    return heard


@DBOS.workflow(name="part")
def part(number: int) -> int:
    return done(number)


@DBOS.workflow(name="chain")
def chain(length: int) -> list[int]:
    numbers: list[int] = []
    for number in range(length - 1):
        numbers.append(done(number))
        DBOS.sleep(0.005)
    return [*numbers, part(length - 1)]


def main() -> None:
    DBOS(config={"name": "clients", "system_database_url": URL, "log_level": "ERROR"})
    Queue(QUEUE)
    DBOS.launch()
    os.write(1, b"ready\n")
    sys.stdin.read()
    DBOS.destroy(workflow_completion_timeout_sec=10)


if __name__ == "__main__":
    main()
