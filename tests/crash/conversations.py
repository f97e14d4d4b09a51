"""Workflows that talk to each other by messages, events and streams; more of the corpus."""

from __future__ import annotations

from dbos import DBOS, SetWorkflowID
from tests.crash.corpus import CORPUS, add, add_async, entry

__all__ = ["CORPUS"]

WAIT_S = 20.0


@DBOS.workflow()
def receiver(count: int) -> list[int]:
    return [DBOS.recv("numbers", WAIT_S) for _ in range(count)]


@DBOS.workflow()
def sender(destination_id: str) -> int:
    DBOS.send(destination_id, add(1, 1), "numbers")
    DBOS.send(destination_id, add(2, 2), "numbers")
    return add(0, 0)


@entry
def messages_between_workflows() -> list[int]:
    with SetWorkflowID("receiver"):
        handle = DBOS.start_workflow(receiver, 2)
    with SetWorkflowID("sender"):
        sender("receiver")
    return handle.get_result()


@DBOS.workflow()
async def async_receiver() -> list[int]:
    first = await DBOS.recv_async("numbers", WAIT_S)
    second = await DBOS.recv_async("numbers", WAIT_S)
    return [first, await add_async(second, 1)]


@entry
async def messages_to_an_async_workflow() -> list[int]:
    with SetWorkflowID("async-receiver"):
        handle = await DBOS.start_workflow_async(async_receiver)
    await DBOS.send_async("async-receiver", 1, "numbers", idempotency_key="first")
    await DBOS.send_async("async-receiver", 2, "numbers", idempotency_key="second")
    return await handle.get_result()


@DBOS.workflow()
def receiver_in_vain() -> list[object]:
    return [DBOS.recv("nothing", 0.02), add(1, 1), DBOS.recv("nothing", 0)]


@entry
def no_message_in_time() -> list[object]:
    with SetWorkflowID("in-vain"):
        return receiver_in_vain()


@DBOS.workflow()
def progressing() -> int:
    DBOS.set_event("progress", add(0, 1))
    DBOS.set_event("progress", add(1, 1))
    DBOS.set_event("state", "done")
    return add(1, 2)


@DBOS.workflow()
def watching(workflow_id: str) -> list[object]:
    return [DBOS.get_event(workflow_id, "state", WAIT_S), add(1, 1)]


@entry
def events_between_workflows() -> list[object]:
    with SetWorkflowID("progressing"):
        handle = DBOS.start_workflow(progressing)
    with SetWorkflowID("watching"):
        seen = watching("progressing")
    return [*seen, handle.get_result(), DBOS.get_event("progressing", "progress", WAIT_S)]


@DBOS.workflow()
def streaming() -> int:
    for number in range(2):
        DBOS.write_stream("numbers", add(number, 10))
    DBOS.close_stream("numbers")
    return add(1, 1)


@entry
def stream_of_a_workflow() -> list[int]:
    with SetWorkflowID("streaming"):
        streaming()
    return list(DBOS.read_stream("streaming", "numbers"))
