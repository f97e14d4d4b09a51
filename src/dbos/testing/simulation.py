"""Simulated executors: the engine's own code over one database, on virtual time, ordered by a seed.

A `Simulation` holds the shared world and the executors; each executor is a process that keeps its
lease, claims and takes over runs, and executes them with the engine's own code. What a process of
the real package does on threads of its own (`services`) is done here by tasks, with the same writes
in the same order. One service is missing on purpose: `orphans` heals what is to be found here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from dbos import cron
from dbos.config import Settings
from dbos.engine import ticks
from dbos.engine.dispatch import begin
from dbos.engine.engine import Engine, Identity
from dbos.engine.execution import Execution, execute, hand_back
from dbos.engine.io import Closed, Io
from dbos.engine.registry import Registry
from dbos.engine.returns import give_back
from dbos.lifecycle import PENDING
from dbos.serialization.codec import Codec
from dbos.serialization.typed import JSONSerializer
from dbos.services.claimants import claimant
from dbos.services.deadlines import ASK_EVERY_MS
from dbos.services.dispatcher import BATCH as CLAIM_BATCH
from dbos.services.dispatcher import FALLBACK_S
from dbos.services.failover import BATCH as TAKEOVER_BATCH
from dbos.services.failover import LOOK_AT_PEERS_S, LOOK_AT_PIDS_S
from dbos.services.leases import REGAINED, RENEWALS_PER_LEASE, TRUSTED_SHARE
from dbos.storage import (
    claims,
    deadlines,
    events,
    executors,
    receiving,
    recovery,
    schedules,
    served,
    steps,
    workflows,
)
from dbos.storage.claims import Claimant, ClaimRequest
from dbos.storage.deadlines import Expiry
from dbos.storage.protocol import Topic
from dbos.storage.queue_limits import QueueLimits
from dbos.storage.recovery import INTERNAL_QUEUE, TakeOver
from dbos.storage.rows import ClaimedRun, ExecutorRow, RecordedStep
from dbos.storage.schedules import Firing
from dbos.storage.served import Promotion
from dbos.storage.workflows import ANY_QUEUE
from dbos.telemetry import log
from dbos.testing.sim_io import SimIo, SimWorld, Weather

HELD_LOOK_S = 0.1
"""How often a run looks whether its former attempt here is over; a service is rung."""


class SimLease:
    """The lease of a simulated executor, by the rules of `services.leases`."""

    def __init__(self, executor: SimExecutor) -> None:
        self._executor = executor
        self._trusted_until_s = 0.0
        self.term: int = 0

    def is_trusted(self) -> bool:
        return self._executor.world.clock.now_s < self._trusted_until_s

    async def regain(self, io: Io) -> None:
        with self._executor.io.hub.watch(REGAINED) as bell:
            if not self.is_trusted():
                await io.wait(bell, 1.0)

    async def renew(self) -> None:
        row = self._executor.row()
        sent_at_s = self._executor.world.clock.now_s
        await self._executor.io.commit(executors.renew, row, row.incarnation_id)
        was_trusted = self.is_trusted()
        self.term += not was_trusted
        self._trusted_until_s = sent_at_s + row.lease_ms / 1000 * TRUSTED_SHARE
        if not was_trusted:
            self._executor.io.hub.publish((REGAINED,))


class SimExecutor:
    """One simulated process: an engine and its services, on one loop."""

    def __init__(
        self, world: SimWorld, number: int, settings: Settings, registry: Registry, weather: Weather
    ) -> None:
        self.world = world
        self.number = number
        self.weather = weather
        self.settings = settings
        self.is_known_dead = False
        """Its peers, on the same host, find its process gone."""
        self.io: SimIo = SimIo(world, number, weather, lanes=weather.random.choice((1, 2)))
        self.lease: SimLease = SimLease(self)
        version = settings.explicit_version or "v1"
        self.engine: Engine = Engine(
            settings=settings,
            identity=Identity(self._token(), settings.executor_id, version),
            registry=registry,
            codec=Codec(JSONSerializer()),
            hub=self.io.hub,
            lease=self.lease,
            launcher=self,
            new_id=self._token,
            new_token=self._token,
            blocking_io=self.io,
            async_io=self.io,
        )
        self.claimant: Claimant = claimant(self.engine)

    @property
    def is_alive(self) -> bool:
        return self.io.loop.is_alive

    def start(self, run: Execution, *, on_callers_loop: bool = False) -> None:
        """Give a background run its task: this executor is its engine's launcher."""
        self.engine.running[run.workflow_id] = run
        self.io.loop.spawn(_background(self.engine, run))

    def start_all(
        self, runs: Sequence[Execution], group: str
    ) -> list[tuple[Execution, BaseException]]:
        for run in runs:
            self.start(run)
        return []

    def row(self) -> ExecutorRow:
        identity = self.engine.identity
        return ExecutorRow(
            incarnation_id=identity.incarnation_id,
            executor_id=identity.executor_id,
            application_name=self.settings.name,
            application_version=identity.application_version,
            version_policy=self.settings.version_policy,
            host="simulated",
            pid=self.number,
            process_started="",
            lease_ms=round(self.settings.lease_s * 1000),
            capabilities="{}",
        )

    def _token(self) -> str:
        return f"{self.weather.random.getrandbits(128):032x}"


