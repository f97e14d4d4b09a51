"""Schedules: starts a run at each tick, once over all processes.

Every process keeps the next tick of every schedule in a heap and fires it when it is due by the
database's clock. The run's id is made of the schedule and the tick, so however many processes fire
it, it runs once.

No schedule holds up another: in each round every schedule that is due has one turn, which starts a
bounded number of runs, and one that fails waits for its own next try.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from dbos import cron
from dbos.cron import Cron
from dbos.engine import ticks
from dbos.engine.engine import Engine
from dbos.engine.io import Closed
from dbos.runtime.committer import Committer
from dbos.runtime.reader import Reader
from dbos.runtime.service import Service, back_off_s
from dbos.runtime.wakeups import WakeupHub
from dbos.storage import schedules
from dbos.storage.protocol import Topic
from dbos.storage.rows import NewRun
from dbos.storage.schedules import ACTIVE, Firing, ScheduleRow
from dbos.telemetry import log

BATCH = 500
"""Missed ticks that one schedule makes up for in a turn."""
COUNTED = 10_000
"""Skipped ticks are counted up to here."""
SET_BACK_MS = 1000
"""A clock that is measured anew differs by less; by more, somebody has set it back."""
EAGER_MS = 60_000
EAGER_S = 1.0
Key = tuple[str, str]


@dataclass(slots=True, eq=False)
class _Plan:
    """One schedule that fires here; without a row it is a decorated function's."""

    name: str
    cron: Cron
    row: ScheduleRow | None
    context: Any
    due: datetime | None = None
    """The tick that is fired next."""
    turn: datetime | None = None
    """When that is done: at the tick, or later if it failed then."""
    failures: int = 0

    @property
    def signature(self) -> object:
        return self.cron if self.row is None else _signature(self.row)


