"""Streams: values that a workflow appends under a key, read in order by anyone."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from dbos import validation
from dbos.engine.context import StepScope
from dbos.engine.engine import Runtime
from dbos.engine.execution import Execution
from dbos.engine.outcome import Failure, Outcome, Success
from dbos.engine.site import Site
from dbos.engine.steps import Operation, once, record
from dbos.engine.writes import RunWrite, write_in_run
from dbos.errors import (
    DBOSNonExistentWorkflowError,
    DBOSStreamNondeterminismError,
    DBOSStreamTimeoutError,
)
from dbos.lifecycle import TERMINAL
from dbos.ops.verb import verb
from dbos.serialization.codec import Stored, WorkflowSerializationFormat
from dbos.storage import steps, streams
from dbos.storage.protocol import Topic
from dbos.storage.streams import CLOSED, CLOSED_FORMAT, StreamWriting, stream_topic

WRITE_STREAM = "DBOS.writeStream"
CLOSE_STREAM = "DBOS.closeStream"
READ_STREAM = "DBOS.readStream"
READ_STREAM_OFFSET = "DBOS.readStreamOffset"
DEFAULT = WorkflowSerializationFormat.DEFAULT


@verb(step_ids=1)
async def write_stream(
    rt: Runtime,
    site: Site,
    key: str,
    value: Any,
    *,
    serialization_type: WorkflowSerializationFormat | None = DEFAULT,
) -> None:
    """Append a value to a stream of this workflow; durable when this returns.

    From workflow code this is one step, exactly once. In a step the n-th write to a key is the same
    logical write in every attempt: a step that is attempted again adds nothing that is there
    already.

    Raises:
        DBOSUsageError: called outside a workflow or step.
        DBOSSerializationError: the value cannot be stored.
        DBOSInvalidInputError: the key is not valid.
    """
    checked = validation.identifier(key, "key")
    validation.stream_value(value)

    def argument(write: RunWrite) -> StreamWriting:
        # First, so that a value which cannot be stored does not count as a write.
        text = rt.engine.codec.dump(value, "value", write.format)
        return _writing(write, site.scope.step, checked, text, write.format)

    await write_in_run(rt, site, WRITE_STREAM, streams.write_stream, argument, serialization_type)


@verb(step_ids=1)
async def close_stream(rt: Runtime, site: Site, key: str) -> None:
    """End a stream of this workflow for its readers; durable when this returns.

    Closing again has no effect; later writes are accepted and not seen.

    Raises:
        DBOSUsageError: called outside a workflow or step.
        DBOSInvalidInputError: the key is not valid.
    """
    checked = validation.identifier(key, "key")

    def argument(write: RunWrite) -> StreamWriting:
        return _writing(write, site.scope.step, checked, CLOSED, CLOSED_FORMAT)

    await write_in_run(rt, site, CLOSE_STREAM, streams.write_stream, argument)


def _write_number(step: StepScope | None, key: str) -> int:
    """Which write to this key it is in the attempt of the step around it; 1 in workflow code."""
    if step is None:
        return 1
    step.stream_writes[key] = step.stream_writes.get(key, 0) + 1
    return step.stream_writes[key]


def _writing(
    write: RunWrite, step: StepScope | None, key: str, text: str, format: str
) -> StreamWriting:
    return StreamWriting(
        write.run.workflow_id,
        key,
        text,
        format,
        write.function_id,
        write.run.claim,
        write.record,
        _write_number(step, key),
    )


@dataclass(frozen=True, slots=True)
class Reading:
    """A read of a stream: where, how long to wait for each value, and what it is recorded as."""

    workflow_id: str
    key: str
    timeout_s: float | None
    recheck_s: float | None
    name: str


def reading(
    workflow_id: str,
    key: str,
    polling_interval_sec: float | None,
    timeout_seconds: float | None,
    name: str = READ_STREAM,
) -> Reading:
    """A checked read."""
    return Reading(
        validation.workflow_id(workflow_id),
        validation.identifier(key, "key"),
        validation.optional_waiting_limit(timeout_seconds),
        None if polling_interval_sec is None else validation.polling_interval(polling_interval_sec),
        name,
    )


class _End:
    """What a read returns instead of a value when the stream has ended."""


END = _End()


@verb(step_ids=1)
async def read_stream_offset(
    rt: Runtime,
    site: Site,
    workflow_id: str,
    key: str,
    offset: int,
    *,
    polling_interval_sec: float | None = None,
    timeout_seconds: float | None = None,
) -> Any:
    """Wait for the value at one offset of a stream. In workflow code it is recorded.

    Args:
        offset: counted from 0.
        polling_interval_sec: how late an entry that rings no bell is noticed, at the most.
        timeout_seconds: how long to wait; None waits without limit.

    Raises:
        DBOSStreamTimeoutError: no value in time, or the stream ended before the offset.
        DBOSNonExistentWorkflowError: there is no such workflow.
        DBOSStreamNondeterminismError: two reads overlap in one workflow.
        DBOSInvalidInputError: an argument is not valid.
    """
    position = validation.stream_offset(offset)
    wanted = reading(workflow_id, key, polling_interval_sec, timeout_seconds, READ_STREAM_OFFSET)
    if site.run is None:
        value = await next_entry(rt, wanted, position, None)
    else:
        value = await recorded_entry(rt, site.run, site.step_id, wanted, position)
    if value is END:
        raise DBOSStreamTimeoutError(wanted.workflow_id, wanted.key)
    return value


async def entries(
    rt: Runtime, run: Execution | None, wanted: Reading, offset: int
) -> AsyncGenerator[Any, None]:
    """The values of a stream in order, until it ends; in workflow code each one is recorded."""
    while True:
        if run is None:
            value = await next_entry(rt, wanted, offset, None)
        else:
            value = await recorded_entry(rt, run, run.take_step_ids(1), wanted, offset)
        if value is END:
            return
        yield value
        offset += 1


async def recorded_entry(
    rt: Runtime, run: Execution, step_id: int, wanted: Reading, offset: int
) -> Any:
    """One entry in workflow code: replayed, or awaited and recorded before it is handed out."""
    if run.is_reading_stream:
        raise DBOSStreamNondeterminismError(run.workflow_id, wanted.key)

    async def read(operation: Operation) -> Any:
        outcome = await _entry_outcome(rt, wanted, offset, run)
        return (await record(rt, run, operation, outcome, steps.record_wait)).resolve()

    run.is_reading_stream = True
    try:
        value = await once(rt, run, step_id, wanted.name, read)
    finally:
        run.is_reading_stream = False
    return END if isinstance(value, str) and value == validation.STREAM_CLOSED else value


async def _entry_outcome(rt: Runtime, wanted: Reading, offset: int, run: Execution) -> Outcome:
    try:
        value = await next_entry(rt, wanted, offset, run)
    except DBOSStreamTimeoutError as error:
        return Failure(error)
    if value is END and wanted.name == READ_STREAM_OFFSET:
        return Failure(DBOSStreamTimeoutError(wanted.workflow_id, wanted.key))
    return Success(validation.STREAM_CLOSED if value is END else value)


async def next_entry(rt: Runtime, wanted: Reading, offset: int, run: Execution | None) -> Any:
    """Wait for the entry at an offset; `END` where the stream has ended."""
    hub, workflow_id, key = rt.engine.hub, wanted.workflow_id, wanted.key
    give_up_at_ms = None
    timeout_s = wanted.timeout_s if rt.io.waits else 0.0
    if timeout_s is not None:
        give_up_at_ms = rt.io.now_ms() + round(timeout_s * 1000)
    ended = Topic("done", workflow_id)
    others = [ended] if run is None else [ended, run.stopped]
    with (
        hub.watch(ended, workflow_id),
        hub.watch(stream_topic(workflow_id, key), workflow_id, key, also=others) as bell,
    ):
        while True:
            left_s = None if give_up_at_ms is None else (give_up_at_ms - rt.io.now_ms()) / 1000
            found = await rt.io.read(streams.entry, workflow_id, key, offset)
            if found.is_closed:
                return END
            if found.value is not None:
                where = Stored(workflow_id, None, "stream")
                return rt.engine.codec.load(found.value, found.serialization, where)
            if found.run_status is None:
                raise DBOSNonExistentWorkflowError("target", workflow_id)
            if found.run_status in TERMINAL:
                return END
            if left_s is not None and left_s <= 0:
                raise DBOSStreamTimeoutError(workflow_id, key, wanted.timeout_s)
            await rt.io.wait(bell, _shorter(left_s, wanted.recheck_s))
            if run is not None:
                await run.ensure_alive(rt)


def _shorter(left_s: float | None, recheck_s: float | None) -> float | None:
    if left_s is None or recheck_s is None:
        return left_s if recheck_s is None else recheck_s
    return min(left_s, recheck_s)
