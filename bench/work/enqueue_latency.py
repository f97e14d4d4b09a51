"""Times from an enqueue on an idle queue to the start of the body.

Parameters: samples, processes.
"""

from __future__ import annotations

import queue
import time

from bench.work.peer import READY, launched_as_peer, say, started_peer, told
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


def within_this_process(samples: int) -> list[float]:
    with launched():
        latency_s()
        return [latency_s() for _ in pauses(samples)]


def from_another_process(samples: int) -> list[float]:
    """The other process enqueues and serves nothing."""
    durations: list[float] = []
    with launched(), started_peer("bench.work.enqueue_latency", "samples=0") as peer:
        for _ in pauses(samples):
            peer.tell("enqueue")
            enqueued = float(peer.hear())
            durations.append(STARTED.get(timeout=60) - enqueued)
    return durations


def enqueue_as_peer() -> None:
    with launched_as_peer(serves_queues=False):
        say(READY)
        for _ in told():
            say(time.perf_counter())
            QUEUE.enqueue(note_start)


def main() -> None:
    given = parameters()
    samples = int(given["samples"])
    if "peer" in given:
        enqueue_as_peer()
    elif given.get("processes") == 2:
        report(latencies(from_another_process(samples)))
    else:
        report(latencies(within_this_process(samples)))


if __name__ == "__main__":
    main()
