"""A worker that serves several limited queues, and notes in a ledger when each job's body runs.

    python -m tests.process.queues_worker DATABASE_URL LEDGER_DIRECTORY [FIRST BEYOND]

With a range of job numbers it serves nothing and has no schedule: it enqueues these jobs on every
queue and ends.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from pathlib import Path

import psycopg

from dbos import DBOS, Queue, SetEnqueueOptions, SetWorkflowID
from tests.process.jobs import (
    GLOBAL_MOST,
    PARTITION_MOST,
    QUEUES,
    RATE_LIMIT,
    RATE_PERIOD_S,
    WORKER_MOST,
    JobLedger,
    key_of,
)

URL = sys.argv[1]
LEDGER = JobLedger(Path(sys.argv[2]))
SERVED = {
    "global": Queue("global", global_concurrency=GLOBAL_MOST),
    "worker": Queue("worker", worker_concurrency=WORKER_MOST),
    "partition": Queue("partition", partition_concurrency=PARTITION_MOST),
    "lane": Queue("lane"),
    "rate": Queue("rate", limiter={"limit": RATE_LIMIT, "period": RATE_PERIOD_S}),
}


@DBOS.step()
def work(queue: str, key: str) -> str:
    workflow_id = DBOS.workflow_id
    assert workflow_id is not None
    LEDGER.append("work", workflow_id, queue, key)
    return workflow_id


@DBOS.workflow()
def job(queue: str, key: str, pause_s: float) -> str:
    workflow_id = DBOS.workflow_id
    assert workflow_id is not None
    started_ms = _started_ms(workflow_id) if queue == "rate" else 0
    LEDGER.append("begin", workflow_id, queue, key, started_ms)
    work(queue, key)
    LEDGER.append("known", workflow_id, queue, key)
    time.sleep(pause_s)
    LEDGER.append("end", workflow_id, queue, key)
    return workflow_id


@DBOS.workflow()
def tick(_due: object, _now: object) -> None:
    workflow_id = DBOS.workflow_id
    assert workflow_id is not None
    work("tick", "-")
    LEDGER.append("known", workflow_id, "tick", "-")


def _started_ms(workflow_id: str) -> int:
    """When the claim under which this body runs was made, by the database's clock."""
    query = "SELECT started_at_epoch_ms FROM {}workflow_status WHERE workflow_uuid = {}"
    if URL.startswith("sqlite"):
        connection = sqlite3.connect(URL.removeprefix("sqlite:///"), timeout=30)
        try:
            row = connection.execute(query.format("", "?"), [workflow_id]).fetchone()
        finally:
            connection.close()
    else:
        with psycopg.connect(URL) as session:
            row = session.execute(query.format("dbos.", "%s").encode(), [workflow_id]).fetchone()
    assert row is not None
    return int(row[0] or 0)


def _enqueue(jobs: range) -> None:
    for number in jobs:
        for queue in QUEUES:
            key = key_of(queue, number)
            with (
                SetWorkflowID(f"{queue}-{number}"),
                SetEnqueueOptions(queue_partition_key=None if key == "-" else key),
            ):
                SERVED[queue].enqueue(job, queue, key, 0.02 + number % 5 * 0.08)


def main() -> None:
    jobs = range(*map(int, sys.argv[3:])) if len(sys.argv) > 3 else None
    DBOS(config={"name": "queues", "system_database_url": URL, "log_level": "ERROR"})
    if jobs is None:
        DBOS.scheduled("* * * * * *")(tick)
    else:
        DBOS.listen_queues([])
    DBOS.launch()
    if jobs is not None:
        _enqueue(jobs)
    os.write(1, b"ready\n")
    if jobs is None:
        sys.stdin.read()
    DBOS.destroy(workflow_completion_timeout_sec=10)


if __name__ == "__main__":
    main()
