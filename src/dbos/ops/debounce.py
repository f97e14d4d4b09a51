"""Debouncing: many calls for one key become one run with the arguments of the last."""

from __future__ import annotations

from dataclasses import replace

from dbos.engine.engine import Runtime
from dbos.engine.execution import Execution
from dbos.engine.site import Site
from dbos.engine.steps import Operation, commit_in_order, recorded_step, replayed, step_row
from dbos.errors import DBOSException, DBOSQueueDeduplicatedError
from dbos.ops.enqueue import EnqueueRequest, enqueue, is_served
from dbos.storage import debouncing, queues
from dbos.storage.debouncing import Postponed, Postponement
from dbos.storage.recovery import INTERNAL_QUEUE
from dbos.storage.rows import Recorded
from dbos.validation import shown

ATTEMPT = "DBOS.debounce_delayed_workflow"


async def debounce(
    rt: Runtime, site: Site, request: EnqueueRequest, period_ms: int, timeout_ms: int | None
) -> str:
    """Postpone the run that the key of the request has, or make one; the id of that run.

    In workflow code the attempt takes the site's step id, and a new run takes the next.
    """
    __tracebackhide__ = True
    step_id = site.step_id
    while True:
        joined = await _attempt(rt, site.run, step_id, request, period_ms)
        if joined is not None:
            return joined
        now_ms = rt.io.now_ms()
        last_ms = None if timeout_ms is None else now_ms + timeout_ms
        due_ms = now_ms + period_ms
        fresh = replace(
            request,
            delay_until_ms=due_ms if last_ms is None else min(due_ms, last_ms),
            debounce_deadline_ms=last_ms,
            is_debounced=True,
        )
        run = site.run
        try:
            return await enqueue(
                rt, site if run is None else replace(site, step_id=run.take_step_ids(1)), fresh
            )
        except DBOSQueueDeduplicatedError:
            # Another call was first: its run is the one to join.
            step_id = 0 if run is None else run.take_step_ids(1)


async def _attempt(
    rt: Runtime, run: Execution | None, step_id: int, request: EnqueueRequest, period_ms: int
) -> str | None:
    """Postpone the run that holds the key; None if nobody does. Recorded in workflow code."""
    __tracebackhide__ = True
    codec = rt.engine.codec
    format = codec.format_for(request.serialization, None)
    assert request.deduplication_id is not None, "a debounced call has a key"
    call = Postponement(
        request.queue_name,
        request.deduplication_id,
        request.workflow_name,
        request.application_name,
        codec.dump_arguments(tuple(request.args), dict(request.kwargs), format),
        format,
        period_ms,
    )
    refusal = DBOSQueueDeduplicatedError(
        request.workflow_id or "of a debouncer", request.queue_name, request.deduplication_id
    )
    if run is None:
        await _check_queue(rt, request)
        answer = await rt.io.commit(debouncing.postpone, call, request.queue_name)
        if answer.is_refused:
            raise refusal
        return answer.workflow_id
    await run.ensure_alive(rt)
    known = recorded_step(run, step_id, ATTEMPT)
    run.in_flight += 1
    try:
        if known is not None:
            await replayed(rt, run, known)
            return known.child_workflow_id
        await _check_queue(rt, request)
        operation = Operation(step_id, ATTEMPT, rt.io.now_ms())
        recorded_call = replace(
            call,
            record=step_row(rt, run, operation, output=None, error=None),
            refusal=codec.dump_error(refusal, codec.native),
        )
        answer = await commit_in_order(rt, run, debouncing.postpone, recorded_call, _verdict)
        if answer.is_refused:
            raise refusal
        return answer.workflow_id
    finally:
        run.in_flight -= 1


async def _check_queue(rt: Runtime, request: EnqueueRequest) -> None:
    """Refuse a queue that nobody knows, and one whose limits hold for each key."""
    name = request.queue_name
    if not request.must_know_queue or request.is_declared or name == INTERNAL_QUEUE:
        return
    registered, capabilities = await rt.io.read(queues.servers, name, request.application_name)
    if registered is None and not is_served(name, capabilities):
        raise DBOSException(
            f"Invalid queue name provided to debouncer: {shown(name)} is neither declared nor "
            "registered, and no live process serves it; declare or register the queue first."
        )
    if registered is not None and registered.limits().is_partitioned:
        raise partitioned(name)


def partitioned(queue_name: str) -> DBOSException:
    """The refusal of a queue whose limits hold for each key: a debounced run has none."""
    return DBOSException(
        f"A workflow cannot be debounced on queue {shown(queue_name)} without a partition key, "
        "and debounced workflows have none: give the debouncer a queue that is not partitioned."
    )


def _verdict(answer: Postponed) -> Recorded:
    assert answer.recorded is not None, "a call in workflow code is recorded"
    return answer.recorded
