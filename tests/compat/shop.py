"""An application that runs under either package: begun by one of them, finished by the other.

    python shop.py DATABASE_URL LEDGER begin|finish ours|reference

It uses the public interface that both have, and no module of this project: the reference runs it
in an environment of its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dbos
from dbos import DBOS, Queue, SetWorkflowID

DATABASE_URL, LEDGER, STAGE, PACKAGE = sys.argv[1:]
JOBS = Queue("jobs", concurrency=1)
LATER_S = 3.0


@dataclass(frozen=True)
class Order:
    """A value that only pickling keeps."""

    number: int
    lines: tuple[str, ...]


class Refused(Exception):
    """An error of the application."""


def write(word: str) -> None:
    with Path(LEDGER).open("a", encoding="ascii") as ledger:
        ledger.write(f"{word}\n")


def say(word: str) -> None:
    """One whole line at once: several threads have something to say."""
    os.write(sys.stdout.fileno(), f"{word}\n".encode())


@DBOS.step()
def note(word: str) -> str:
    write(f"{DBOS.workflow_id} {word}")
    return f"noted {word}"


@DBOS.step()
async def note_async(word: str) -> str:
    write(f"{DBOS.workflow_id} {word}")
    return f"noted {word}"


@DBOS.step()
def hold() -> None:
    """The first process never gets beyond this."""
    if STAGE == "begin":
        say("held")
        time.sleep(3600)


@DBOS.workflow()
def order(wanted: Order) -> Order:
    first = note("first")
    DBOS.set_event("stage", wanted)
    DBOS.write_stream("log", wanted)
    hold()
    DBOS.write_stream("log", "last")
    DBOS.close_stream("log")
    return Order(wanted.number + 1, (*wanted.lines, first, note("last")))


@DBOS.workflow()
async def order_async(wanted: Order) -> Order:
    first = await note_async("first")
    await DBOS.run_step_async({"name": "hold"}, hold)
    return Order(wanted.number + 1, (first, await note_async("last")))


@DBOS.workflow()
def listen() -> list[Any]:
    heard = [DBOS.recv("t", timeout_seconds=600)]
    hold()
    return [*heard, DBOS.recv("t", timeout_seconds=600)]


@DBOS.workflow()
def doze() -> str:
    DBOS.sleep(LATER_S)
    return note("awake")


@DBOS.workflow()
def child(number: int) -> int:
    note("child")
    hold()
    return number + 1


@DBOS.workflow()
def parent() -> int:
    return DBOS.start_workflow(child, 1).get_result() + 1


@DBOS.workflow()
def job(number: int) -> int:
    note("job")
    hold()
    return number


@DBOS.workflow()
def refuse() -> None:
    raise Refused("not today")


def started(workflow_id: str, start: Callable[..., Any], *args: Any) -> Any:
    with SetWorkflowID(workflow_id):
        return start(*args)


def begin() -> None:
    wanted = Order(1, ("a", "b"))
    try:
        started("refused", DBOS.start_workflow, refuse).get_result()
    except Refused:
        write("refused")
    started("order", DBOS.start_workflow, order, wanted)
    started("order_async", DBOS.start_workflow, order_async, wanted)
    started("listen", DBOS.start_workflow, listen)
    DBOS.send("listen", wanted, "t")
    started("parent", DBOS.start_workflow, parent)
    started("job-1", JOBS.enqueue, job, 1)
    started("job-2", JOBS.enqueue, job, 2)
    started("doze", DBOS.start_workflow, doze)
    say("started")
    time.sleep(3600)


def outcome(workflow_id: str) -> str:
    try:
        return repr(DBOS.retrieve_workflow(workflow_id).get_result())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def finish() -> None:
    DBOS.send("listen", Order(2, ()), "t")
    runs = ("refused", "order", "order_async", "listen", "parent", "job-1", "job-2", "doze")
    found = {workflow_id: outcome(workflow_id) for workflow_id in runs}
    found["event"] = repr(DBOS.get_event("order", "stage"))
    found["stream"] = repr(list(DBOS.read_stream("order", "log")))
    print(json.dumps(found), flush=True)


def main() -> None:
    config: Any = {
        "name": "compat",
        "system_database_url": DATABASE_URL,
        "application_version": "v1",
        "log_level": "WARNING",
    }
    if PACKAGE == "ours":
        config["serializer"] = dbos.PickleSerializer()
    DBOS(config=config)
    DBOS.launch()
    if STAGE == "begin":
        begin()
    else:
        finish()
        DBOS.destroy()


if __name__ == "__main__":
    main()
