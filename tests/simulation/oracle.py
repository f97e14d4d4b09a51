"""The judge of a simulation: it watches every write from outside, and knows what must hold."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dbos.serialization.codec import Codec, Stored
from dbos.serialization.typed import JSONSerializer
from dbos.storage import claims, recovery
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
from dbos.storage.workflows import HandBack
from tests.simulation.corpus import Expected, expected

_RUN = "SELECT status, owner_xid FROM workflow_status WHERE workflow_uuid = ?"
_STEP = "SELECT 1 FROM operation_outputs WHERE workflow_uuid = ? AND function_id = ?"
_ALL = (
    "SELECT workflow_uuid, name, status, inputs, output, error, serialization, recovery_attempts"
    " FROM workflow_status ORDER BY workflow_uuid"
)
_ENQUEUED = "SELECT workflow_uuid FROM workflow_status WHERE status = 'ENQUEUED'"
_SLOTS = (
    "SELECT workflow_uuid, incarnation_id FROM workflow_status"
    " WHERE status = 'PENDING' AND queue_name = ?"
)
_ACTIVE = "SELECT COUNT(*) FROM workflow_status WHERE status IN ('PENDING', 'ENQUEUED')"


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
        self._connection = connection
        self._limited = limited
        self._starts: Counter[str] = Counter()
        """How often a run was begun: each counts as an attempt."""
        self._claims_seen: set[tuple[str, str]] = set()
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
        self.happened(process)

    def told(self, name: str, count: int, value: object, error: BaseException | None) -> None:
        """A caller was given an outcome."""
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
        if status not in ("SUCCESS", "ERROR"):
            self._object(f"run {workflow_id} ({name}) is still {status}")
            return
        [count], _ = self._codec.load_arguments(inputs, format, Stored(workflow_id, None, "inputs"))
        value = raised = None
        if status == "SUCCESS":
            value = self._codec.load(output, format, Stored(workflow_id, None, "output"))
        else:
            raised = self._codec.load_error(error, format, Stored(workflow_id, None, "error"))
        self._compare(f"run {workflow_id} ({name}({count}))", expected(name, count), value, raised)
        if attempts != self._starts[workflow_id]:
            self._object(
                f"run {workflow_id} counts {attempts} attempts after"
                f" {self._starts[workflow_id]} starts"
            )

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
                self._judge_record(process, arg, before, answer)
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
            case claims.ClaimRequest():
                self._grant(process, answer.runs)
            case _:
                pass

    def _judge_record(self, process: int, row: StepRow, before: Before, answer: Recorded) -> None:
        after = self._find(row.workflow_uuid, row.function_id)
        # Of two attempts in one batch only one may be told that its record was kept.
        if answer.verdict == "kept" and after.is_recorded and not before.is_recorded:
            what = f"step {row.function_id}"
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
            self._holders[run.workflow_id] = process
            # A claim that is found again after a lost answer has begun once.
            if (run.workflow_id, run.claim) not in self._claims_seen:
                self._claims_seen.add((run.workflow_id, run.claim))
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


def _ignored(_: int) -> None:
    return None
