"""Workflows that steer others: fork, cancel and resume; more of the corpus."""

from __future__ import annotations

from dbos import DBOS, SetWorkflowID
from tests.crash.conversations import CORPUS
from tests.crash.corpus import add, entry

__all__ = ["CORPUS"]


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
