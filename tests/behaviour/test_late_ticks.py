"""Ticks that come late: a process that stood still, or a clock that was set forward by an hour.

The scheduler is driven by hand and reads a clock of the test's. Its schedules have ticks in one
later year only: the application's own scheduler, which reads the real clock, leaves them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from dbos import DBOS
from dbos.api.ground import Ground
from dbos.api.slot import launched
from dbos.services.scheduler import BATCH, Scheduler
from tests.behaviour.application import Application

YEAR = datetime.now(UTC).year + 10
MINUTELY = f"0 * * * * * {YEAR}"
START = datetime(YEAR, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Stalled:
    """A scheduler that looks only when it is told to, and at the time that it is told."""

    def __init__(self) -> None:
        self._ground = Ground(launched().settings)
        self._now = START
        self._ground.reader.now_ms = self._now_ms
        self._scheduler = Scheduler(
            launched(), self._ground.committer, self._ground.reader, self._ground.hub
        )
        self._ground.committer.start()

    def look(self, minutes: float) -> None:
        """Let it look so many minutes after the start."""
        self._now = START + timedelta(minutes=minutes)
        self._scheduler.tick()

    def close(self) -> None:
        self._ground.committer.stop()
        self._ground.reader.stop()
        self._ground.database.close()

    def _now_ms(self) -> int:
        return (self._now - EPOCH) // timedelta(milliseconds=1)


@pytest.fixture
def scheduler(app: Application) -> Iterator[Stalled]:
    stalled = Stalled()
    yield stalled
    stalled.close()


@contextmanager
def another_process() -> Generator[Stalled]:
    stalled = Stalled()
    try:
        yield stalled
    finally:
        stalled.close()


def decorated() -> None:
    @DBOS.scheduled(MINUTELY)
    @DBOS.workflow(name="late")
    def late(_scheduled: datetime, _actual: datetime) -> None: ...


def stored(*names: str, automatic_backfill: bool = False) -> None:
    @DBOS.workflow(name="late")
    def late(_scheduled: datetime, _context: object) -> None: ...

    for name in names or ("late",):
        DBOS.create_schedule(
            schedule_name=name,
            workflow_fn=late,
            schedule=MINUTELY,
            automatic_backfill=automatic_backfill,
        )


kinds = pytest.mark.parametrize("schedule", [decorated, stored])


def fired(app: Application, schedule: str = "late") -> list[int]:
    """The minutes whose ticks were started."""
    prefix = f"sched-{schedule}-"
    ids = [row[0] for row in app.rows("SELECT workflow_uuid FROM {workflow_status}")]
    moments = [
        datetime.fromisoformat(run.removeprefix(prefix)) for run in ids if run.startswith(prefix)
    ]
    return sorted((moment - START) // timedelta(minutes=1) for moment in moments)


def skips(log: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in log.messages if "ticks were skipped" in line]


@contextmanager
def no_run_accepted(app: Application, schedule: str = "late") -> Generator[None]:
    """Let the database refuse runs of a schedule for the block."""
    if app.is_sqlite:
        make = (
            "CREATE TRIGGER refused BEFORE INSERT ON {workflow_status}"
            f" WHEN NEW.schedule_name = '{schedule}' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
        end = "DROP TRIGGER refused"
    else:
        make = (
            "ALTER TABLE {workflow_status} ADD CONSTRAINT refused"
            f" CHECK (schedule_name IS DISTINCT FROM '{schedule}') NOT VALID"
        )
        end = "ALTER TABLE {workflow_status} DROP CONSTRAINT refused"
    app.change(make)
    try:
        yield
    finally:
        app.change(end)


@kinds
def test_of_an_hour_of_late_ticks_only_the_newest_runs(
    app: Application,
    scheduler: Stalled,
    log: pytest.LogCaptureFixture,
    schedule: Callable[[], None],
) -> None:
    schedule()
    scheduler.look(0.5)
    scheduler.look(1)

    scheduler.look(61.5)
    scheduler.look(61.9)
    scheduler.look(62)

    assert fired(app) == [1, 61, 62]
    assert len(skips(log)) == 1
    assert "Schedule late fell behind: 59 ticks were skipped" in skips(log)[0]


@kinds
def test_one_late_tick_runs_and_is_no_skip(
    app: Application,
    scheduler: Stalled,
    log: pytest.LogCaptureFixture,
    schedule: Callable[[], None],
) -> None:
    schedule()
    scheduler.look(0.5)

    scheduler.look(1.9)

    assert fired(app) == [1]
    assert skips(log) == []


@kinds
def test_skipped_ticks_are_reported_once_though_the_newest_is_refused_at_first(
    app: Application,
    scheduler: Stalled,
    log: pytest.LogCaptureFixture,
    schedule: Callable[[], None],
) -> None:
    schedule()
    scheduler.look(0.5)

    with no_run_accepted(app):
        scheduler.look(60)
        scheduler.look(60.5)
    scheduler.look(61)

    assert fired(app) == [61]
    assert len(skips(log)) == 1
    assert "60 ticks were skipped" in skips(log)[0]


@kinds
def test_a_process_that_stood_still_adds_nothing_to_the_ticks_of_another(
    app: Application, scheduler: Stalled, schedule: Callable[[], None]
) -> None:
    schedule()
    with another_process() as other:
        scheduler.look(0.5)
        for minutes in (0.5, 1, 2, 3, 4):
            other.look(minutes)

    scheduler.look(4.5)
    scheduler.look(5)

    assert fired(app) == [1, 2, 3, 4, 5]


@kinds
def test_what_another_process_fired_was_not_skipped(
    app: Application,
    scheduler: Stalled,
    log: pytest.LogCaptureFixture,
    schedule: Callable[[], None],
) -> None:
    schedule()
    with another_process() as other:
        scheduler.look(0.5)
        for minutes in (0.5, 1, 2, 3):
            other.look(minutes)

    scheduler.look(3.5)

    assert fired(app) == [1, 2, 3]
    assert skips(log) == []


@kinds
def test_skipped_ticks_are_reported_once_though_two_processes_stood_still(
    app: Application,
    scheduler: Stalled,
    log: pytest.LogCaptureFixture,
    schedule: Callable[[], None],
) -> None:
    schedule()
    with another_process() as other:
        for stalled in (scheduler, other):
            stalled.look(0.5)

        for stalled in (scheduler, other):
            stalled.look(61.5)

    assert fired(app) == [61]
    assert len(skips(log)) == 1


def test_nothing_is_reported_as_run_of_a_schedule_that_was_paused_meanwhile(
    app: Application, scheduler: Stalled, log: pytest.LogCaptureFixture
) -> None:
    stored()
    scheduler.look(0.5)
    app.change("UPDATE {workflow_schedules} SET status = 'PAUSED'")

    scheduler.look(61.5)

    assert fired(app) == []
    assert skips(log) == []


def test_a_process_that_lags_does_not_set_the_last_firing_back(
    app: Application, scheduler: Stalled
) -> None:
    stored()
    with another_process() as other:
        for stalled in (scheduler, other):
            stalled.look(0.5)
        other.look(5)

    scheduler.look(4)

    found = DBOS.get_schedule("late")
    assert found is not None
    assert found["last_fired_at"] == (START + timedelta(minutes=5)).isoformat()


@kinds
def test_a_schedule_that_was_refused_for_long_is_tried_again_within_seconds(
    app: Application, scheduler: Stalled, schedule: Callable[[], None]
) -> None:
    schedule()
    scheduler.look(0.5)
    with no_run_accepted(app):
        for seconds in range(60, 120, 6):
            scheduler.look(seconds / 60)

    scheduler.look(2)

    assert fired(app) == [2]


@kinds
def test_a_clock_that_is_set_right_again_silences_no_schedule(
    app: Application, scheduler: Stalled, schedule: Callable[[], None]
) -> None:
    schedule()
    scheduler.look(0.5)
    scheduler.look(61.5)

    scheduler.look(2.5)
    scheduler.look(3)

    assert fired(app) == [3, 61]


def test_late_ticks_of_a_schedule_with_backfill_all_run(
    app: Application, scheduler: Stalled, log: pytest.LogCaptureFixture
) -> None:
    stored(automatic_backfill=True)
    scheduler.look(0.5)

    scheduler.look(61.5)

    assert fired(app) == list(range(1, 62))
    assert skips(log) == []


def test_the_newest_late_tick_is_the_last_firing(app: Application, scheduler: Stalled) -> None:
    stored()
    scheduler.look(0.5)

    scheduler.look(61.5)

    found = DBOS.get_schedule("late")
    assert found is not None
    assert found["last_fired_at"] == (START + timedelta(minutes=61)).isoformat()


def test_a_schedule_whose_runs_are_refused_holds_up_no_other_and_is_tried_again(
    app: Application, scheduler: Stalled, log: pytest.LogCaptureFixture
) -> None:
    stored("a-bad", "good")
    scheduler.look(0.5)

    with no_run_accepted(app, "a-bad"):
        for minutes in (1, 2, 3):
            scheduler.look(minutes)
        during = fired(app, "good")
    scheduler.look(4)
    scheduler.look(5)

    assert during == [1, 2, 3]
    assert fired(app, "good") == [1, 2, 3, 4, 5]
    assert fired(app, "a-bad") == [4, 5]
    failed = [line for line in log.messages if "could not start" in line]
    assert len(failed) == 1
    assert "Schedule a-bad" in failed[0]
    assert "a constraint of the database refused the change" in failed[0]


def test_a_schedule_whose_runs_are_refused_is_let_go_when_it_is_deleted(
    app: Application, scheduler: Stalled
) -> None:
    stored("a-bad", "good")
    scheduler.look(0.5)

    with no_run_accepted(app, "a-bad"):
        scheduler.look(1)
        DBOS.delete_schedule("a-bad")
        scheduler.look(1.9)
    scheduler.look(3)

    assert fired(app, "a-bad") == []
    assert fired(app, "good") == [1, 3]


def test_a_long_catch_up_goes_on_between_the_ticks_of_others(
    app: Application, scheduler: Stalled
) -> None:
    stored("a-long", automatic_backfill=True)
    stored("good")
    scheduler.look(0.5)

    late = BATCH + 100.5
    scheduler.look(late)
    first = fired(app, "a-long"), fired(app, "good")
    scheduler.look(late)

    assert first == (list(range(1, BATCH + 1)), [BATCH + 100])
    assert fired(app, "a-long") == list(range(1, BATCH + 101))
    assert fired(app, "good") == [BATCH + 100]


def test_a_schedule_with_backfill_whose_runs_were_refused_loses_no_tick_and_runs_none_twice(
    app: Application, scheduler: Stalled
) -> None:
    stored(automatic_backfill=True)
    scheduler.look(0.5)
    scheduler.look(1)

    with no_run_accepted(app):
        for minutes in (2, 3, 4):
            scheduler.look(minutes)
        during = fired(app)
    for minutes in (5, 6):
        scheduler.look(minutes)

    assert during == [1]
    assert fired(app) == [1, 2, 3, 4, 5, 6]


@kinds
def test_a_clock_that_is_set_back_does_not_leave_a_refused_schedule_waiting(
    app: Application, scheduler: Stalled, schedule: Callable[[], None]
) -> None:
    schedule()
    scheduler.look(0.5)

    with no_run_accepted(app):
        scheduler.look(61)
    scheduler.look(2.5)
    scheduler.look(3)

    assert fired(app) == [3]
