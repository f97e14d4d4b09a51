"""The crash explorer: runs a scenario, interrupts it at every effect, and checks what is left.

Theory of operation. All that the engine does to the world passes through one seam
(`dbos.engine.io`), and a layer there counts it: commits, reads, calls of user code, waits. A first
run without a crash gives the number of effects and the expected outcome. Then, for each effect, the
scenario runs again on a fresh database and is interrupted there: its memory is dropped, a second
engine on the same database recovers what was left, and the scenario is called again, as a client
would.
"""

from __future__ import annotations

import gc
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, cast

from dbos.api.slot import SLOT
from dbos.testing import invariants
from dbos.testing.databases import Databases, WorkDatabase, databases_at
from dbos.testing.invariants import Finding, Life
from dbos.testing.ledger import StepKey
from dbos.testing.report import Ending, Moment, Outcome, Point, Report, Violation
from dbos.testing.timeline import Plan
from dbos.testing.world import Scenario, Stage, World

if TYPE_CHECKING:
    from dbos.api.assembly import Instance

Invariant = Callable[[Outcome, Outcome], None]
"""Compares the outcome without a crash with one after it; raises `AssertionError` to object."""

MOMENTS: tuple[Moment, ...] = ("before", "after", "frozen")


def explore_crashes(
    scenario: Scenario,
    *,
    database_url: str | None = None,
    moments: Sequence[Moment] = MOMENTS,
    invariants: Sequence[Invariant] = (),
    limit: int | None = None,
    pairs: int = 0,
) -> Report:
    """Interrupt a scenario at each of its effects, and report every promise that was broken.

    The scenario calls workflows through `DBOS` with fixed ids (`SetWorkflowID`), and does the same
    each time: it is called again after every crash. It must not launch or destroy `DBOS`; engines
    of its own are put in its place, with the settings of the instance if one was made.

    Args:
        scenario: a function without parameters, plain or async, that returns a value to compare.
        database_url: PostgreSQL: explored in a new schema there, dropped in the end. Default:
            SQLite files in a temporary directory.
        moments: how to interrupt. `before`: the effect never happens. `after`: it has happened, and
            nobody was told. `frozen`: the process stops, is replaced, and goes on too late.
        invariants: further checks, each called with the outcome without and with the crash.
        limit: at most this many interruptions, spread over all of them.
        pairs: besides, so many runs in which the recovering process crashes as well.

    Returns:
        What was tried and found. `report.raise_for_violations()` makes a test of it.

    Example:
        def scenario() -> str:
            with SetWorkflowID("order-1"):
                return checkout("order-1")

        explore_crashes(scenario).raise_for_violations()
    """
    databases = databases_at(database_url)
    try:
        with databases.fresh() as first, _in_the_place_of_the_facade(first):
            explorer = _Explorer(scenario, databases, invariants)
            explorer.run_baseline()
            points = _spread(explorer.points(moments), limit)
            for point in chain(points, explorer.pairs(pairs)):
                explorer.visit(point)
    finally:
        databases.close()
    return explorer.report


