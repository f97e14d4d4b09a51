"""Dispatch: claims runs from their queues and gives each a thread or a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dbos.engine.dispatch import begin
from dbos.engine.engine import Engine
from dbos.engine.execution import Execution, hand_back_claim
from dbos.lifecycle import PENDING
from dbos.runtime.committer import Committer
from dbos.runtime.drive import drive
from dbos.runtime.reader import Reader
from dbos.runtime.service import Service
from dbos.storage import recovery, steps, workflows
from dbos.storage.recovery import ClaimRequest
from dbos.storage.rows import ClaimedRun, RecordedStep
from dbos.telemetry import log

BATCH = 200
FALLBACK_S = 1.0


class Held(NamedTuple):
    """A claimed run that waits here for its former attempt to wind down."""

    run: ClaimedRun
    term: int
    former: Execution


class Dispatcher(Service):
    """Claims bounded batches from the queues that this process serves."""

    name = "dispatcher"

    def __init__(
        self,
        engine: Engine,
        committer: Committer,
        reader: Reader,
        request: Callable[[str, int], ClaimRequest],
    ) -> None:
        super().__init__()
        self._engine = engine
        self._committer = committer
        self._reader = reader
        self._request = request
        self.queues: tuple[str, ...] = (recovery.INTERNAL_QUEUE,)
        self._held: list[Held] = []

    def tick(self) -> float:
        self._start_held()
        is_full = [self._serve(queue) for queue in self.queues]
        return 0.0 if any(is_full) else FALLBACK_S

    def _serve(self, queue: str) -> bool:
        """Claim and start one batch of a queue; whether more may be waiting."""
        request = self._request(queue, BATCH)
        if not request.claimant.functions or request.batch < 1:
            return False
        term = self._engine.lease.term
        taken = self._committer.run(recovery.claim, request, queue)
        self._start_all([run for run in taken if not self._is_held(run, term)], term)
        return len(taken) == request.batch

    def _is_held(self, run: ClaimedRun, term: int) -> bool:
        """Whether a former attempt of the run, cancelled or superseded, still goes on here."""
        former = self._engine.running.get(run.workflow_id)
        if former is None or former.is_over:
            return False
        self._engine.dismiss(former, "lost")
        self._held.append(Held(run, term, former))
        return True

    def _start_held(self) -> None:
        """Start the runs whose former attempt is over, unless they were stopped meanwhile."""
        ready = [held for held in self._held if held.former.is_over]
        if not ready:
            return
        self._held = [held for held in self._held if not held.former.is_over]
        stored = self._reader.run(workflows.claims, [held.run.workflow_id for held in ready])
        for held in ready:
            if stored.get(held.run.workflow_id) == (held.run.claim, PENDING):
                self._start_all([held.run], held.term)

    def _start_all(self, claimed: list[ClaimedRun], term: int) -> None:
        if claimed:
            # A resumed run begins a fresh budget, so its attempts do not tell of its history.
            try:
                histories = self._histories(claimed)
            except BaseException:
                for run in claimed:
                    self._return(run)
                raise
            for run in claimed:
                self._start(run, histories.get(run.workflow_id, []), term)

    def _histories(self, runs: list[ClaimedRun]) -> dict[str, list[RecordedStep]]:
        """The recorded operations of runs, in one read."""
        histories: dict[str, list[RecordedStep]] = {}
        for step in self._reader.run(steps.load, [run.workflow_id for run in runs]):
            histories.setdefault(step.workflow_id, []).append(step)
        return histories

    def _start(self, run: ClaimedRun, history: list[RecordedStep], term: int) -> None:
        """Start one claimed run. What goes wrong concerns this run, which is then given back."""
        try:
            execution = drive(begin(self._engine.blocking, run, history, term))
            if execution is not None:
                self._engine.launcher.start(execution)
        except BaseException as error:
            log.background_run_failed(run.workflow_id, error)
            self._engine.running.pop(run.workflow_id, None)
            self._return(run)

    def _return(self, run: ClaimedRun) -> None:
        hand_back_claim(self._engine.blocking, run.workflow_id, run.claim, run.workflow_id)