class Scheduler(Service):
    """Fires schedules. Rung when one changes."""

    name = "scheduler"

    def __init__(
        self, engine: Engine, committer: Committer, reader: Reader, hub: WakeupHub
    ) -> None:
        super().__init__()
        hub.attach(Topic("schedule", ""), self.bell)
        self._engine = engine
        self._committer = committer
        self._reader = reader
        self._plans: dict[Key, _Plan] = {}
        self._heap: list[tuple[datetime, Key]] = []
        self._reported: dict[str, object] = {}
        self._eager_until_ms = 0
        self._look_again_ms = 0
        self._seen_ms = 0

    def tick(self) -> float:
        now_ms = self._reader.now_ms()
        self._eager_until_ms = self._eager_until_ms or now_ms + EAGER_MS
        if now_ms < self._seen_ms - SET_BACK_MS:
            self._start_over(ticks.instant(now_ms))
        self._seen_ms = now_ms
        self._fire_due(ticks.instant(now_ms))
        if self.was_rung or self.failures or now_ms >= self._look_again_ms:
            self._look(ticks.instant(self._reader.now_ms()))
            pause_s = self._engine.settings.scheduler_poll_s
            if now_ms < self._eager_until_ms:
                pause_s = min(pause_s, EAGER_S)
            self._look_again_ms = now_ms + round(pause_s * 1000)
        return self._pause_s()

    def _pause_s(self) -> float:
        now_ms = self._reader.now_ms()
        until_ms = self._look_again_ms - now_ms
        if self._heap:
            until_due = self._heap[0][0] - ticks.instant(now_ms)
            until_ms = min(until_ms, -(-until_due // timedelta(milliseconds=1)))
        return max(0, until_ms) / 1000

    def _fire_due(self, now: datetime) -> None:
        turns: list[tuple[datetime, Key]] = []
        while self._heap and self._heap[0][0] <= now:
            turns.append(heapq.heappop(self._heap))
        for turn, key in turns:
            plan = self._plans.get(key)
            if plan is None or plan.due is None or plan.turn != turn:
                continue
            try:
                newest = self._fire(plan, plan.due, now)
            except Closed:
                # The engine ends, and its scheduler with it: the other turns are nobody's here.
                raise
            except Exception as error:
                # An outage was waited out, so this is the schedule's own: its tick stays due.
                self._put_off(key, plan, now, error)
            else:
                self._arm(key, plan, newest)

    def _put_off(self, key: Key, plan: _Plan, now: datetime, error: Exception) -> None:
        if not plan.failures:
            log.schedule_failed(plan.name, log.describe(error))
        plan.failures += 1
        self._give_turn(key, plan, now + timedelta(seconds=back_off_s(plan.failures)))

    def _start_over(self, now: datetime) -> None:
        """Go on from an earlier time; what has been fired already has its id and runs once."""
        self._look_again_ms = 0
        for key, plan in self._plans.items():
            self._arm(key, plan, now)

    def _arm(self, key: Key, plan: _Plan, after: datetime) -> None:
        plan.due, plan.failures = plan.cron.next(after), 0
        if plan.due is not None:
            self._give_turn(key, plan, plan.due)

    def _give_turn(self, key: Key, plan: _Plan, at: datetime) -> None:
        plan.turn = at
        heapq.heappush(self._heap, (at, key))

    def _fire(self, plan: _Plan, due: datetime, now: datetime) -> datetime:
        """Start the runs of one turn; the moment from which on the ticks are still to come."""
        row = plan.row
        if row is not None and row.automatic_backfill:
            return self._make_up(plan, row, due, now)
        newest = plan.cron.latest(due, now) or due
        if row is None:
            run = ticks.decorated_run(self._engine, plan.name, newest, now)
            is_ours = self._commit((run,), plan, None)
        else:
            runs = ticks.scheduled_runs(self._engine, row, [newest], plan.context)
            is_ours = self._commit(runs, plan, newest)
        if is_ours and newest > due:
            # Said last: what failed is tried again, and would be said again. And said by one
            # process: for those that find the run there, nothing was skipped or it is said.
            skipped = sum(1 for _ in islice(plan.cron.between(due, newest), COUNTED)) + 1
            log.ticks_skipped(plan.name, skipped)
        return now

    def _make_up(self, plan: _Plan, row: ScheduleRow, due: datetime, now: datetime) -> datetime:
        """Fire the ticks from one on, up to now; the last one if there are too many for a turn."""
        missed = plan.cron.between(due, now + timedelta(microseconds=1))
        batch = [due, *islice(missed, BATCH - 1)]
        self._commit(ticks.scheduled_runs(self._engine, row, batch, plan.context), plan, batch[-1])
        return batch[-1]

    def _commit(self, runs: tuple[NewRun, ...], plan: _Plan, newest: datetime | None) -> bool:
        """Whether the last of the runs was created by this and not by another process."""
        firing = Firing(runs)
        if plan.row is not None and newest is not None:
            firing = Firing(runs, plan.row.schedule_id, newest.isoformat())
        admitted = self._committer.run(schedules.fire, firing, plan.name)
        return admitted is not None and admitted[-1].claim == runs[-1].owner_xid

    def _look(self, now: datetime) -> None:
        """Learn which schedules there are; unchanged ones keep their next tick."""
        application = self._engine.settings.name
        rows = {
            ("stored", row.schedule_name): row
            for row in self._reader.run(schedules.all_schedules)
            if row.application_name in (None, application)
        }
        decorated = dict(self._engine.registry.scheduled)
        for key in list(self._plans):
            if key not in rows and (key[0] == "stored" or key[1] not in decorated):
                del self._plans[key]
        for name, expression in decorated.items():
            self._plan_decorated(name, expression, now)
        for key, row in rows.items():
            self._plan_stored(key, row, now)

    def _plan_decorated(self, name: str, expression: str, now: datetime) -> None:
        key = ("decorated", name)
        checked = cron.parse(expression, None, name)
        known = self._plans.get(key)
        if self._engine.registry.named(name) is not None and (
            known is None or known.cron != checked
        ):
            self._plans[key] = plan = _Plan(name, checked, None, None)
            self._arm(key, plan, now)

    def _plan_stored(self, key: Key, row: ScheduleRow, now: datetime) -> None:
        known = self._plans.get(key)
        if row.status != ACTIVE:
            self._plans.pop(key, None)
            self._reported.pop(row.schedule_name, None)
            return
        if known is not None and known.row is not None and known.signature == _signature(row):
            return
        try:
            plan = self._usable(row)
            self._begin(key, plan, known, now)
        except Exception as error:
            self._plans.pop(key, None)
            if self._reported.get(row.schedule_name) != _signature(row):
                self._reported[row.schedule_name] = _signature(row)
                log.schedule_unusable(row.schedule_name, _reason(error))

    def _usable(self, row: ScheduleRow) -> _Plan:
        if self._engine.registry.find(row.workflow_name) is None:
            raise _UnknownWorkflow
        checked = ticks.cron_of(row)
        return _Plan(row.schedule_name, checked, row, ticks.context_of(self._engine, row))

    def _begin(self, key: Key, plan: _Plan, known: _Plan | None, now: datetime) -> None:
        row = plan.row
        assert row is not None
        start = now
        if row.automatic_backfill and row.last_fired_at is not None:
            start = min(now, datetime.fromisoformat(row.last_fired_at))
        elif known is not None and known.due is not None and known.cron == plan.cron:
            # What changed is not when it fires: no tick may be lost by it.
            start = known.due - timedelta(microseconds=1)
        self._arm(key, plan, start)
        self._plans[key] = plan
        self._reported.pop(row.schedule_name, None)


class _UnknownWorkflow(Exception):
    """The workflow of a schedule is not registered in this process."""


def _reason(error: Exception) -> str:
    """What is wrong with a schedule, without any value of its row."""
    match error:
        case cron.BadCron():
            return f"its cron expression is no good: {error}"
        case cron.BadZone():
            return "its time zone is unknown here"
        case _UnknownWorkflow():
            return "its workflow is not registered here"
        case _:
            return log.describe(error)


def _signature(row: ScheduleRow) -> object:
    """What makes a schedule another one: everything but its last firing."""
    return row._replace(last_fired_at=None)
