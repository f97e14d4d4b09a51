"""Dispatch: claims runs from all queues in turn and gives each a thread or a loop.

One tick is one round: a look at everything that is served, one bounded claim on each queue where
runs wait, and the pause until something can have changed. Every enqueue and every freed slot
rings; the pause is for what rings no bell.
"""

from __future__ import annotations

from typing import NamedTuple

from dbos.engine.dispatch import begin
from dbos.engine.engine import Engine
from dbos.engine.execution import LEFT, Execution
from dbos.engine.returns import Code, give_back
from dbos.lifecycle import PENDING
from dbos.runtime.committer import Committer
from dbos.runtime.drive import drive
from dbos.runtime.reader import Reader
from dbos.runtime.service import Service
from dbos.runtime.threads import WorkerThreads
from dbos.runtime.wakeups import WakeupHub
from dbos.services.claimants import claimant
from dbos.services.leases import CAPABILITIES
from dbos.services.strangers import Strangers
from dbos.storage import claims, returns, served, steps, workflows
from dbos.storage.claims import Claimant, Claimed, ClaimRequest
from dbos.storage.queue_limits import QueueLimits
from dbos.storage.recovery import INTERNAL_QUEUE
from dbos.storage.returns import StartedAtLast
from dbos.storage.rows import ClaimedRun, RecordedStep
from dbos.storage.served import Promotion, QueueState, Situation
from dbos.telemetry import log

BATCH = 200
FALLBACK_S = 1.0
IDLE_S = 5.0
"""How often the internal queue is looked at when nothing rings and nothing waits."""

