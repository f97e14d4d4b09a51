"""A bounded storm over limited queues, and the counting of its ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.jobs import Line, done_again, most_in_window, peaks
from tests.process.queues_storm import MOST, QueueStorm


@pytest.mark.timeout(240)
def test_no_limit_is_exceeded_and_every_job_is_done_while_workers_are_killed(
    database_url: str, tmp_path: Path
) -> None:
    found = QueueStorm(database_url, tmp_path, seed=2026, kills=6, jobs=20).run()

    assert found.violations == []
    assert found.kills == 6
    assert {queue: found.peaks[queue] for queue in MOST} == MOST, "A limit was never reached."


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
