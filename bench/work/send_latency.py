"""Times from a send to the return of a recv that waits for it. Parameters: samples."""

from __future__ import annotations

import queue
import time

from bench.work.program import latencies, launched, parameters, pauses, report
from dbos import DBOS

RECEIVED: queue.SimpleQueue[float] = queue.SimpleQueue()


@DBOS.workflow()
def receive(messages: int) -> None:
    for _ in range(messages):
        DBOS.recv("bench", timeout_seconds=60)
        RECEIVED.put(time.perf_counter())


def latency_s(receiver: str) -> float:
    sent = time.perf_counter()
    DBOS.send(receiver, "message", "bench")
    return RECEIVED.get(timeout=60) - sent


def main() -> None:
    samples = int(parameters()["samples"])
    with launched():
        handle = DBOS.start_workflow(receive, samples)
        durations = [latency_s(handle.workflow_id) for _ in pauses(samples)]
        handle.get_result()
    report(latencies(durations))


if __name__ == "__main__":
    main()