class _Explorer:
    """One exploration under way."""

    def __init__(
        self, scenario: Scenario, databases: Databases, further: Sequence[Invariant]
    ) -> None:
        self.report = Report()
        self._scenario = scenario
        self._databases = databases
        self._further = further
        self._baseline: Outcome

    def run_baseline(self) -> None:
        """Run without a crash; then replay what was recorded. Without effects if that is broken."""
        with self._databases.fresh() as database:
            world = World(database)
            world.play(self._scenario)
            world.run_to_end()
            world.close()
            self._baseline = _outcome(world, snapshot_of=database, bodies=world.ledger.bodies)
            self._note(None, invariants.without_a_crash(world.ledger, self._baseline))
            if self.report.violations:
                # What is broken already cannot be compared with.
                return
            self.report.effects = [world.timeline.log[key] for key in sorted(world.timeline.log)]
            self._note(None, self._replayed(database))

    def points(self, moments: Iterable[Moment]) -> list[Point]:
        """Every effect at each moment."""
        return [
            Point(effect.number, moment, resumes_early=early)
            for moment in moments
            for effect in self.report.effects
            for early in ((False, True) if moment == "frozen" else (False,))
        ]

    def pairs(self, count: int) -> Iterator[Point]:
        """A sample of pairs of crashes, the same each time."""
        total = len(self.report.effects)
        for index in range(count if total else 0):
            moment: Moment = "after" if index % 2 else "before"
            yield Point(1 + index * 7919 % total, moment, second=1 + index * 104729 % total)

    def visit(self, point: Point) -> None:
        """Interrupt the scenario at one point, recover, and check."""
        self.report.points += 1
        with self._databases.fresh() as database:
            if point.moment == "frozen":
                self._freeze_at(point, database)
            else:
                self._crash_at(point, database)

    def _replayed(self, database: WorkDatabase) -> Iterator[Finding]:
        before = database.snapshot()
        database.reopen()
        world = World(database)
        world.play(_nothing)
        world.run_to_end()
        world.close()
        return invariants.replayed(before, world.ledger, database.snapshot())

    def _crash_at(self, point: Point, database: WorkDatabase) -> None:
        plans = [Plan(point.number, point.moment)]
        if point.second is not None:
            plans.append(Plan(point.second, "before"))
        lives: list[Life] = []
        recorded: Iterable[StepKey] = ()
        worlds: list[World] = []
        for plan in (*plans, None):
            world = World(database, plan, recorded=recorded)
            worlds.append(world)
            world.play(self._scenario)
            if not world.run_until_struck():
                break
            world.kill()
            left = database.snapshot()
            lives.append(Life(world.ledger, left))
            recorded = left.steps
        last = worlds[-1]
        last.close()
        self._judge(_told(point, worlds[0]), lives, worlds, database)

    def _freeze_at(self, point: Point, database: WorkDatabase) -> None:
        old = World(database, Plan(point.number, "frozen"))
        old.play(self._scenario)
        if not old.run_until_struck():
            old.close()
            self._judge(_told(point, old), [], [old], database)
            return
        old.pause()
        point = _told(point, old)
        life = Life(old.ledger, database.snapshot(), went_on=True)
        new = World(database, held=point.resumes_early, recorded=life.left.steps)
        if point.resumes_early:
            self._note(point, _thawed_early(old, new, database))
        new.play(self._scenario)
        new.run_to_end(beside=old if point.resumes_early else None)
        self._note(point, self._thawed(old, database))
        old.engine.abandon()
        new.close()
        self._judge(point, [life], [old, new], database)

    def _thawed(self, old: World, database: WorkDatabase) -> list[Finding]:
        """Let a process go on whose work has been finished by another."""
        before, asked = database.snapshot(), len(old.ledger.asks)
        old.timeline.thaw()
        old.catch_up()
        old.timeline.come_to_rest(1.0)
        found = list(invariants.fenced(before, database.snapshot(), old.ledger.asks[asked:]))
        found += [
            (f"{rule}, to the caller of the frozen process", story)
            for rule, story in invariants.same_ending(self._baseline.ending, old.ending)
        ]
        old.timeline.die()
        return found

    def _judge(
        self, point: Point, lives: Sequence[Life], worlds: Sequence[World], database: WorkDatabase
    ) -> None:
        bodies: Counter[StepKey] = Counter()
        for world in worlds:
            bodies.update(world.ledger.bodies)
        outcome = _outcome(worlds[-1], snapshot_of=database, bodies=bodies)
        last = worlds[-1].ledger
        self._note(point, invariants.of_a_crash(self._baseline, lives, last, outcome))
        for invariant in self._further:
            try:
                invariant(self._baseline, outcome)
            except AssertionError as error:
                name = getattr(invariant, "__name__", "an invariant")
                self._note(point, [(name, str(error))])

    def _note(self, point: Point | None, found: Iterable[Finding]) -> None:
        self.report.violations += [Violation(point, rule, story) for rule, story in found]


def _thawed_early(old: World, new: World, database: WorkDatabase) -> list[Finding]:
    """Let a process go on while its successor owns the work and has done nothing with it yet."""
    database.await_claims()
    before, asked = database.snapshot(), len(old.ledger.asks)
    old.timeline.thaw()
    old.timeline.come_to_rest(2.0)
    after = database.snapshot()
    new.ledger.knows(after.steps)
    new.timeline.thaw()
    return list(invariants.fenced(before, after, old.ledger.asks[asked:]))


def _outcome(world: World, *, snapshot_of: WorkDatabase, bodies: Counter[StepKey]) -> Outcome:
    ending = world.ending or Ending(hangs=True)
    return Outcome(ending, snapshot_of.snapshot(), bodies)


def _told(point: Point, world: World) -> Point:
    """The point with the effect that it turned out to be."""
    return Point(
        point.number,
        point.moment,
        world.timeline.log.get(point.number),
        point.resumes_early,
        point.second,
    )


def _spread(points: list[Point], limit: int | None) -> list[Point]:
    if limit is None or len(points) <= limit:
        return points
    return [points[index * len(points) // limit] for index in range(limit)]


def _nothing() -> None:
    """The scenario of a process that only recovers."""


@contextmanager
def _in_the_place_of_the_facade(database: WorkDatabase) -> Generator[None]:
    """Lead calls through `DBOS` to the process they come from, and keep dying processes quiet."""
    logger, former = logging.getLogger("dbos"), SLOT.instance
    was_disabled = logger.disabled
    SLOT.instance = cast("Instance", Stage(database.settings))
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            # A coroutine that its process did not live to await is no fault.
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
            gc.collect()
    finally:
        SLOT.instance = former
        logger.disabled = was_disabled
