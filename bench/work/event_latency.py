"""Times from a set_event to the return of a get_event that waits for it. Parameters: samples."""

from __future__ import annotations

import queue
import time
from concurrent.futures import Future, ThreadPoolExecutor

from bench.work.program import latencies, launched, parameters, pauses, report
from dbos import DBOS

WANTED: queue.SimpleQueue[str] = queue.SimpleQueue()
SET: queue.SimpleQueue[float] = queue.SimpleQueue()


@DBOS.workflow()
def set_events(events: int) -> None:
    for _ in range(events):
        key = WANTED.get(timeout=60)
        SET.put(time.perf_counter())
        DBOS.set_event(key, "value")


def seen_at(workflow_id: str, key: str) -> float:
    DBOS.get_event(workflow_id, key, timeout_seconds=60)
    return time.perf_counter()


def main() -> None:
    samples = int(parameters()["samples"])
    durations: list[float] = []
    with launched(), ThreadPoolExecutor(1) as reader:
        handle = DBOS.start_workflow(set_events, samples)
        waiting: Future[float] = reader.submit(seen_at, handle.workflow_id, "0")
        # The pause lets the reader begin to wait; how long it waits is no part of the figure.
        for number in pauses(samples):
            WANTED.put(str(number))
            durations.append(waiting.result() - SET.get())
            if number + 1 < samples:
                waiting = reader.submit(seen_at, handle.workflow_id, str(number + 1))
        handle.get_result()
    report(latencies(durations))


if __name__ == "__main__":
    main()
