"""Times from a set_event to the return of a get_event that waits for it.

Parameters: samples, processes.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from bench.work.peer import READY, launched_as_peer, say, started_peer, told
from bench.work.program import latencies, launched, parameters, pauses, report
from dbos import DBOS, SetWorkflowID

WANTED: queue.SimpleQueue[str] = queue.SimpleQueue()
SET: queue.SimpleQueue[float] = queue.SimpleQueue()
SETTER = "setter"

SetEvent = Callable[[str], float]
"""Has an event of this key set, and tells when that began."""


@DBOS.workflow()
def set_events(events: int) -> None:
    for _ in range(events):
        key = WANTED.get(timeout=60)
        SET.put(time.perf_counter())
        DBOS.set_event(key, "value")


def seen_at(key: str) -> float:
    DBOS.get_event(SETTER, key, timeout_seconds=60)
    return time.perf_counter()


@contextmanager
def setter_here(samples: int) -> Iterator[SetEvent]:
    with SetWorkflowID(SETTER):
        handle = DBOS.start_workflow(set_events, samples)

    def set_event(key: str) -> float:
        WANTED.put(key)
        return SET.get(timeout=60)

    yield set_event
    handle.get_result()


@contextmanager
def setter_elsewhere(samples: int) -> Iterator[SetEvent]:
    with started_peer("bench.work.event_latency", f"samples={samples}") as peer:

        def set_event(key: str) -> float:
            peer.tell(key)
            return float(peer.hear())

        yield set_event


def set_as_peer(samples: int) -> None:
    with launched_as_peer(), setter_here(samples) as set_event:
        say(READY)
        for key in told():
            say(set_event(key))


def measure(samples: int, processes: int) -> list[float]:
    durations: list[float] = []
    setter = setter_elsewhere if processes == 2 else setter_here
    with launched(), setter(samples) as set_event, ThreadPoolExecutor(1) as reader:
        waiting: Future[float] = reader.submit(seen_at, "0")
        # The pause lets the reader begin to wait; how long it waits is no part of the figure.
        for number in pauses(samples):
            began = set_event(str(number))
            durations.append(waiting.result() - began)
            if number + 1 < samples:
                waiting = reader.submit(seen_at, str(number + 1))
    return durations


def main() -> None:
    given = parameters()
    samples = int(given["samples"])
    if "peer" in given:
        set_as_peer(samples)
    else:
        report(latencies(measure(samples, int(given.get("processes", 1)))))


if __name__ == "__main__":
    main()
