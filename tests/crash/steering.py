"""Workflows that steer others: fork, cancel, resume, delay, rewind, delete; more of the corpus."""

from __future__ import annotations

from dbos import DBOS, Queue, SetEnqueueOptions, SetWorkflowID
from tests.crash.conversations import CORPUS
from tests.crash.corpus import add, entry

__all__ = ["CORPUS"]

later = Queue("corpus-later")


@DBOS.workflow()
def reporting(value: int) -> int:
    DBOS.set_event("first", add(value, 1))
    DBOS.write_stream("log", value)
    return add(value, 2)


@DBOS.workflow()
def forking(source_id: str) -> int:
    first = add(1, 1)
    with SetWorkflowID(f"{source_id}-fork"):
        handle = DBOS.fork_workflow(source_id, 3)
    return first + int(handle.get_result())


@entry
def fork_from_a_workflow() -> int:
    with SetWorkflowID("reporting"):
        reporting(1)
    with SetWorkflowID("forking"):
        return forking("reporting")


@DBOS.workflow()
def waiting_for_leave() -> int:
    return int(DBOS.recv("leave", 20.0))


@DBOS.workflow()
def stopping_and_going(target_id: str) -> int:
    DBOS.cancel_workflow(target_id)
    handle = DBOS.resume_workflow(target_id)
    DBOS.send(target_id, add(1, 1), "leave")
    return add(int(handle.get_result()), 1)


@entry
def cancel_and_resume_from_a_workflow() -> int:
    with SetWorkflowID("waiting"):
        DBOS.start_workflow(waiting_for_leave)
    with SetWorkflowID("stopping"):
        return stopping_and_going("waiting")


@DBOS.workflow()
def announcing() -> int:
    DBOS.set_event("state", add(1, 1))
    return add(2, 2)


@DBOS.workflow()
def playing_again(target_id: str) -> int:
    with SetWorkflowID(target_id):
        before = DBOS.start_workflow(announcing).get_result()
    return before + int(DBOS.rewind_workflow(target_id, start_step=2).get_result())


@entry
def rewind_from_a_workflow() -> int:
    with SetWorkflowID("playing-again"):
        return playing_again("played")


@DBOS.workflow()
def parent() -> int:
    return announcing()


@DBOS.workflow()
def clearing_up(target_id: str) -> int:
    with SetWorkflowID(target_id):
        result = DBOS.start_workflow(parent).get_result()
    DBOS.delete_workflow(target_id, delete_children=True)
    return add(result, 1)


@entry
def delete_from_a_workflow() -> int:
    with SetWorkflowID("clearing-up"):
        return clearing_up("cleared")


@DBOS.workflow()
def hurrying() -> int:
    with SetEnqueueOptions(delay_seconds=1000.0):
        handle = later.enqueue(add_one, 1)
    DBOS.set_workflow_delay(handle.workflow_id, delay_seconds=0)
    return handle.get_result()


@DBOS.workflow()
def add_one(value: int) -> int:
    return add(value, 1)


@entry
def delay_moved_from_a_workflow() -> int:
    with SetWorkflowID("hurrying"):
        return hurrying()
