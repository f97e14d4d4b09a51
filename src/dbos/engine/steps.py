"""The checkpoint path: a step's record is returned, or its body runs and is recorded first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from dbos.engine.context import (
    NO_OPTIONS,
    Authentication,
    Scope,
    Session,
    StepScope,
    current_scope,
    entered,
    on_behalf_of,
)
from dbos.engine.io import Call, Closed, Preempted, TimeLimit
from dbos.engine.outcome import Failure, Outcome, Success
from dbos.errors import (
    DBOSMaxStepRetriesExceeded,
    DBOSSerializationError,
    DBOSStepNondeterminismError,
    DBOSStepTimeoutError,
    DBOSUnexpectedStepError,
)
from dbos.lifecycle import PENDING
from dbos.serialization.codec import Stored
from dbos.storage import steps
from dbos.storage.protocol import Write
from dbos.storage.rows import Recorded, RecordedStep, StepRow
from dbos.telemetry import log

if TYPE_CHECKING:
    from dbos.engine.engine import Runtime
    from dbos.engine.execution import Execution

A = TypeVar("A")
R = TypeVar("R")

LONGEST_RETRY_WAIT_S = 3600.0

DEADLINE_FORMAT = "portable_json"
"""Deadlines are plain numbers that every language reads."""


@dataclass(frozen=True, slots=True)
class StepPolicy:
    """How a step wants to be attempted."""

    retries_allowed: bool = False
    interval_s: float = 1.0
    max_attempts: int = 3
    backoff_rate: float = 2.0
    should_retry: Callable[[BaseException], bool | Awaitable[bool]] | None = None
    preemptible: bool = False
    timeout_s: float | None = None

    @property
    def is_plain(self) -> bool:
        """One attempt without limits: nothing to watch while it runs."""
        return not (self.retries_allowed or self.preemptible or self.timeout_s is not None)


PLAIN = StepPolicy()


class StepCall(msgspec.Struct, frozen=True):
    """A step call as it was made: the run and the step id were taken at that moment."""

    name: str
    call: Call
    policy: StepPolicy
    run: Execution | None
    step_id: int
    authentication: Authentication


def place_call(
    name: str, call: Call, policy: StepPolicy, caller: Authentication | None = None
) -> StepCall:
    """Take the step id of a call, at the place and moment where it is made."""
    scope = current_scope()
    run = scope.workflow
    caller = scope.session.authentication if caller is None else caller
    return StepCall(name, call, policy, run, 0 if run is None else run.take_step_ids(1), caller)


async def run_step(rt: Runtime, step: StepCall) -> Any:
    """A step's recorded outcome, or run and record it. Outside workflow code: a plain call."""
    __tracebackhide__ = True
    run = step.run
    if run is None:
        scope = current_scope()
        if step.authentication is scope.authentication:
            return await rt.io.call(step.call)
        with entered(on_behalf_of(scope, step.authentication)):
            return await rt.io.call(step.call)
    if not run.is_free_to_go:
        await run.ensure_alive(rt)
    recorded = recorded_step(run, step.step_id, step.name)
    run.in_flight += 1
    try:
        if recorded is not None:
            log.replaying_step(step.name)
            return await replayed(rt, run, recorded)
        log.running_step(step.name)
        started_at = rt.io.now_ms()
        outcome = await _attempt(rt, run, step)
        if run.stop == "lost":
            raise run.stop_signal()
        return (
            await record(rt, run, Operation(step.step_id, step.name, started_at), outcome)
        ).resolve()
    finally:
        run.in_flight -= 1


class Operation(msgspec.Struct, frozen=True):
    """An operation of a run that was performed and is to be recorded."""

    step_id: int
    name: str
    started_at_ms: int
    child_workflow_id: str | None = None

    def of_child(self, workflow_id: str) -> Operation:
        """The same operation, with the run that it concerns."""
        return Operation(self.step_id, self.name, self.started_at_ms, workflow_id)


async def once(
    rt: Runtime,
    run: Execution,
    step_id: int,
    name: str,
    perform: Callable[[Operation], Awaitable[R]],
) -> R:
    """The recorded outcome of an operation; or have it performed, which also records it."""
    __tracebackhide__ = True
    run.in_flight += 1
    try:
        if not run.is_free_to_go:
            await run.ensure_alive(rt)
        known = recorded_step(run, step_id, name)
        if known is not None:
            log.replaying_step(name)
            value: R = await replayed(rt, run, known)
            return value
        log.running_step(name)
        return await perform(Operation(step_id, name, rt.io.now_ms()))
    finally:
        run.in_flight -= 1


