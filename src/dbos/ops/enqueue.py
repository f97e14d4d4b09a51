"""Enqueueing a workflow: the one operation behind every way to ask for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from dbos.engine import admission
from dbos.engine.context import NOBODY, Authentication
from dbos.engine.engine import Runtime
from dbos.engine.execution import DEADLINE_SET, Execution
from dbos.engine.site import Site
from dbos.engine.steps import Operation, commit_in_order, recorded_step, replayed, step_row
from dbos.errors import (
    DBOSException,
    DBOSQueueDeduplicatedError,
    DBOSWorkflowIDInUseError,
)
from dbos.serialization.codec import WorkflowSerializationFormat
from dbos.storage import deduplication, queues, workflows
from dbos.storage.deduplication import Contender, Contest
from dbos.storage.recovery import INTERNAL_QUEUE
from dbos.storage.rows import Admitted, ChildLaunch, Launched, NewRun, Recorded
from dbos.telemetry import log
from dbos.validation import shown

LOOK_AGAIN_AFTER_MS = 60_000
"""How long a queue that was served counts as served, for the warning only."""


@dataclass(frozen=True, slots=True)
class EnqueueRequest:
    """A workflow to enqueue, named and not referred to. Everything in it is checked already."""

    workflow_name: str
    queue_name: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    class_name: str | None = None
    config_name: str | None = None
    workflow_id: str | None = None
    """None: derived from the parent's step, else fresh."""
    reuse: Literal["return-existing", "reject"] = "return-existing"
    serialization: WorkflowSerializationFormat = WorkflowSerializationFormat.DEFAULT
    application_name: str | None = None
    application_version: str | None = None
    """The version that may run it; None: the latest."""
    application_id: str = ""
    executor_id: str | None = None
    code_hash: str | None = None
    authentication: Authentication = NOBODY
    timeout_ms: int | None = None
    """Counted from the first start."""
    deadline_ms: int | None = None
    deduplication_id: str | None = None
    on_duplicate: Literal["reject", "return-existing"] = "reject"
    priority: int | None = None
    partition_key: str | None = None
    delay_until_ms: int | None = None
    attributes: str | None = None
    """As JSON."""
    schedule_name: str | None = None
    is_declared: bool = False
    """Whether this process declares the queue."""
    is_debounced: bool = False
    debounce_deadline_ms: int | None = None
    """Later calls of a debouncer cannot move the delay beyond this."""
    needs_key_if_partitioned: bool = False
    """Whether the stored settings of the queue are to be asked if it may be used without a key."""
    must_know_queue: bool = False
    """Of a debounced run: whether a queue that nobody knows is refused."""


async def enqueue(rt: Runtime, site: Site, request: EnqueueRequest) -> str:
    """Enqueue a workflow; durable when this returns. The id of the workflow to follow.

    That is the new one; or the one that has its id already; or the holder of its deduplication id.
    In workflow code the launch is recorded, and so is the refusal of a deduplication id.
    """
    __tracebackhide__ = True
    if site.run is not None:
        return await _enqueue_child(rt, site, site.run, request)
    workflow_id = request.workflow_id or rt.engine.new_id()
    run = _row(rt, request, workflow_id, None)
    await _look_at_queue(rt, request)
    if not _contends(request, is_child=False):
        # One queue has one lane, so that concurrent calls keep their order.
        admitted = await rt.io.commit(workflows.admit, run, run.queue_name or "")
        _ring_for_deadline(rt, run)
        return _followed(request, run, admitted)
    contender = Contender(run, _on_held(request), request.reuse == "reject")
    contest = await rt.io.commit(deduplication.contend, contender, run.queue_name or "")
    _ring_for_deadline(rt, run)
    return _followed(request, run, contest.admitted)


async def _enqueue_child(
    rt: Runtime, site: Site, parent: Execution, request: EnqueueRequest
) -> str:
    """Create the child and record its launch in one commit; or find what is recorded."""
    __tracebackhide__ = True
    await parent.ensure_alive(rt)
    name = request.workflow_name
    known = recorded_step(parent, site.step_id, name)
    parent.in_flight += 1
    try:
        if known is not None:
            await replayed(rt, parent, known)
            return known.child_workflow_id or ""
        operation = Operation(site.step_id, name, rt.io.now_ms())
        workflow_id = request.workflow_id or f"{parent.workflow_id}-{site.step_id}"
        run = _row(rt, request, workflow_id, parent)
        # What is read is read before the commit: its outcome is delivered in its turn, and the
        # workflow goes on at once.
        await _look_at_queue(rt, request)
        admitted = await _launch(rt, parent, request, run, operation.of_child(workflow_id))
        _ring_for_deadline(rt, run)
        return _followed(request, run, admitted)
    finally:
        parent.in_flight -= 1


def _ring_for_deadline(rt: Runtime, run: NewRun) -> None:
    """Have an inherited deadline watched, although the run may never start."""
    if run.workflow_deadline_epoch_ms is not None:
        rt.engine.hub.publish((DEADLINE_SET,))


