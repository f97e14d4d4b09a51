"""One attempt of one run: its step ids, its history, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from dbos.engine.context import NO_OPTIONS, Authentication, Scope, Session, entered
from dbos.engine.io import Call, Closed, Signal
from dbos.engine.outcome import Failure, Outcome, Success
from dbos.engine.replay import Replay
from dbos.engine.results import await_outcome
from dbos.engine.roles import Roles, authorize
from dbos.errors import (
    DBOSSerializationError,
    DBOSWorkflowCancelledError,
    DBOSWorkflowConflictIDError,
)
from dbos.lifecycle import ERROR, PENDING, SUCCESS
from dbos.serialization.codec import Stored
from dbos.storage import workflows
from dbos.storage.protocol import Topic
from dbos.storage.rows import FinishRow
from dbos.storage.workflows import HandBack
from dbos.telemetry import log

if TYPE_CHECKING:
    from dbos.engine.engine import Engine, Runtime

DEADLINE_SET = Topic("deadline", "set")
"""Rung in this process when a run with a deadline begins, or is enqueued."""

LEFT = Topic("attempt", "left")
"""Rung in this process when an attempt is over: another one of the same run may wait for it."""

OWN_STATUSES = frozenset({PENDING, SUCCESS, ERROR})
"""While an attempt runs, and just after it has ended."""

STOPPED = (DBOSWorkflowCancelledError, DBOSWorkflowConflictIDError)


@dataclass(slots=True, eq=False)
class Execution:
    """One attempt of a run that this process has claimed. Lives in memory only."""

    engine: Engine
    workflow_id: str
    name: str
    claim: str
    call: Call
    format: str
    """The format of the run's inputs, and so of its output and error."""
    authentication: Authentication
    term: int
    """The lease's term before the run was claimed."""
    deadline_ms: int | None = None
    replay: Replay = field(default_factory=Replay)
    required_roles: Roles = ()
    is_background: bool = False
    slot_queue: str | None = None
    """The queue on which its end may let another run start."""
    next_step_id: int = 1
    in_flight: int = 0
    """Operations under way: more than one only in tasks of an async run."""
    is_over: bool = False
    stop: Literal["cancelled", "lost"] | None = None
    completion: Outcome | None = None
    """The outcome, once it is recorded as this attempt's own."""

    receiving: set[str] = field(default_factory=set[str])
    """Topics that a `recv` waits on."""
    is_reading_stream: bool = False
    patching: str | None = None
    """The patch whose marker is being recorded or replayed."""
    preempting: set[Signal] = field(default_factory=set["Signal"])
    """Bells of preemptible steps that are running: rung once the run is to stop."""

    def tell(self) -> None:
        """Ring for the operations of a stopped run, and for those who await it."""
        self.engine.hub.publish((self.stopped, Topic("done", self.workflow_id)))
        for bell in list(self.preempting):
            bell.ring()

    @property
    def stopped(self) -> Topic:
        """Rung in this process when the run is to stop."""
        return Topic("stopped", self.workflow_id)

    def take_step_ids(self, count: int) -> int:
        """Reserve consecutive step ids; the first of them."""
        first = self.next_step_id
        self.next_step_id = first + count
        return first

    @property
    def is_free_to_go(self) -> bool:
        """Whether an operation may begin at once: the run is ours, and so is the lease."""
        lease = self.engine.lease
        return self.stop is None and lease.is_trusted() and lease.term == self.term

    async def ensure_alive(self, rt: Runtime) -> None:
        """Let an operation begin only while the run is ours and not cancelled."""
        if self.stop is not None:
            raise self.stop_signal()
        if not self.is_free_to_go:
            await self._regain(rt)
            if self.stop is not None:
                raise self.stop_signal()

    async def _regain(self, rt: Runtime) -> None:
        """Wait for the lease, and see whether a peer has taken the run over meanwhile."""
        try:
            while self.stop is None and not self.is_free_to_go:
                await rt.engine.lease.regain(rt.io)
                if not rt.engine.lease.is_trusted():
                    continue
                self.term = rt.engine.lease.term
                claims = await rt.io.read(workflows.claims, [self.workflow_id])
                self.compare(*claims.get(self.workflow_id, (None, "")))
        except Closed:
            raise self.stop_with("lost") from None

    def compare(self, claim: str | None, status: str | None) -> None:
        """Stop if the run's row has another claim, or has left the states in which it is ours.

        A cancelled run that was resumed is queued again: this attempt of it has no part in that.
        """
        if self.stop is not None:
            return
        if claim != self.claim:
            self.stop = "lost"
        elif status not in OWN_STATUSES:
            self.stop = "cancelled"

    def stop_with(self, reason: Literal["cancelled", "lost"]) -> BaseException:
        self.stop = reason
        return self.stop_signal()

    def stop_signal(self) -> BaseException:
        if self.stop == "cancelled":
            return DBOSWorkflowCancelledError(f"Workflow {self.workflow_id} was cancelled")
        return DBOSWorkflowConflictIDError(self.workflow_id)