def recorded_step(run: Execution, step_id: int, name: str) -> RecordedStep | None:
    """The record at this step id, which must have this name: the workflow is deterministic."""
    recorded = run.replay.steps.get(step_id)
    if recorded is not None and recorded.name != name:
        raise DBOSUnexpectedStepError(run.workflow_id, step_id, name, recorded.name)
    return recorded


async def replayed(rt: Runtime, run: Execution, recorded: RecordedStep) -> Any:
    """Deliver a recorded outcome, in its turn."""
    __tracebackhide__ = True
    place = run.replay.place(recorded.step_id)
    if place is not None:
        if rt.io.cooperative:
            await run.replay.turn(rt.io, place, recorded.completed_at_ms or 0)
        else:
            run.replay.abandon(place)
    where = Stored(run.workflow_id, recorded.step_id, "error" if recorded.error else "output")
    if recorded.error is not None:
        raise rt.engine.codec.load_error(recorded.error, recorded.serialization, where)
    if recorded.output is None:
        return None
    return rt.engine.codec.load(recorded.output, recorded.serialization, where)


async def record(
    rt: Runtime,
    run: Execution,
    operation: Operation,
    outcome: Outcome,
    write: Write[StepRow, Recorded] = steps.record,
) -> Outcome:
    """Commit an operation's outcome under the run's claim; then deliver it, in its turn.

    An output that cannot be stored becomes the operation's error. What was not done by the run
    itself but waited for or looked up is recorded by `steps.record_wait`, which a cancel refuses:
    its outcome may be an effect of that very cancel.
    """
    codec = rt.engine.codec
    output = error = None
    if isinstance(outcome, Success):
        try:
            output = codec.dump(outcome.value, "result", codec.native)
        except DBOSSerializationError as refused:
            outcome = Failure(refused)
    if isinstance(outcome, Failure):
        error = codec.dump_error(outcome.error, codec.native)
    row = step_row(rt, run, operation, output=output, error=error)
    await commit_in_order(rt, run, write, row, itself)
    return outcome


def step_row(
    rt: Runtime, run: Execution, operation: Operation, *, output: str | None, error: str | None
) -> StepRow:
    """The row of an operation that ends now."""
    return StepRow(
        run.workflow_id,
        operation.step_id,
        operation.name,
        output,
        error,
        rt.engine.codec.native,
        operation.started_at_ms,
        run.replay.made_at(rt.io.now_ms()),
        run.replay.take_order(),
        run.claim,
        operation.child_workflow_id,
        rt.engine.settings.name,
    )


def sleep_row(
    rt: Runtime, run: Execution, step_id: int, started_at_ms: int, wake_at_ms: int
) -> StepRow:
    """The row of a durable deadline: its output and completion time are the wake time."""
    codec = rt.engine.codec
    return StepRow(
        run.workflow_id,
        step_id,
        "DBOS.sleep",
        codec.dump(wake_at_ms / 1000, "result", DEADLINE_FORMAT),
        None,
        DEADLINE_FORMAT,
        started_at_ms,
        wake_at_ms,
        run.replay.take_order(),
        run.claim,
        None,
        rt.engine.settings.name,
    )


async def commit_in_order(
    rt: Runtime,
    run: Execution,
    write: Write[A, R],
    arg: A,
    verdict_of: Callable[[R], Recorded | None],
) -> R:
    """Commit a write that records an operation, and wait for its turn to be delivered.

    A verdict of None tells that the operation failed and was not recorded. A replay meets that
    failure anew, among records that are asked for only after it: it has no turn.
    """
    if not rt.io.cooperative:
        return await commit_owned(rt, run, write, arg, verdict_of)
    replay = run.replay
    place, made_at_ms, delivered = replay.append_place(), replay.latest_ms, replay.delivered
    try:
        answer = await rt.io.commit(write, arg, run.workflow_id)
        if answer is not steps.KEPT:
            verdict = verdict_of(answer)
            if verdict is None:
                replay.abandon(place)
                return answer
            confirm(run, verdict)
    except Closed:
        raise run.stop_with("lost") from None
    except BaseException:
        replay.abandon(place)
        raise
    if run.in_flight > 1 or not replay.passes(place, delivered):
        await replay.turn(rt.io, place, made_at_ms)
    return answer