async def _launch(
    rt: Runtime, parent: Execution, request: EnqueueRequest, run: NewRun, operation: Operation
) -> Admitted | None:
    record = step_row(rt, parent, operation, output=None, error=None)
    if not _contends(request, is_child=True):
        launch = ChildLaunch(run, record)
        launched = await commit_in_order(
            rt, parent, workflows.launch_child, launch, _launch_verdict
        )
        return launched.admitted
    codec = rt.engine.codec
    contender = Contender(
        run,
        _on_held(request),
        request.reuse == "reject",
        record,
        codec.dump_error(_refusal(request, run), codec.native),
    )
    contest = await commit_in_order(rt, parent, deduplication.contend, contender, _contest_verdict)
    return contest.admitted


def _contends(request: EnqueueRequest, *, is_child: bool) -> bool:
    """Whether the place may be taken, or a refusal concerns the parent's record."""
    return request.deduplication_id is not None or (is_child and request.reuse == "reject")


def _on_held(request: EnqueueRequest) -> Literal["refuse", "follow"]:
    return "refuse" if request.on_duplicate == "reject" else "follow"


def _followed(request: EnqueueRequest, run: NewRun, place: Admitted | None) -> str:
    """The id of the run that has the place; raises if that refuses the new one."""
    if place is None:
        raise _refusal(request, run)
    if place.workflow_id != run.workflow_uuid:
        if request.on_duplicate == "reject":
            raise _refusal(request, run)
        return place.workflow_id
    if not admission.is_ours(run, place):
        admission.check_same_target(run, place)
        if request.reuse == "reject":
            raise DBOSWorkflowIDInUseError(run.workflow_uuid, place.status, place.name or "")
        log.already_run(run.name, run.workflow_uuid, place.status)
    return run.workflow_uuid


def _refusal(request: EnqueueRequest, run: NewRun) -> DBOSQueueDeduplicatedError:
    return DBOSQueueDeduplicatedError(
        run.workflow_uuid, request.queue_name, request.deduplication_id or ""
    )


def _row(
    rt: Runtime, request: EnqueueRequest, workflow_id: str, parent: Execution | None
) -> NewRun:
    codec = rt.engine.codec
    format = codec.format_for(request.serialization, None)
    authentication = request.authentication
    roles = authentication.roles
    return NewRun(
        workflow_uuid=workflow_id,
        status="ENQUEUED" if request.delay_until_ms is None else "DELAYED",
        name=request.workflow_name,
        inputs=codec.dump_arguments(tuple(request.args), dict(request.kwargs), format),
        serialization=format,
        owner_xid=rt.engine.new_token(),
        application_name=request.application_name,
        application_version=request.application_version,
        application_id=request.application_id,
        class_name=request.class_name,
        config_name=request.config_name,
        executor_id=request.executor_id,
        code_hash=request.code_hash,
        authenticated_user=authentication.user,
        assumed_role=authentication.assumed_role,
        authenticated_roles=None if roles is None else msgspec.json.encode(roles).decode(),
        queue_name=request.queue_name,
        workflow_timeout_ms=request.timeout_ms,
        workflow_deadline_epoch_ms=request.deadline_ms,
        deduplication_id=request.deduplication_id,
        priority=request.priority or 0,
        queue_partition_key=request.partition_key,
        parent_workflow_id=None if parent is None else parent.workflow_id,
        attributes=request.attributes,
        delay_until_epoch_ms=request.delay_until_ms,
        schedule_name=request.schedule_name,
        is_debounced=request.is_debounced,
        debounce_deadline_epoch_ms=request.debounce_deadline_ms,
    )


async def _look_at_queue(rt: Runtime, request: EnqueueRequest) -> None:
    """Refuse a row without a key on a partitioned queue; warn of a queue that nobody serves."""
    if request.is_declared or request.queue_name == INTERNAL_QUEUE:
        return
    name, now_ms = request.queue_name, rt.io.now_ms()
    served_until = rt.engine.served_until
    is_known = served_until.get(name, 0) > now_ms
    if request.needs_key_if_partitioned and request.partition_key is None:
        found = await rt.io.read(queues.find, name)
        if found is not None and found.limits().is_partitioned:
            raise without_key(name)
        is_known = is_known or found is not None
    if is_known:
        return
    registered, capabilities = await rt.io.read(queues.servers, name, request.application_name)
    if registered is not None or is_served(name, capabilities):
        served_until[name] = now_ms + LOOK_AGAIN_AFTER_MS
    elif name not in served_until:
        served_until[name] = 0
        log.queue_unserved(name)


class _Capabilities(msgspec.Struct):
    queues: tuple[str, ...] = ()


_capabilities: Callable[[str], _Capabilities] = msgspec.json.Decoder(_Capabilities).decode


def is_served(name: str, capabilities: Sequence[str]) -> bool:
    """Whether one of these processes serves a queue, by what each says of itself in JSON."""
    for text in capabilities:
        try:
            if name in _capabilities(text).queues:
                return True
        except msgspec.MsgspecError:
            continue
    return False


def without_key(queue_name: str) -> DBOSException:
    return DBOSException(
        f"A workflow cannot be enqueued on queue {shown(queue_name)} without a partition key, "
        "because the queue is partitioned: pass partition_key=..., or use "
        "SetEnqueueOptions(queue_partition_key=...)."
    )


def _launch_verdict(launched: Launched) -> Recorded | None:
    return launched.recorded


def _contest_verdict(contest: Contest) -> Recorded | None:
    assert contest.recorded is not None, "a launch by a parent is judged"
    is_unrecorded = contest.recorded.verdict == "kept" and contest.record is None
    return None if is_unrecorded else contest.recorded
