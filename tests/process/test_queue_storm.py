"""A bounded storm over limited queues, and the counting of its ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.process.jobs import QUEUES, Line, done_again, most_in_window, peaks
from tests.process.queues_storm import MOST, WORKERS, Outage, QueueStorm, gaps, tick_faults


@pytest.mark.timeout(240)
def test_no_limit_is_exceeded_and_every_job_is_done_while_workers_are_killed(
    database_url: str, tmp_path: Path
) -> None:
    jobs = 20

    found = QueueStorm(database_url, tmp_path, seed=2026, kills=4, jobs=jobs).run()

    assert found.violations == []
    assert found.kills == 4 + WORKERS
    # Whether as many ran together as may depends on the machine; that more wanted to does not.
    assert found.waiting.keys() == set(QUEUES)
    assert min(found.waiting.values()) >= jobs // 2 > max(MOST.values()) * WORKERS
    assert found.peaks.keys() >= MOST.keys()


def test_the_ledger_tells_how_many_ran_at_once() -> None:
    def line(at_ns: int, pid: int, kind: str, job: str) -> Line:
        return Line(at_ns, pid, kind, job, "global", "-")

    lines = [
        line(10, 1, "begin", "a"),
        line(20, 1, "begin", "b"),
        line(30, 1, "end", "a"),
        line(40, 2, "begin", "c"),
        line(60, 2, "begin", "b"),
    ]

    assert peaks(lines, {1: 50}) == {"global": 2}
    assert peaks(lines, {1: 70}) == {"global": 3}


def test_the_ledger_tells_the_fullest_window_and_what_was_done_again() -> None:
    work = Line(20, 1, "work", "a", "global", "-")
    known = Line(10, 1, "known", "a", "global", "-")

    assert most_in_window([0, 10, 999, 1000, 1001], 1000) == 4
    assert done_again([work, known]) == []
    assert done_again([known, work]) == ["a"]


def test_the_storm_tells_ticks_that_collapsed_from_ticks_that_were_lost_invented_or_not_run() -> (
    None
):
    at = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second) for second in range(30)]
    outage = Outage(at[3], at[5], at[7], {})

    def faults(*moments: datetime, idle: str = "") -> list[str]:
        runs = [f"sched-tick-{moment.isoformat()}" for moment in moments]
        lines = [Line(0, 1, "known", run, "tick", "-") for run in runs if run != idle]
        return tick_faults(lines, dict.fromkeys(runs, "SUCCESS"), outage)

    assert faults(at[1], at[2], at[3], at[8], at[9]) == []
    assert faults(at[2], at[8], at[13]) == []
    assert gaps([at[2], at[8], at[13]], outage) == [timedelta(seconds=5)]
    assert faults(at[2], at[8], at[14]) == ["no tick in 6.0 s"]
    assert faults(at[2], at[4], at[8]) == ["00:00:04 was due while no worker was up"]
    assert faults(at[1], at[2]) == ["no tick after the outage"]
    between = at[8] + timedelta(milliseconds=1)
    assert faults(at[2], at[8], between) == [f"{between} is no tick"]
    idle = f"sched-tick-{at[2].isoformat()}"
    assert faults(at[2], at[8], at[9], at[10], idle=idle) == [f"{idle} did not run"]
