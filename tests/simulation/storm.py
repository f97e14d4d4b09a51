"""One seed, played: processes, callers and faults drawn from it, then calm, then judgement."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from random import Random
from typing import Any

from dbos.config import Settings, parse_database_url
from dbos.engine.admission import StartCall
from dbos.engine.context import Scope
from dbos.engine.io import Call
from dbos.engine.registry import Registration, Registry
from dbos.engine.results import RECHECK_S
from dbos.engine.site import NOWHERE
from dbos.engine.starts import await_background, call_workflow, start_workflow
from dbos.ops.debounce import debounce
from dbos.ops.enqueue import EnqueueRequest, enqueue
from dbos.ops.management import cancel_workflow
from dbos.storage.queue_limits import QueueLimits
from dbos.testing.sim_clock import SimClock
from dbos.testing.sim_io import SimWorld, Weather
from dbos.testing.simulation import SimExecutor, Simulation
from tests.simulation.corpus import CORPUS, registration, registry
from tests.simulation.oracle import Oracle
from tests.simulation.store import store

STORM_S = 60.0
"""How long faults happen. Then the weather is fair, and everything must come to its end."""
CALM_S = 600.0
LEASE_S = 5.0
"""Short, so that leases expire often."""
LOOK_S = 2.0
LIMITED = QueueLimits("sim-limited", global_concurrency=2, worker_concurrency=1)


@dataclass(frozen=True, slots=True)
class Job:
    """A workflow that callers ask for."""

    workflow_id: str
    target: Registration
    count: int
    is_queued: bool = False
    """Whether it waits on the limited queue."""
    timeout_ms: int | None = None


@dataclass(slots=True)
class Verdict:
    """What a seed showed."""

    seed: int
    violations: list[str]
    story: list[str] = field(default_factory=list[str])
    """The faults, in order."""
    takeovers: int = 0
    mark: int = 0
    """Where the seed's random numbers ended: equal marks mean equal simulations."""


def play(seed: int, focus: str | None = None) -> Verdict:
    """Simulate one seed. The same seed plays the same, on every machine.

    `focus` names the one workflow of the corpus that is asked for, instead of any.
    """
    with _quiet_log():
        return _Storm(seed, focus).play()