async def commit_owned(
    rt: Runtime,
    run: Execution,
    write: Write[A, R],
    arg: A,
    verdict_of: Callable[[R], Recorded | None],
) -> R:
    """Commit a write that a run's claim guards; raises what stops the run if the claim is gone."""
    try:
        answer = await rt.io.commit(write, arg, run.workflow_id)
    except Closed:
        raise run.stop_with("lost") from None
    verdict = verdict_of(answer)
    if verdict is not None:
        confirm(run, verdict)
    return answer


def confirm(run: Execution, recorded: Recorded) -> None:
    """Go on only if the record was kept; remember a cancel that came with the answer.

    A status that is not PENDING any more tells of a cancel even if a resume followed it.
    """
    if recorded.verdict == "lost":
        raise run.stop_with("lost")
    if recorded.verdict == "cancelled":
        raise run.stop_with("cancelled")
    if recorded.verdict == "conflict":
        raise DBOSStepNondeterminismError(run.workflow_id, 0)
    if recorded.status != PENDING:
        run.compare(run.claim, recorded.status)


def itself(recorded: Recorded) -> Recorded:
    """The verdict of a write that answers with nothing else."""
    return recorded


async def _attempt(rt: Runtime, run: Execution, step: StepCall) -> Outcome:
    """Run the body under its policy. Only an `Exception` is an outcome; all else passes through."""
    if step.policy.is_plain:
        try:
            with entered(_step_scope(run, step, StepScope(step.step_id))):
                return Success(await rt.io.call(step.call))
        except Exception as error:
            return Failure(error)
    return await _attempts(rt, run, step)


async def _attempts(rt: Runtime, run: Execution, step: StepCall) -> Outcome:
    policy = step.policy
    total = policy.max_attempts if policy.retries_allowed else 1
    errors: list[Exception] = []
    for number in range(total):
        try:
            return Success(await _one_attempt(rt, run, step, number))
        except Exception as error:
            if not policy.retries_allowed or not await _wants_retry(policy, error):
                return Failure(error)
            errors.append(error)
        if number + 1 < total:
            log.step_attempt_failed(step.name, number + 1, total, errors[-1])
            await rt.io.sleep(_retry_wait_s(policy, number))
            await run.ensure_alive(rt)
    return Failure(DBOSMaxStepRetriesExceeded(step.name, total, errors))


async def _one_attempt(rt: Runtime, run: Execution, step: StepCall, number: int) -> Any:
    policy = step.policy
    scope = StepScope(step.step_id)
    if policy.retries_allowed:
        scope = StepScope(step.step_id, "step", number, policy.max_attempts)
    with entered(_step_scope(run, step, scope)):
        if policy.timeout_s is None and not policy.preemptible:
            return await rt.io.call(step.call)
        try:
            if policy.preemptible:
                return await _preemptible(rt, run, step)
            return await rt.io.call_within(step.call, policy.timeout_s, None)
        except TimeLimit as limit:
            raise DBOSStepTimeoutError(step.name, policy.timeout_s or 0.0) from limit.__cause__


async def _preemptible(rt: Runtime, run: Execution, step: StepCall) -> Any:
    """Run a step that a cancel of its run stops: then nothing of it is recorded."""
    bell = rt.io.signal()
    run.preempting.add(bell)
    try:
        return await rt.io.call_within(step.call, step.policy.timeout_s, bell)
    except Preempted:
        raise run.stop_signal() from None
    finally:
        run.preempting.discard(bell)


async def _wants_retry(policy: StepPolicy, error: Exception) -> bool:
    if policy.should_retry is None:
        return True
    answer = policy.should_retry(error)
    return answer if isinstance(answer, bool) else bool(await answer)


def _retry_wait_s(policy: StepPolicy, number: int) -> float:
    try:
        wait_s = policy.interval_s * policy.backoff_rate**number
    except OverflowError:
        return LONGEST_RETRY_WAIT_S
    return min(wait_s, LONGEST_RETRY_WAIT_S)


def _step_scope(run: Execution, step: StepCall, scope: StepScope) -> Scope:
    return Scope(run=run, step=scope, options=NO_OPTIONS, session=Session(step.authentication))
