"""Workflows that enqueue others; more of the corpus."""

from __future__ import annotations

import asyncio

from dbos import DBOS, Debouncer, Queue, SetEnqueueOptions, SetWorkflowID, error
from tests.crash.conversations import CORPUS, WAIT_S
from tests.crash.corpus import add, add_async, entry

__all__ = ["CORPUS"]

served = Queue("corpus-served", worker_concurrency=2)


@DBOS.workflow()
def queued_sum(left: int, right: int) -> int:
    return add(left, right)


@DBOS.workflow()
def enqueues_and_awaits() -> list[int]:
    handles = [served.enqueue(queued_sum, number, 1) for number in range(2)]
    between = add(10, 10)
    return [*(handle.get_result() for handle in handles), between]


@entry
def enqueue_and_get_result() -> list[int]:
    with SetWorkflowID("enqueuing"):
        return enqueues_and_awaits()


@DBOS.workflow()
async def async_queued_sum(left: int, right: int) -> int:
    return await add_async(left, right)


@DBOS.workflow()
async def enqueues_in_a_group() -> list[int]:
    handles = await asyncio.gather(
        *(served.enqueue_async(async_queued_sum, number, 1) for number in range(2))
    )
    return list(await asyncio.gather(*(handle.get_result() for handle in handles)))


@entry
async def gathered_enqueues() -> list[int]:
    with SetWorkflowID("enqueuing-async"):
        return await enqueues_in_a_group()


@DBOS.workflow()
def holder() -> int:
    told: int = DBOS.recv("end", WAIT_S)
    return add(told, 1)


@DBOS.workflow()
def refused_by_deduplication() -> list[object]:
    with SetEnqueueOptions(deduplication_id="held"):
        holding = served.enqueue(holder)
        try:
            served.enqueue(queued_sum, 2, 2)
        except error.DBOSQueueDeduplicatedError as refused:
            DBOS.send(holding.workflow_id, 5, "end")
            return [refused.workflow_id, holding.get_result()]
    return ["never refused"]


@entry
def enqueue_refused_by_deduplication() -> list[object]:
    with SetWorkflowID("refused"):
        return refused_by_deduplication()


@DBOS.workflow()
def follows_the_holder() -> list[object]:
    with SetEnqueueOptions(deduplication_id="held", duplication_policy="return-existing"):
        followed = [served.enqueue(holder) for _ in range(2)]
    DBOS.send(followed[1].workflow_id, 6, "end")
    return [handle.get_result() for handle in followed]


@entry
def enqueue_that_follows_the_holder() -> list[object]:
    with SetWorkflowID("following"):
        return follows_the_holder()


@entry
def enqueue_from_outside() -> int:
    with SetWorkflowID("outside"):
        return served.enqueue(queued_sum, 3, 4).get_result()


@DBOS.workflow()
def typed(key: str, text: str) -> str:
    return f"{key} typed {text}"


TYPING = Debouncer.create(typed)


@DBOS.workflow()
def type_twice() -> list[str]:
    first = TYPING.debounce("ann", 3600, "h")
    second = TYPING.debounce("ann", 0, "hello")
    return [first.workflow_id, second.workflow_id, second.get_result()]


@entry
def debounced_from_a_workflow() -> list[str]:
    with SetWorkflowID("typist"):
        return type_twice()
