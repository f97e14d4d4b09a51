"""The judge of a simulation: it watches every write from outside, and knows what must hold."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dbos.errors import DBOSAwaitedWorkflowCancelledError, DBOSWorkflowCancelledError
from dbos.serialization.codec import Codec, Stored
from dbos.serialization.typed import JSONSerializer
from dbos.storage import claims, recovery
from dbos.storage.debouncing import Postponement
from dbos.storage.deduplication import Contender
from dbos.storage.protocol import Write
from dbos.storage.queue_limits import QueueLimits
from dbos.storage.returns import GivenBack
from dbos.storage.rows import (
    Admitted,
    ChildLaunch,
    ClaimedRun,
    FinishRow,
    Launched,
    NewRun,
    Recorded,
    StepRow,
)
from dbos.storage.schedules import Firing
from dbos.storage.workflows import HandBack
from tests.simulation.corpus import Expected, expected

_RUN = "SELECT status, owner_xid FROM workflow_status WHERE workflow_uuid = ?"
_STEP = "SELECT 1 FROM operation_outputs WHERE workflow_uuid = ? AND function_id = ?"
_ALL = (
    "SELECT workflow_uuid, name, status, inputs, output, error, serialization, recovery_attempts"
    " FROM workflow_status ORDER BY workflow_uuid"
)
_ENQUEUED = "SELECT workflow_uuid FROM workflow_status WHERE status = 'ENQUEUED'"
_MESSAGES = (
    "SELECT COALESCE(SUM(NOT consumed), 0), COUNT(DISTINCT consumed_function_id)"
    " FROM notifications WHERE destination_uuid = ?"
)
_ENTRIES = 'SELECT "offset", CAST(value AS INTEGER) FROM streams WHERE workflow_uuid = ? ORDER BY 1'
_EVENT = "SELECT CAST(value AS INTEGER) FROM workflow_events WHERE workflow_uuid = ?"
# In a run of several tasks the step before is not what a step waited for.
_WAKE = (
    "SELECT output FROM operation_outputs WHERE workflow_uuid = ? AND function_id = ?"
    " AND function_name = 'DBOS.sleep' AND NOT EXISTS (SELECT 1 FROM operation_outputs AS wait"
    " WHERE wait.workflow_uuid = operation_outputs.workflow_uuid AND wait.function_id ="
    " operation_outputs.function_id - 1 AND wait.function_name IN ('DBOS.recv', 'DBOS.getEvent'))"
    " AND workflow_uuid NOT IN"
    " (SELECT workflow_uuid FROM workflow_status WHERE name = 'sim.parallel')"
)
_CANCELLED = (DBOSAwaitedWorkflowCancelledError, DBOSWorkflowCancelledError)
_SLOTS = (
    "SELECT workflow_uuid, incarnation_id FROM workflow_status"
    " WHERE status = 'PENDING' AND queue_name = ?"
)
_ACTIVE = "SELECT COUNT(*) FROM workflow_status WHERE status IN ('PENDING', 'ENQUEUED', 'DELAYED')"


@dataclass(frozen=True, slots=True)
class Before:
    """What a write found: whether its step was recorded, and its run's status and claim."""

    is_recorded: bool
    status: str | None
    claim: str | None