class Simulation:
    """Executors that share one database, and the order in which their world answers them."""

    def __init__(
        self,
        world: SimWorld,
        settings: Settings,
        registry: Registry,
        queues: Sequence[QueueLimits] = (),
    ) -> None:
        self.world = world
        self.queues: tuple[QueueLimits, ...] = (QueueLimits(INTERNAL_QUEUE), *queues)
        self.scheduled: dict[str, str] = {}
        """Cron expressions by the name of the function that they start."""
        self.executors: list[SimExecutor] = []
        self._settings = settings
        self._registry = registry

    @property
    def alive(self) -> list[SimExecutor]:
        return [executor for executor in self.executors if executor.is_alive]

    def launch(self, weather: Weather) -> SimExecutor:
        """Start one more process of the application."""
        executor = SimExecutor(
            self.world, len(self.executors), self._settings, self._registry, weather
        )
        self.executors.append(executor)
        executor.io.loop.spawn(self._serve(executor))
        return executor

    def kill(self, executor: SimExecutor, *, known: bool) -> None:
        """End a process where it stands. If it is not `known`, peers wait for its lease."""
        executor.is_known_dead = known
        executor.io.loop.kill()

    async def _serve(self, executor: SimExecutor) -> None:
        await executor.lease.renew()
        spawn = executor.io.loop.spawn
        spawn(_keep_lease(executor))
        spawn(_dispatch(executor, self.queues))
        spawn(_look_out(executor))
        spawn(_expire(executor))
        spawn(self._fail_over(executor))
        for name, expression in self.scheduled.items():
            spawn(self._schedule(executor, name, expression))

    async def _fail_over(self, executor: SimExecutor) -> None:
        """What `services.failover` does."""
        look_again_s = 0.0
        while True:
            dead = self._known_dead()
            if dead or executor.world.clock.now_s >= look_again_s:
                name = executor.settings.name
                around = await executor.io.read(recovery.look, name)
                gone = [p.incarnation_id for p in around.peers if p.incarnation_id in dead]
                for incarnation_id in gone:
                    await executor.io.commit(executors.remove, incarnation_id, incarnation_id)
                    self._forget(incarnation_id)
                if around.has_open_runs or gone:
                    request = TakeOver(name, executor.engine.new_token(), TAKEOVER_BATCH)
                    await executor.io.commit(recovery.take_over, request, "")
                look_again_s = executor.world.clock.now_s + LOOK_AT_PEERS_S
            await executor.io.sleep(LOOK_AT_PIDS_S)

    async def _schedule(self, executor: SimExecutor, name: str, expression: str) -> None:
        """What `services.scheduler` does for one decorated function, until it is no more."""
        io, engine = executor.io, executor.engine
        due = cron.parse(expression, None, name).next(_now(executor))
        while due is not None and name in self.scheduled:
            await io.sleep(max(0.001, (due - _now(executor)).total_seconds()))
            now = _now(executor)
            if due <= now:
                tick = cron.parse(expression, None, name).latest(due, now) or due
                run = ticks.decorated_run(engine, name, tick, now)
                await io.commit(schedules.fire, Firing((run,)), name)
                due = cron.parse(expression, None, name).next(now)

    def _known_dead(self) -> list[str]:
        return [
            executor.engine.identity.incarnation_id
            for executor in self.executors
            if executor.is_known_dead
        ]

    def _forget(self, incarnation_id: str) -> None:
        for executor in self.executors:
            if executor.engine.identity.incarnation_id == incarnation_id:
                executor.is_known_dead = False


async def _background(engine: Engine, run: Execution) -> None:
    """What `api.assembly` does around a background run."""
    try:
        await execute(engine.aio, run)
    except Closed:
        return
    except Exception as error:
        log.background_run_failed(run.workflow_id, error)
        hand_back(engine.aio, run)


async def _keep_lease(executor: SimExecutor) -> None:
    while True:
        await executor.io.sleep(executor.settings.lease_s / RENEWALS_PER_LEASE)
        await executor.lease.renew()


