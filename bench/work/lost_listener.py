"""How late a message arrives when the listening session was just cut. Parameters: samples, limit_s.

PostgreSQL only. The other process sends: what the waiting process sends itself needs no listener.
"""

from __future__ import annotations

import os
import queue
import time

import psycopg

from bench.work.peer import READY, launched_as_peer, say, started_peer, told
from bench.work.program import config, database_url, parameters, report
from dbos import DBOS, SetWorkflowID

RECEIVED: queue.SimpleQueue[float] = queue.SimpleQueue()
RECEIVER = "receiver"
SETTLING_S = 3.0
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE 'listen%'"


@DBOS.workflow()
def receive(messages: int) -> None:
    for _ in range(messages):
        DBOS.recv("bench", timeout_seconds=600)
        RECEIVED.put(time.perf_counter())


def main() -> None:
    given = parameters()
    if "peer" in given:
        with launched_as_peer():
            say(READY)
            for _ in told():
                DBOS.send(RECEIVER, "message", "bench")
        return
    samples, limit_s = int(given["samples"]), given["limit_s"]
    DBOS(config=config())
    DBOS.launch()
    with SetWorkflowID(RECEIVER):
        DBOS.start_workflow(receive, samples)
    delays: list[float] = []
    with (
        started_peer("bench.work.lost_listener", "samples=0") as peer,
        psycopg.connect(database_url(), autocommit=True) as connection,
    ):
        for _ in range(samples):
            time.sleep(SETTLING_S)
            cut = connection.execute(CUT.encode()).fetchall()
            if not cut:
                raise SystemExit("nobody listens: there is nothing to measure")
            began = time.perf_counter()
            peer.tell("send")
            try:
                delays.append(RECEIVED.get(timeout=limit_s) - began)
            except queue.Empty:
                delays.append(limit_s)
    report({"most_ms": 1000 * max(delays)})
    os._exit(0)


if __name__ == "__main__":
    main()
