"""Times from an enqueue on an idle queue to the start of the body. Parameters: samples."""

from __future__ import annotations

import queue
import time

from bench.work.program import latencies, launched, parameters, pauses, report
from dbos import DBOS, Queue

QUEUE = Queue("bench")
STARTED: queue.SimpleQueue[float] = queue.SimpleQueue()


@DBOS.workflow()
def note_start() -> None:
    STARTED.put(time.perf_counter())


def latency_s() -> float:
    enqueued = time.perf_counter()
    QUEUE.enqueue(note_start)
    return STARTED.get(timeout=60) - enqueued


def main() -> None:
    with launched():
        latency_s()
        durations = [latency_s() for _ in pauses(int(parameters()["samples"]))]
    report(latencies(durations))


if __name__ == "__main__":
    main()
