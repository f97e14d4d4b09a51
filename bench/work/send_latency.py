"""Times from a send to the return of a recv that waits for it.

Parameters: samples, processes.
"""

from __future__ import annotations

import queue
import time

from bench.work.peer import READY, launched_as_peer, say, started_peer
from bench.work.program import latencies, launched, parameters, pauses, report
from dbos import DBOS, SetWorkflowID

RECEIVED: queue.SimpleQueue[float] = queue.SimpleQueue()
RECEIVER = "receiver"


@DBOS.workflow()
def receive(messages: int) -> None:
    for _ in range(messages):
        DBOS.recv("bench", timeout_seconds=60)
        RECEIVED.put(time.perf_counter())


@DBOS.workflow()
def receive_and_say(messages: int) -> None:
    for _ in range(messages):
        DBOS.recv("bench", timeout_seconds=60)
        say(time.perf_counter())


def latency_s(receiver: str) -> float:
    sent = time.perf_counter()
    DBOS.send(receiver, "message", "bench")
    return RECEIVED.get(timeout=60) - sent


def within_this_process(samples: int) -> list[float]:
    with launched():
        handle = DBOS.start_workflow(receive, samples)
        durations = [latency_s(handle.workflow_id) for _ in pauses(samples)]
        handle.get_result()
    return durations


def to_another_process(samples: int) -> list[float]:
    durations: list[float] = []
    with launched(), started_peer("bench.work.send_latency", f"samples={samples}") as peer:
        for _ in pauses(samples):
            sent = time.perf_counter()
            DBOS.send(RECEIVER, "message", "bench")
            durations.append(float(peer.hear()) - sent)
    return durations


def receive_as_peer(samples: int) -> None:
    with launched_as_peer():
        with SetWorkflowID(RECEIVER):
            handle = DBOS.start_workflow(receive_and_say, samples)
        say(READY)
        handle.get_result()


def main() -> None:
    given = parameters()
    samples = int(given["samples"])
    if "peer" in given:
        receive_as_peer(samples)
    elif given.get("processes") == 2:
        report(latencies(to_another_process(samples)))
    else:
        report(latencies(within_this_process(samples)))


if __name__ == "__main__":
    main()