class Oracle:
    """Watches a simulation. It reads the rows by itself and trusts no answer of the engine."""

    def __init__(self, connection: sqlite3.Connection, limited: QueueLimits) -> None:
        self.violations: list[str] = []
        self.happened: Callable[[int], None] = _ignored
        """Told of every moment at which a process may die."""
        self.stoppable: set[str] = set()
        """Runs that somebody cancels, or that have a timeout."""
        self.skew_ms: int = 0
        """How far the clock of any process was off."""
        self.now_ms: Callable[[], int] = _never
        self._last_inputs: dict[str, str] = {}
        """What a debounced run was last asked to work on."""
        self._connection = connection
        self._limited = limited
        self._starts: Counter[str] = Counter()
        """How often a run was begun: each counts as an attempt."""
        self._ticks: set[datetime] = set()
        self._claims_counted: dict[str, str] = {}
        self._holders: dict[str, int | None] = {}
        """Which process may write for a run: the one that was granted it last."""
        self._takeovers: Counter[str] = Counter()
        self._acknowledged: set[str] = set()
        self._codec = Codec(JSONSerializer())

    def applies(
        self, process: int, write: Write[Any, Any], args: Sequence[Any], apply: Callable[[], Any]
    ) -> Any:
        before = [self._look(arg) for arg in args]
        enqueued = self._enqueued() if write is recovery.take_over else set[str]()
        answers = apply()
        for arg, found, answer in zip(args, before, answers, strict=True):
            self._judge(process, arg, found, answer)
        if write is recovery.take_over:
            for workflow_id in self._enqueued() - enqueued:
                self._holders[workflow_id] = None
                self._takeovers[workflow_id] += 1
                self._claims_counted.pop(workflow_id, None)
        self.happened(process)
        return answers

    def acknowledges(self, process: int, arg: object, answer: object) -> None:
        match arg, answer:
            case NewRun(), Admitted():
                self._acknowledged.add(arg.workflow_uuid)
            case ChildLaunch(), Launched(recorded=Recorded(verdict="kept")):
                self._acknowledged.add(arg.child.workflow_uuid)
            case _:
                pass
        self.happened(process)

    def body_begins(self, process: int, workflow_id: str, step_id: int) -> None:
        if self._connection.execute(_STEP, (workflow_id, step_id)).fetchone():
            self._object(
                f"process {process} ran the body of step {step_id} of {workflow_id}, which was"
                " recorded"
            )
        wake = self._connection.execute(_WAKE, (workflow_id, step_id - 1)).fetchone()
        if wake is not None and float(wake[0]) * 1000 > self.now_ms() + 2 * self.skew_ms + 1:
            self._object(f"step {step_id} of {workflow_id} began before its sleep was over")
        self.happened(process)

    def told(
        self, workflow_id: str, name: str, count: int, value: object, error: BaseException | None
    ) -> None:
        """A caller was given an outcome."""
        if self._may_be_stopped(workflow_id) and isinstance(error, _CANCELLED):
            return
        self._compare(f"the caller of {name}({count})", expected(name, count), value, error)

    @property
    def takeovers(self) -> int:
        """How often a run was taken over."""
        return self._takeovers.total()

    def is_quiet(self) -> bool:
        """Whether every run has ended."""
        (active,) = self._connection.execute(_ACTIVE).fetchone()
        return not active

    def review(self) -> None:
        """Judge what is left when all is over."""
        rows = self._connection.execute(_ALL).fetchall()
        missing = self._acknowledged - {row[0] for row in rows}
        for workflow_id in sorted(missing):
            self._object(f"run {workflow_id} was acknowledged and is gone")
        for row in rows:
            self._review(*row)
        for (what,) in self._connection.execute("SELECT what FROM tripped"):
            self._object(what)

    def _review(self, *row: Any) -> None:
        workflow_id, name, status, inputs, output, error, format, attempts = row
        # Whom a cancelled parent was talking to waits in vain.
        is_excused = status == "CANCELLED" or name == "sim.collect"
        if is_excused and self._may_be_stopped(workflow_id):
            return
        if status not in ("SUCCESS", "ERROR"):
            self._object(f"run {workflow_id} ({name}) is still {status}")
            return
        args, _ = self._codec.load_arguments(inputs, format, Stored(workflow_id, None, "inputs"))
        value = raised = None
        if status == "SUCCESS":
            value = self._codec.load(output, format, Stored(workflow_id, None, "output"))
        else:
            raised = self._codec.load_error(error, format, Stored(workflow_id, None, "error"))
        if name == "sim.tick":
            self._review_tick(workflow_id, args[0], value)
            return
        count: int = args[0]
        self._compare(f"run {workflow_id} ({name}({count}))", expected(name, count), value, raised)
        if name == "sim.collect":
            self._review_talk(workflow_id, count)
        if attempts != self._starts[workflow_id]:
            self._object(
                f"run {workflow_id} counts {attempts} attempts after"
                f" {self._starts[workflow_id]} starts"
            )

    def _may_be_stopped(self, workflow_id: str) -> bool:
        """Whether it may have been cancelled: children share the deadline of their parent."""
        return any(f"{workflow_id}-".startswith(f"{stopped}-") for stopped in self.stoppable)

    def _review_tick(self, workflow_id: str, scheduled_at: datetime, value: object) -> None:
        """One run a tick, and it was told which."""
        if scheduled_at in self._ticks:
            self._object(f"the tick of {scheduled_at} has a second run, {workflow_id}")
        self._ticks.add(scheduled_at)
        if value != scheduled_at.isoformat():
            self._object(f"run {workflow_id} got {value}, not the tick of {scheduled_at}")

    def _review_talk(self, workflow_id: str, count: int) -> None:
        """Each message consumed once, the event at its last value, no gap and no duplicate."""
        read = self._connection.execute
        left, eaten = read(_MESSAGES, (workflow_id,)).fetchone()
        if (left, eaten) != (0, count):
            self._object(f"{eaten} of {count} messages to {workflow_id} consumed, {left} left")
        entries = read(_ENTRIES, (workflow_id,)).fetchall()
        if entries != [(place, place + 1) for place in range(count)]:
            self._object(f"the stream of {workflow_id} is {entries}")
        event = read(_EVENT, (workflow_id,)).fetchone()
        if event != (count,):
            self._object(f"the event of {workflow_id} is {event}, not {count}")

    def _compare(
        self, who: str, wanted: Expected, value: object, error: BaseException | None
    ) -> None:
        got = Expected(None, str(error)) if error is not None else value
        if got != (wanted if wanted.error is not None else wanted.value):
            kind = "" if error is None else f"{type(error).__name__}: "
            self._object(f"{who} got {kind}{got}, not {wanted}")

    def _look(self, arg: object) -> Before:
        match arg:
            case StepRow():
                return self._find(arg.workflow_uuid, arg.function_id)
            case ChildLaunch():
                return self._find(arg.record.workflow_uuid, arg.record.function_id)
            case FinishRow() | NewRun() | HandBack() | GivenBack():
                return self._find(arg.workflow_uuid, 0)
            case _:
                return Before(False, None, None)

    def _find(self, workflow_id: str, step_id: int) -> Before:
        run = self._connection.execute(_RUN, (workflow_id,)).fetchone() or (None, None)
        step = self._connection.execute(_STEP, (workflow_id, step_id)).fetchone()
        return Before(step is not None, *run)

    def _judge(self, process: int, arg: Any, before: Before, answer: Any) -> None:
        match arg:
            case StepRow():
                self._judge_record(process, arg, before, answer, may_be_late=True)
            case ChildLaunch():
                self._judge_record(process, arg.record, before, answer.recorded)
                child = arg.child.workflow_uuid
                if child not in self._holders and self._find(child, 0).status is not None:
                    self._admit(process, arg.child)
            case FinishRow():
                if answer and self._find(arg.workflow_uuid, 0).status != before.status:
                    self._judge_right(process, arg.workflow_uuid, arg.claim, before, "an outcome")
            case NewRun() if before.status is None:
                self._admit(process, arg)
            case HandBack() if self._find(arg.workflow_uuid, 0).claim != before.claim:
                self._holders[arg.workflow_uuid] = None
            case GivenBack() if self._find(arg.workflow_uuid, 0).status != before.status:
                self._holders[arg.workflow_uuid] = None
                self._starts[arg.workflow_uuid] -= 1
                self._claims_counted.pop(arg.workflow_uuid, None)
            case claims.ClaimRequest():
                self._grant(process, answer.runs)
            case _:
                self._judge_request(process, arg, answer)

    def _judge_request(self, process: int, arg: Any, answer: Any) -> None:
        """A schedule fires, or a debounced call makes or postpones its run."""
        match arg:
            case Firing():
                for run in arg.runs:
                    if self._find(run.workflow_uuid, 0).status is not None:
                        self._admit(process, run)
            case Contender() if self._find(arg.run.workflow_uuid, 0).status is not None:
                self._admit(process, arg.run)
                self._last_inputs.setdefault(arg.run.workflow_uuid, arg.run.inputs)
            case Postponement() if answer.workflow_id is not None:
                self._last_inputs[answer.workflow_id] = arg.inputs
            case _:
                pass

    def _judge_record(
        self,
        process: int,
        row: StepRow,
        before: Before,
        answer: Recorded,
        *,
        may_be_late: bool = False,
    ) -> None:
        after = self._find(row.workflow_uuid, row.function_id)
        # Of two attempts in one batch only one may be told that its record was kept.
        if answer.verdict == "kept" and after.is_recorded and not before.is_recorded:
            what = f"step {row.function_id}"
            if before.status == "CANCELLED" and before.claim == row.claim and may_be_late:
                # What was under way when its run was cancelled has happened, and is recorded.
                return
            self._judge_right(process, row.workflow_uuid, row.claim, before, what)

    def _judge_right(
        self, process: int, workflow_id: str, claim: str, before: Before, what: str
    ) -> None:
        holder = self._holders.get(workflow_id)
        if holder != process:
            self._object(
                f"process {process} wrote {what} of {workflow_id}, which process {holder} holds"
            )
        elif before.claim != claim or before.status != "PENDING":
            self._object(
                f"process {process} wrote {what} of {workflow_id} under a claim that is gone"
            )

    def _grant(self, process: int, claimed: Sequence[ClaimedRun]) -> None:
        for run in claimed:
            if run.inputs != self._last_inputs.get(run.workflow_id, run.inputs):
                self._object(f"run {run.workflow_id} starts without the last arguments")
            self._holders[run.workflow_id] = process
            # A claim that is found again after a lost answer has begun once.
            if self._claims_counted.get(run.workflow_id) != run.claim:
                self._claims_counted[run.workflow_id] = run.claim
                self._starts[run.workflow_id] += 1
        if any(run.queue_name == self._limited.name for run in claimed):
            self._count_slots()

    def _admit(self, process: int, run: NewRun) -> None:
        # Two calls for one id may come in one batch.
        if run.workflow_uuid in self._holders:
            return
        begins = run.status == "PENDING"
        self._holders[run.workflow_uuid] = process if begins else None
        self._starts[run.workflow_uuid] += begins

    def _count_slots(self) -> None:
        """No more runs of the limited queue hold a slot than its limits allow."""
        running = self._connection.execute(_SLOTS, (self._limited.name,)).fetchall()
        here = max(Counter(owner for _, owner in running).values(), default=0)
        if len(running) > (self._limited.global_concurrency or 0):
            self._object(f"{len(running)} runs of {self._limited.name} hold a slot")
        if here > (self._limited.worker_concurrency or 0):
            self._object(f"{here} runs of {self._limited.name} hold a slot of one process")

    def _enqueued(self) -> set[str]:
        return {row[0] for row in self._connection.execute(_ENQUEUED)}

    def _object(self, what: str) -> None:
        if what not in self.violations:
            self.violations.append(what)


def _never() -> int:
    return 0


def _ignored(_: int) -> None:
    return None