CONTENDED_S = 0.005
REFILL_S = 0.05
"""How long claims wait at most for more room than there is."""
CROWD = 512
PACE_S = 0.02
"""With this many runs here already, more are claimed a little slower: most will have ended."""


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
        hub: WakeupHub,
        threads: WorkerThreads,
    ) -> None:
        super().__init__()
        hub.attach(workflows.ANY_QUEUE, self.bell)
        hub.attach(LEFT, self.bell)
        self._engine = engine
        self._committer = committer
        self._reader = reader
        self._hub = hub
        self._threads = threads
        self._held: list[Held] = []
        self._strangers = Strangers(engine, committer, reader)
        self._served: tuple[str, ...] = ()
        self._served_last: dict[str, str | None] = {}
        self._warned: set[str] = set()
        self._round = 0
        self._turns: dict[str, int] = {}
        """Of each served queue: the round in which it got something last."""
        self._waits_for_thread = False

    @property
    def queues(self) -> list[str]:
        """The queues that this process serves, as of the last look."""
        return sorted({INTERNAL_QUEUE, *self._declared(), *self._served})

    def thread_freed(self) -> None:
        """There is room for runs that wait for it. Never blocks."""
        if self._waits_for_thread:
            self._waits_for_thread = False
            self.bell.ring()

    def tick(self) -> float:
        self._start_held()
        self._waits_for_thread = True
        situation = self._look()
        if self._promote(situation):
            situation = self._look()
        limits = self._limits(situation)
        self._tell_served(tuple(sorted(limits)))
        waiting = [state for state in situation.queues if state.name in limits]
        waiting = [state for state in waiting if state.has_waiting]
        who = claimant(self._engine)
        answers = {
            state.name: self._serve(who, limits[state.name], state)
            for state in self._in_turn(waiting)
        }
        self._strangers.count([name for name, answer in answers.items() if not answer.is_more])
        self._waits_for_thread = bool(answers) and self._threads.is_full()
        return self._pause_s(situation, limits, answers)

    def _look(self) -> Situation:
        identity = self._engine.identity
        names = [INTERNAL_QUEUE, *self._declared()]
        situation = self._reader.run(served.look, self._engine.settings.name, names)
        identity.is_latest_version = situation.latest_version == identity.application_version
        return situation

    def _declared(self) -> dict[str, QueueLimits]:
        return {limits.name: limits for limits in self._engine.registry.declared_queues()}

    def _limits(self, situation: Situation) -> dict[str, QueueLimits]:
        """Every served queue with its limits; what is declared here counts before the database."""
        declared, registry = self._declared(), self._engine.registry
        found = {INTERNAL_QUEUE: QueueLimits(INTERNAL_QUEUE)}
        found |= {state.name: state.limits for state in situation.queues if state.limits}
        for name in found.keys() & declared.keys() - self._warned:
            self._warned.add(name)
            log.declared_and_registered(name)
        found |= declared
        return {name: limits for name, limits in found.items() if registry.listens_to(name)}

    def _tell_served(self, served: tuple[str, ...]) -> None:
        """Have peers told at once, not with the next renewal, what is served from now on."""
        if served != self._served:
            self._served = served
            self._hub.publish((CAPABILITIES,))

    def _promote(self, situation: Situation) -> bool:
        """Let runs compete whose delay is over; whether there were any."""
        due_ms = situation.next_due_ms
        if due_ms is None or due_ms > self._reader.now_ms():
            return False
        promotion = Promotion(self._engine.settings.name, BATCH)
        return bool(self._committer.run(served.promote, promotion, ""))

    def _in_turn(self, waiting: list[QueueState]) -> list[QueueState]:
        """The queues, those first that have got nothing for longest.

        So all get at the free threads, and where something begins to wait comes before a backlog.
        """
        self._round += 1
        distinct = list({state.name: state for state in waiting}.values())
        self._turns = {name: self._turns.get(name, 0) for name in self._served}
        return sorted(distinct, key=lambda state: self._turns[state.name])

    def _serve(self, who: Claimant, limits: QueueLimits, state: QueueState) -> Claimed:
        """Claim and start one batch of a queue."""
        request = ClaimRequest(
            who,
            limits,
            self._engine.new_token(),
            BATCH,
            threads=self._threads.free(),
            has_keys=state.has_keys,
            after=self._served_last.get(limits.name),
        )
        if not who.functions or not self._engine.lease.is_trusted():
            return Claimed([])
        term = self._engine.lease.term
        claimed = self._committer.run(claims.claim, request, limits.name)
        self._served_last[limits.name] = claimed.after
        if claimed.runs:
            self._turns[limits.name] = self._round
            self._start_all([run for run in claimed.runs if not self._is_held(run, term)], term)
        return claimed

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

    def _start_all(self, runs: list[ClaimedRun], term: int) -> None:
        # A resumed run begins a fresh budget, so its attempts do not tell of its history.
        try:
            histories = self._histories(runs)
        except BaseException:
            for run in runs:
                self._return(run, "internal", "its history could not be read")
            raise
        # All are prepared before the first one starts: running threads would slow that down.
        prepared = [
            (run, self._prepared(run, histories.get(run.workflow_id, []), term)) for run in runs
        ]
        self._launch([(run, attempt) for run, attempt in prepared if attempt is not None])

    def _histories(self, runs: list[ClaimedRun]) -> dict[str, list[RecordedStep]]:
        """The recorded operations of runs, in one read."""
        histories: dict[str, list[RecordedStep]] = {}
        for step in self._reader.run(steps.load, [run.workflow_id for run in runs]):
            histories.setdefault(step.workflow_id, []).append(step)
        return histories

    def _prepared(
        self, run: ClaimedRun, history: list[RecordedStep], term: int
    ) -> Execution | None:
        """An attempt of a claimed run. What goes wrong concerns this run, which is given back."""
        try:
            return drive(begin(self._engine.blocking, run, history, term))
        except BaseException as error:
            self._give_up(run, "internal", error)
            return None

    def _launch(self, prepared: list[tuple[ClaimedRun, Execution]]) -> None:
        """Start claimed runs of one queue; give back those for which there is no thread."""
        for run, _ in prepared:
            if run.returns:
                started = StartedAtLast(run.workflow_id, run.claim)
                self._engine.blocking.io.post(returns.started, started, run.workflow_id)
        group = prepared[0][0].queue_name or "" if prepared else ""
        claimed = {id(attempt): run for run, attempt in prepared}
        attempts = [attempt for _, attempt in prepared]
        for attempt, error in self._engine.launcher.start_all(attempts, group):
            self._engine.running.pop(attempt.workflow_id, None)
            self._give_up(claimed[id(attempt)], "no_thread", error)

    def _give_up(self, run: ClaimedRun, code: Code, error: BaseException) -> None:
        log.background_run_failed(run.workflow_id, error)
        self._return(run, code, f"{type(error).__qualname__} before its first step")

    def _return(self, run: ClaimedRun, code: Code, text: str) -> None:
        give_back(self._engine.blocking, run, code, text)

    def _pause_s(
        self, situation: Situation, limits: dict[str, QueueLimits], answers: dict[str, Claimed]
    ) -> float:
        """How long nothing can change, unless a bell rings or somebody writes by hand."""
        is_more = any(answer.is_more for answer in answers.values())
        if is_more and not self._threads.is_full():
            return PACE_S if len(self._engine.running) >= CROWD else 0.0
        if any(answer.is_contended for answer in answers.values()):
            return CONTENDED_S
        pauses = [IDLE_S if self._hears_others() else FALLBACK_S]
        pauses += [queue.polling_interval_s for queue in limits.values() if not _is_own(queue.name)]
        if answers:
            pauses.append(REFILL_S if is_more and self._can_take_more() else FALLBACK_S)
        moments = [answer.next_start_ms for answer in answers.values()]
        now_ms = self._reader.now_ms()
        pauses += [
            max(0.001, (moment - now_ms) / 1000)
            for moment in (*moments, situation.next_due_ms)
            if moment is not None
        ]
        return min(pauses)

    def _can_take_more(self) -> bool:
        """Whether another round could start anything: threads, unless an async run may wait."""
        return self._threads.room() > 0 or any(
            known.is_async for known in self._engine.registry.all()
        )

    def _hears_others(self) -> bool:
        return self._engine.settings.use_listen_notify


def _is_own(queue: str) -> bool:
    return queue.startswith("_dbos_")