async def _look_out(executor: SimExecutor) -> None:
    """What `services.lookout` does for runs."""
    io, hub = executor.io, executor.io.hub
    while True:
        running = [run for run in executor.engine.running.values() if run.stop is None]
        if running:
            stored = await io.read(workflows.claims, [run.workflow_id for run in running])
            for run in running:
                claim, status = stored.get(run.workflow_id, (None, ""))
                if claim != run.claim:
                    run.stop = "lost"
                elif status == "CANCELLED":
                    run.stop = "cancelled"
                else:
                    continue
                hub.publish((run.stopped,))
        if awaited := [subject[0] for subject in hub.subjects("done")]:
            ended = await io.read(workflows.ended, awaited)
            hub.publish([Topic("done", workflow_id) for workflow_id in ended])
        hub.publish(await _changed(io))
        await io.sleep(executor.settings.notification_poll_s)


async def _changed(io: SimIo) -> list[Topic]:
    """What messages and events somebody waits for and has not heard of."""
    changed: list[Topic] = []
    if waiting := [(subject[0], subject[1]) for subject in io.hub.subjects("message")]:
        changed += await io.read(receiving.any_waiting, waiting)
    if awaited := [(subject[0], subject[1]) for subject in io.hub.subjects("event")]:
        changed += await io.read(events.any_set, awaited)
    return changed


async def _expire(executor: SimExecutor) -> None:
    """What `services.deadlines` does."""
    io, name = executor.io, executor.settings.name
    while True:
        now_ms = io.now_ms()
        due = await io.read(deadlines.due, name, now_ms, 0, TAKEOVER_BATCH)
        if due.workflow_ids:
            overdue = tuple(due.workflow_ids)
            expiry = Expiry(overdue, now_ms)
            for workflow_id, claim in await io.commit(deadlines.expire, expiry, overdue[0]):
                run = executor.engine.running.get(workflow_id)
                if run is not None and run.claim == claim:
                    executor.engine.dismiss(run, "cancelled")
        await io.sleep(ASK_EVERY_MS / 1000)


async def _dispatch(executor: SimExecutor, queues: Sequence[QueueLimits]) -> None:
    """What `services.dispatcher` does."""
    io = executor.io
    with io.hub.watch(ANY_QUEUE) as bell:
        while True:
            if len(queues) > 1:
                promotion = Promotion(executor.settings.name, CLAIM_BATCH)
                await io.commit(served.promote, promotion, "")
            is_full = False
            for queue in queues:
                is_full |= await _serve_queue(executor, queue) == CLAIM_BATCH
            if not is_full:
                await io.wait(bell, FALLBACK_S)


async def _serve_queue(executor: SimExecutor, queue: QueueLimits) -> int:
    """Claim and start one batch of a queue; how many runs it had."""
    if not executor.lease.is_trusted():
        return 0
    io, term = executor.io, executor.lease.term
    claim = executor.engine.new_token()
    request = ClaimRequest(executor.claimant, queue, claim, CLAIM_BATCH, has_keys=False)
    claimed = (await io.commit(claims.claim, request, queue.name)).runs
    await _start_all(executor, [run for run in claimed if not _is_held(executor, run, term)], term)
    return len(claimed)


def _is_held(executor: SimExecutor, run: ClaimedRun, term: int) -> bool:
    """Whether a former attempt of the run still goes on here; then it begins after that."""
    former = executor.engine.running.get(run.workflow_id)
    if former is None or former.is_over:
        return False
    executor.engine.dismiss(former, "lost")
    executor.io.loop.spawn(_start_after(executor, run, term, former))
    return True


async def _start_after(
    executor: SimExecutor, run: ClaimedRun, term: int, former: Execution
) -> None:
    while not former.is_over:
        await executor.io.sleep(HELD_LOOK_S)
    stored = await executor.io.read(workflows.claims, [run.workflow_id])
    if stored.get(run.workflow_id) == (run.claim, PENDING):
        await _start_all(executor, [run], term)


async def _start_all(executor: SimExecutor, runs: list[ClaimedRun], term: int) -> None:
    if not runs:
        return
    histories: dict[str, list[RecordedStep]] = {}
    for step in await executor.io.read(steps.load, [run.workflow_id for run in runs]):
        histories.setdefault(step.workflow_id, []).append(step)
    for run in runs:
        await _start(executor, run, histories.get(run.workflow_id, []), term)


async def _start(
    executor: SimExecutor, run: ClaimedRun, history: list[RecordedStep], term: int
) -> None:
    weather = executor.weather
    if weather.crowded and weather.random.random() < weather.crowded:
        give_back(executor.engine.aio, run, "no_thread", "no thread is free")
        return
    execution = await begin(executor.engine.aio, run, history, term)
    if execution is not None:
        executor.start(execution)


def _now(executor: SimExecutor) -> datetime:
    """As `Scheduler` sees the time: the database's, as far as this process knows it."""
    return datetime.fromtimestamp(executor.io.now_ms() / 1000, UTC)