class _Storm:
    def __init__(self, seed: int, focus: str | None) -> None:
        self._seed = seed
        self._workflows = [
            target for target in map(registration, CORPUS) if focus in (None, target.name)
        ]
        self._random = Random(seed)
        self._clock = SimClock()
        shared = store()
        shared.renew(self._clock)
        self._oracle = Oracle(shared.connection, LIMITED)
        has_queue = self._random.random() < 0.4
        self._oracle.happened = self._count_down
        self._oracle.now_ms = self._clock.database_ms
        world = SimWorld(self._clock, shared.database, self._oracle, self._random)
        self._simulation = Simulation(
            world, _settings(), _registry(), (LIMITED,) if has_queue else ()
        )
        self._has_queue = has_queue
        if self._random.random() < 0.2:
            self._simulation.scheduled["sim.tick"] = "*/10 * * * * *"
        self._fuses: dict[int, tuple[int, Callable[[SimExecutor], None]]] = {}
        """What happens to a process at its n-th moment from now."""
        self._story: list[str] = []
        self._calls = 0
        """Calls that are to be made or wait for their outcome."""
        self._is_calm = False
        self._ends_at_s = STORM_S + CALM_S

    def play(self) -> Verdict:
        draw = self._random
        for _ in range(draw.choice((1, 2, 2, 3))):
            self._simulation.launch(self._weather())
        for number in range(draw.randint(1, 4)):
            target = draw.choice(self._workflows)
            self._plan_job(Job(f"job-{number}", target, draw.randint(1, 3)))
        if self._has_queue:
            for number in range(draw.randint(2, 6)):
                target = draw.choice(self._workflows)
                job = Job(
                    f"queued-{number}",
                    target,
                    draw.randint(1, 3),
                    True,
                    draw.choice((None, None, 15_000)),
                )
                self._plan_job(job)
            self._plan_debounced()
        for _ in range(draw.randint(0, 6)):
            fault = draw.choice(
                (self._plan_death, self._plan_stall, self._plan_cut, self._plan_cut, self._foul)
            )
            self._clock.after(draw.random() ** 2 * 0.8 * STORM_S, fault)
        self._clock.after(STORM_S, self._calm_down)
        self._clock.after(LOOK_S, self._look)
        while self._clock.now_s < self._ends_at_s and self._clock.step():
            pass
        for executor in self._simulation.executors:
            executor.io.loop.kill()
        self._oracle.review()
        mark = self._random.getrandbits(32)
        oracle = self._oracle
        return Verdict(self._seed, oracle.violations, self._story, oracle.takeovers, mark)

    def _look(self) -> None:
        """End once everything has ended, the tails of former owners included."""
        is_over = self._calls == 0 and not any(
            executor.engine.running for executor in self._simulation.alive
        )
        if is_over and self._oracle.is_quiet():
            self._ends_at_s = self._clock.now_s
        else:
            self._clock.after(LOOK_S, self._look)

    def _plan_job(self, job: Job) -> None:
        """One call at least; sometimes a second one with the same id, from anywhere."""
        draw = self._random
        if draw.random() < 0.1:
            self._plan_cancel(job)
        if job.timeout_ms is not None:
            self._oracle.stoppable.add(job.workflow_id)
        at_s = draw.random() ** 2 * 20.0
        moments = [at_s]
        if draw.random() < 0.4:
            moments.append(at_s + draw.random() ** 3 * 30.0)
        for moment_s in moments:
            self._calls += 1
            self._clock.after(moment_s, partial(self._call, job))

    def _call(self, job: Job) -> None:
        alive = self._simulation.alive
        if alive:
            executor = self._random.choice(alive)
            executor.io.loop.spawn(self._caller(executor, job, self._random.random() < 0.5))
        else:
            self._calls -= 1

    async def _caller(self, executor: SimExecutor, job: Job, is_direct: bool) -> None:
        target = job.target
        call = Call(target.body, (job.count,), {}, is_async=True)
        start = StartCall(target, call, Scope(), None, 0, job.workflow_id)
        rt = executor.engine.aio
        value, raised = None, None
        try:
            await executor.lease.regain(executor.io)
            if job.is_queued:
                await enqueue(rt, NOWHERE, _queued(job))
                value = await await_background(rt, job.workflow_id, None, RECHECK_S)
            elif is_direct:
                value = await call_workflow(rt, start)
            else:
                workflow_id, mine = await start_workflow(rt, start, on_callers_loop=True)
                value = await await_background(rt, workflow_id, mine, RECHECK_S)
        except Exception as error:
            raised = error
        finally:
            # A caller whose process dies is closed here, and waits for nothing any more.
            self._calls -= 1
        self._oracle.told(job.workflow_id, target.name, job.count, value, raised)

    def _plan_cancel(self, job: Job) -> None:
        self._oracle.stoppable.add(job.workflow_id)
        at_s = self._random.random() * 30.0
        self._clock.after(at_s, partial(self._spawn, partial(self._cancel, job)))

    async def _cancel(self, job: Job, executor: SimExecutor) -> None:
        await cancel_workflow.run(executor.engine.aio, NOWHERE, job.workflow_id)

    def _plan_debounced(self) -> None:
        """Some calls for one key, near each other."""
        for count in range(1, self._random.randint(2, 5)):
            at_s = self._random.random() * 15.0
            self._clock.after(at_s, partial(self._spawn, partial(self._debounce, count)))

    async def _debounce(self, count: int, executor: SimExecutor) -> None:
        request = EnqueueRequest(
            "sim.sum",
            LIMITED.name,
            (count,),
            application_name="simulated",
            deduplication_id="group",
            is_declared=True,
        )
        await debounce(executor.engine.aio, NOWHERE, request, 3000, 9000)

    def _spawn(self, work: Callable[[SimExecutor], Coroutine[Any, Any, None]]) -> None:
        alive = self._simulation.alive
        if alive:
            executor = self._random.choice(alive)
            executor.io.loop.spawn(work(executor))

    def _plan_death(self) -> None:
        self._light_fuse(self._die)

    def _plan_stall(self) -> None:
        self._light_fuse(self._stall)

    def _plan_cut(self) -> None:
        self._light_fuse(self._cut_off)

    def _light_fuse(self, fault: Callable[[SimExecutor], None]) -> None:
        """Strike one process at one of its next moments: a body begins, a write is applied or
        answered.
        """
        if self._simulation.alive and not self._is_calm:
            victim = self._random.choice(self._simulation.alive)
            self._fuses[victim.number] = (self._random.randint(1, 25), fault)

    def _count_down(self, process: int) -> None:
        if process not in self._fuses:
            return
        left, fault = self._fuses.pop(process)
        if left > 1:
            self._fuses[process] = (left - 1, fault)
        else:
            # Not here, amid a turn or a transaction, but before anything else happens.
            self._clock.after(0.0, partial(fault, self._simulation.executors[process]))

    def _die(self, victim: SimExecutor) -> None:
        if victim.is_alive and not self._is_calm:
            known = self._random.random() < 0.6
            self._tell(f"process {victim.number} dies{'' if known else ', unknown to its peers'}")
            self._simulation.kill(victim, known=known)
            if self._random.random() < 0.7 or not self._simulation.alive:
                self._clock.after(self._random.random() * 10.0, self._launch)

    def _launch(self) -> None:
        executor = self._simulation.launch(
            Weather(self._random) if self._is_calm else self._weather()
        )
        self._tell(f"process {executor.number} starts")

    def _stall(self, victim: SimExecutor) -> None:
        if victim.is_alive:
            seconds = self._random.choice((1.0, 10.0, 30.0)) * self._random.random()
            self._tell(f"process {victim.number} stalls for {seconds:.1f} s")
            victim.io.loop.stall(seconds)

    def _cut_off(self, victim: SimExecutor) -> None:
        """Its database is out of reach for a while, with whatever was on its way."""
        if victim.is_alive and not self._is_calm:
            seconds = 2.0 + self._random.random() * 20.0
            self._tell(f"process {victim.number} is cut off for {seconds:.1f} s")
            victim.weather.refused = 1.0
            self._clock.after(seconds, partial(_clear_up, victim.weather))

    def _foul(self) -> None:
        """Bad weather for one process, for a while."""
        if self._is_calm or not self._simulation.alive:
            return
        draw = self._random
        weather = draw.choice(self._simulation.alive).weather
        match draw.randrange(5):
            case 0:
                weather.refused = draw.choice((0.3, 1.0))
            case 1:
                weather.ambiguous = 0.4
            case 2:
                weather.slow, weather.slow_s = 0.3, draw.choice((3.0, 20.0))
            case 3:
                weather.crowded = 0.5
            case _:
                weather.skew_ms = draw.randint(-20_000, 20_000)
                self._oracle.skew_ms = 20_000
        self._tell(f"{weather}")
        self._clock.after(draw.random() * 25.0, partial(_clear_up, weather))

    def _calm_down(self) -> None:
        self._is_calm = True
        self._simulation.scheduled.clear()
        self._fuses.clear()
        for executor in self._simulation.alive:
            _clear_up(executor.weather)
        if not self._simulation.alive:
            self._launch()

    def _weather(self) -> Weather:
        """Where a process lives: how far from its database, how busy, how fast its clock."""
        draw = self._random
        return Weather(
            draw,
            turn_s=draw.choice((0.0005, 0.005)),
            commit_s=draw.choice((0.002, 0.02, 0.2)),
            answer_s=draw.choice((0.002, 0.02, 0.2)),
            read_s=draw.choice((0.002, 0.05)),
            ambiguous=draw.choice((0.0, 0.0, 0.05, 0.2)),
            crowded=draw.choice((0.0, 0.0, 0.0, 0.3)),
        )

    def _tell(self, what: str) -> None:
        self._story.append(f"{self._clock.now_s:8.3f} s  {what}")


def _clear_up(weather: Weather) -> None:
    weather.refused = weather.ambiguous = weather.slow = weather.crowded = 0.0
    weather.skew_ms = 0


def _queued(job: Job) -> EnqueueRequest:
    return EnqueueRequest(
        job.target.run_name,
        LIMITED.name,
        (job.count,),
        workflow_id=job.workflow_id,
        timeout_ms=job.timeout_ms,
        application_name="simulated",
        is_declared=True,
    )


@cache
def _settings() -> Settings:
    address = parse_database_url("sqlite:///simulated.sqlite")
    return Settings("simulated", address, None, explicit_version="v1", lease_s=LEASE_S)


@cache
def _registry() -> Registry:
    return registry()


@contextmanager
def _quiet_log() -> Generator[None]:
    """Storms are no news: what the package has to say about them is left out."""
    logger = logging.getLogger("dbos")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
