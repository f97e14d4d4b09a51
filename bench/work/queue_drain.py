"""Times how fast worker processes empty a queue. Parameters: runs, workers.

The program runs itself as a process that fills the queue and serves none, and then as the worker
processes, which launch at the same moment. Time counts from the first launch until every run is
finished.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

from bench.work.program import (
    config,
    parameters,
    program_command,
    report,
    run_to_end,
    wait_until_finished,
)
from dbos import DBOS, Queue

READY = "ready"
QUEUE = Queue("bench")
EXECUTED: list[int] = []
GUARD = threading.Lock()


@DBOS.workflow()
def quick(number: int) -> int:
    with GUARD:
        EXECUTED.append(number)
    return number


def fill(runs: int) -> None:
    DBOS(config=config())
    DBOS.listen_queues([])
    DBOS.launch()
    for number in range(runs):
        QUEUE.enqueue(quick, number)
    DBOS.destroy()


def drain(runs: int, worker: int) -> None:
    """Waits for the word to start, works until nothing is left, prints when and how much."""
    DBOS(config={**config(), "executor_id": f"worker-{worker}"})
    print(READY, flush=True)
    if not sys.stdin.readline():
        raise SystemExit("the program that started this worker is gone")
    started = time.monotonic()
    DBOS.launch()
    wait_until_finished(runs)
    ended = time.monotonic()
    print(json.dumps([started, ended, len(EXECUTED)]), flush=True)
    DBOS.destroy()


def drain_together(runs: int, workers: int) -> dict[str, float]:
    processes = [start_worker(runs, worker) for worker in range(workers)]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline().strip() != READY:
            raise SystemExit("a worker did not become ready")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("start\n")
        process.stdin.flush()
    outputs = [process.communicate()[0] for process in processes]
    results = [json.loads(output.splitlines()[-1]) for output in outputs]
    elapsed = max(ended for _, ended, _ in results) - min(started for started, _, _ in results)
    shares = [executed for _, _, executed in results]
    return {"workflows_per_s": runs / elapsed, "smallest_share_percent": 100 * min(shares) / runs}


def start_worker(runs: int, worker: int) -> subprocess.Popen[str]:
    arguments = [f"runs={runs}", f"worker={worker}"]
    command = program_command("bench.work.queue_drain", arguments)
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main() -> None:
    given = parameters()
    runs = int(given["runs"])
    if "fill" in given:
        fill(runs)
    elif "worker" in given:
        drain(runs, int(given["worker"]))
    else:
        run_to_end(program_command("bench.work.queue_drain", [f"runs={runs}", "fill=1"]))
        report(drain_together(runs, int(given["workers"])))


if __name__ == "__main__":
    main()
