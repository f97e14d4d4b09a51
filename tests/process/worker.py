"""The program under test: a worker that starts workflows as it is told, and may be killed any time.

    python -m tests.process.worker DATABASE_URL LEDGER_DIRECTORY LEASE_SECONDS PATIENCE_SECONDS

It reads commands from standard input, one a line, and says on standard output when a workflow is
durably started (`started ID`), has returned to its caller (`returned ID`), or what its result is
(`result ID VALUE`). `clock SECONDS` sets the wall clock that its code reads. When its input ends,
it shuts down in good order, and gives background runs so long to end.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.process.errands import FAN_WIDTH, TELL_EVERY_S, WALK_S, heard, pause_s
from tests.process.ledger import Kind, LedgerWriter

Noted = tuple[int, int]
LEDGER = LedgerWriter(Path(sys.argv[2]))
READ_S, READ_NS = time.time, time.time_ns


@DBOS.step()
def add(number: int, addend: int) -> Noted:
    return _noted("add", number + addend)


@DBOS.step()
async def add_async(number: int, addend: int) -> Noted:
    _note("begin", "add_async")
    await asyncio.sleep(0.002)
    _note("end", "add_async")
    return number + addend, _here()[1]


@DBOS.step(retries_allowed=True, max_attempts=3, interval_seconds=0.01)
def double_at_last(number: int) -> Noted:
    _fail_at_first()
    return _noted("double_at_last", number * 2)


@DBOS.step(retries_allowed=True, max_attempts=3, interval_seconds=0.01)
async def double_at_last_async(number: int) -> Noted:
    _fail_at_first()
    return _noted("double_at_last_async", number * 2)


@DBOS.step()
def refuse(number: int) -> None:
    _note("begin", "refuse")
    raise LookupError(f"{number} {_here()[1]}")


@DBOS.workflow()
def chain(number: int) -> int:
    total = _known(add(number, 1))
    DBOS.sleep(pause_s(number))
    total = _known(double_at_last(total))
    try:
        refuse(total)
    except LookupError as error:
        _known_id(int(str(error).split()[1]))
        total += 1
    return _known(DBOS.run_step({"name": "add"}, add, total, 2))


@DBOS.workflow()
async def fan(number: int) -> int:
    parts = await asyncio.gather(*(add_async(number + index, 1) for index in range(FAN_WIDTH)))
    await DBOS.sleep_async(pause_s(number))
    return _known(await double_at_last_async(sum(_known(part) for part in parts)))


@DBOS.workflow()
def family(number: int) -> int:
    eldest = DBOS.start_workflow(chain, number)
    middle = DBOS.start_workflow(fan, number)
    youngest = chain(number + 1)
    return _known(add(eldest.get_result() + middle.get_result() + youngest, 1))


@DBOS.workflow()
async def clan(number: int) -> int:
    eldest = await DBOS.start_workflow_async(fan, number)
    youngest = DBOS.start_workflow(chain, number)
    middle = await fan(number + 1)
    total = await eldest.get_result() + middle
    total += int(await DBOS.get_result_async(youngest.workflow_id))
    return _known(await add_async(total, 1))


@DBOS.step()
def walk(number: int) -> Noted:
    _note("begin", "walk")
    time.sleep(WALK_S)
    _note("end", "walk")
    return number + 1, _here()[1]


@DBOS.workflow()
def stroll(number: int) -> int:
    return _known(walk(_known(walk(number))))


@DBOS.workflow()
def hear(number: int) -> int:
    known = 0
    for word in range(number):
        known = heard(known, DBOS.recv(timeout_seconds=60))
        _known(mark(f"heard-{word}", known))
    return known


@DBOS.workflow()
def tell(number: int) -> int:
    me = DBOS.workflow_id
    assert me is not None
    for word in range(number):
        time.sleep(TELL_EVERY_S)
        DBOS.send(me.replace("tell", "hear"), word)
        _known(mark(f"told-{word}", word))
    return number


@DBOS.step()
def mark(name: str, value: int) -> Noted:
    return _noted(name, value)


WORKFLOWS: dict[str, Callable[[int], Any]] = {
    "chain": chain,
    "fan": fan,
    "family": family,
    "clan": clan,
    "stroll": stroll,
    "hear": hear,
    "tell": tell,
}


def _fail_at_first() -> None:
    status = DBOS.step_status
    assert status is not None
    if status.current_attempt == 0:
        raise ConnectionError("The first attempt always fails.")


def _noted(name: str, value: int) -> Noted:
    """The body of a step: its effect is the line in the ledger."""
    _note("begin", name)
    _note("end", name)
    return value, _here()[1]


def _known(noted: Noted | list[int]) -> int:
    """Note that the workflow has got the result of a step, which must be durable by now."""
    value, step_id = noted
    _known_id(step_id)
    return value


def _known_id(step_id: int) -> None:
    workflow_id = DBOS.workflow_id
    assert workflow_id is not None
    LEDGER.append("known", (workflow_id, step_id), "-")


def _note(kind: Kind, name: str) -> None:
    LEDGER.append(kind, _here(), name)


def _here() -> tuple[str, int]:
    workflow_id, step_id = DBOS.workflow_id, DBOS.step_id
    assert workflow_id is not None
    assert step_id is not None
    return workflow_id, step_id


class Worker:
    """Obeys commands; each direct call gets a thread, or a task on the one loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(32, "errand")
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="errands", daemon=True).start()

    def obey(self, command: str) -> None:
        verb, workflow_id, *details = command.split()
        if verb == "start":
            kind, mode, number = details
            self._start(workflow_id, WORKFLOWS[kind], mode, int(number))
        elif verb == "clock":
            set_clock(float(workflow_id))
        else:
            self._threads.submit(self._tell_result, workflow_id)

    def _start(
        self, workflow_id: str, workflow: Callable[[int], Any], mode: str, number: int
    ) -> None:
        running: Future[Any]
        if mode == "background":
            running = self._threads.submit(_start_in_background, workflow_id, workflow, number)
        elif mode == "direct":
            running = self._threads.submit(_call, workflow_id, workflow, number)
        elif mode == "background_async":
            running = self._on_loop(_start_on_loop(workflow_id, workflow, number))
        else:
            running = self._on_loop(_await(workflow_id, workflow, number))
        running.add_done_callback(_complain)

    def _on_loop(self, coroutine: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _tell_result(self, workflow_id: str) -> None:
        try:
            say(f"result {workflow_id} {DBOS.get_result(workflow_id)}")
        except Exception as error:
            say(f"result {workflow_id} {type(error).__name__}")


def _start_in_background(workflow_id: str, workflow: Callable[[int], Any], number: int) -> None:
    with SetWorkflowID(workflow_id):
        DBOS.start_workflow(workflow, number)
    say(f"started {workflow_id}")


async def _start_on_loop(workflow_id: str, workflow: Callable[[int], Any], number: int) -> None:
    with SetWorkflowID(workflow_id):
        await DBOS.start_workflow_async(workflow, number)
    say(f"started {workflow_id}")


def _call(workflow_id: str, workflow: Callable[[int], Any], number: int) -> None:
    with SetWorkflowID(workflow_id):
        workflow(number)
    say(f"returned {workflow_id}")


async def _await(workflow_id: str, workflow: Callable[[int], Any], number: int) -> None:
    with SetWorkflowID(workflow_id):
        await workflow(number)
    say(f"returned {workflow_id}")


def _complain(running: Future[Any]) -> None:
    error = running.exception()
    if error is not None:
        print(f"An errand failed with {error!r}", file=sys.stderr, flush=True)


def say(line: str) -> None:
    """Write a whole line at once: other threads are talking too."""
    os.write(1, f"{line}\n".encode())


def set_clock(ahead_s: float) -> None:
    """Set the wall clock that Python programs read; that of the database goes on as it is."""
    time.time = lambda: READ_S() + ahead_s
    time.time_ns = lambda: READ_NS() + round(ahead_s * 1_000_000_000)


def main() -> None:
    DBOS(
        config={
            "name": "storm",
            "system_database_url": sys.argv[1],
            # The first attempt of every retried step fails, and each would be reported.
            "log_level": "ERROR",
            "failover": {"lease_seconds": float(sys.argv[3])},
        }
    )
    DBOS.launch()
    worker = Worker()
    say("ready")
    for command in sys.stdin:
        worker.obey(command)
    DBOS.destroy(workflow_completion_timeout_sec=int(sys.argv[4]))


if __name__ == "__main__":
    main()