async def execute(rt: Runtime, run: Execution, waiter: Execution | None = None) -> Any:
    """Run a claimed run's body and record its outcome, which the caller gets too.

    `waiter` is the run that calls it, if one does.
    """
    __tracebackhide__ = True
    engine = rt.engine
    try:
        if await _is_superseded(rt, run):
            outcome = None
        else:
            engine.enter(run)
            if run.deadline_ms is not None:
                engine.hub.publish((DEADLINE_SET,))
            outcome = await _body_outcome(rt, run)
        if outcome is not None and await _finish(rt, run, outcome):
            assert run.completion is not None
            return None if run.is_background else run.completion.resolve()
    finally:
        run.is_over = True
        if engine.running.get(run.workflow_id) is run:
            del engine.running[run.workflow_id]
        engine.hub.publish((Topic("done", run.workflow_id), LEFT))
    if run.is_background:
        return None
    return await await_outcome(rt, run.workflow_id, waiter=waiter, known=True)


async def _is_superseded(rt: Runtime, run: Execution) -> bool:
    """Whether another attempt here has the run by a later claim.

    The answer to an admission may come so late that this process has lost the run meanwhile, taken
    it over again and begun it. The attempt that goes on must not be stopped for one that is over.
    """
    other = rt.engine.running.get(run.workflow_id)
    if other is None or other is run or other.is_over:
        return False
    try:
        claims = await rt.io.read(workflows.claims, [run.workflow_id])
    except Closed:
        run.stop = "lost"
        return True
    run.compare(*claims.get(run.workflow_id, (None, "")))
    return run.stop is not None


def forgo(rt: Runtime, run: Execution) -> None:
    """Give back a run that is ours and never began here."""
    run.is_over = True
    if rt.engine.running.get(run.workflow_id) is run:
        del rt.engine.running[run.workflow_id]
    hand_back(rt, run)
    rt.engine.hub.publish((Topic("done", run.workflow_id),))


async def _body_outcome(rt: Runtime, run: Execution) -> Outcome | None:
    """What the body came to; None if it stopped because the run is no longer ours to finish."""
    scope = Scope(run=run, options=NO_OPTIONS, session=Session(run.authentication))
    try:
        authorize(run.authentication, run.required_roles, run.name)
        with entered(scope):
            return Success(await rt.io.call(run.call))
    except Closed:
        run.stop = "lost"
        return None
    except Exception as error:
        return Failure(error)
    except BaseException as error:
        if run.stop is None or not _is_stop_signal(error):
            return _interrupted(rt, run, error)
        log.execution_stopped(run.workflow_id, run.stop)
        return None


def _is_stop_signal(error: BaseException) -> bool:
    """Whether this stops a run: the signal itself, or the group a task group wrapped it in."""
    if isinstance(error, BaseExceptionGroup):
        members = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return any(_is_stop_signal(member) for member in members)
    return isinstance(error, STOPPED)


def _interrupted(rt: Runtime, run: Execution, error: BaseException) -> Outcome:
    """A BaseException is the outcome of a background run; a direct caller's run is handed back."""
    if run.is_background and not rt.io.is_abandonment(error):
        return Failure(error)
    hand_back(rt, run)
    raise error


def hand_back(rt: Runtime, run: Execution) -> None:
    """Leave the run PENDING: others may take it when this process ends, or a lease from now."""
    run.stop = "lost"
    hand_back_claim(rt, run.workflow_id, run.claim, run.workflow_id)


def hand_back_claim(rt: Runtime, workflow_id: str, claim: str, lane_key: str) -> None:
    """Give up a claim; of no effect if it does not hold. The lane is that of the claiming write."""
    grace_ms = round(rt.engine.settings.lease_s * 1000)
    row = HandBack(workflow_id, claim, rt.engine.new_token(), grace_ms)
    rt.io.post(workflows.hand_back, row, lane_key)


async def _finish(rt: Runtime, run: Execution, outcome: Outcome) -> bool:
    """Record the outcome; False if the run was no longer ours."""
    output, error, outcome = encode_outcome(rt, run, outcome)
    status = "SUCCESS" if isinstance(outcome, Success) else "ERROR"
    row = FinishRow(run.workflow_id, status, output, error, run.claim, run.slot_queue)
    try:
        commit = rt.io.commit_last if run.is_background else rt.io.commit
        accepted = await commit(workflows.finish, row, run.workflow_id)
    except Closed:
        accepted = False
    if accepted:
        run.completion = _as_awaited(rt, run, outcome, error)
        return True
    log.outcome_dropped(run.workflow_id)
    return False


def _as_awaited(rt: Runtime, run: Execution, outcome: Outcome, stored: str | None) -> Outcome:
    """What those get who await the run: the very outcome, but never a foreign BaseException."""
    if isinstance(outcome, Success) or isinstance(outcome.error, Exception):
        return outcome
    where = Stored(run.workflow_id, None, "error")
    return Failure(rt.engine.codec.load_error(stored, run.format, where))


def encode_outcome(
    rt: Runtime, run: Execution, outcome: Outcome
) -> tuple[str | None, str | None, Outcome]:
    """The outcome as text in the run's format. A result that cannot be stored becomes the error."""
    codec = rt.engine.codec
    if isinstance(outcome, Success):
        try:
            return codec.dump(outcome.value, "result", run.format), None, outcome
        except DBOSSerializationError as error:
            outcome = Failure(error)
    return None, codec.dump_error(outcome.error, run.format), outcome
