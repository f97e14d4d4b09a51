"""A bounded storm of clients, and the counting of what they were promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.client_errands import CUT_OFF, Told
from tests.process.client_storm import ClientStorm, faults
from tests.process.jobs import Line

TOLD = Told(
    expected={"job-1": [[1, 0, 1]], "chain-2": [[0, 1], CUT_OFF]},
    results={"job-1": [1, 0, 1], "chain-2": CUT_OFF},
    rolled_back=["rolled-back-3"],
)
STATUSES = {"job-1": "SUCCESS", "chain-2": "ERROR", "chain-2-3": "SUCCESS"}


def line(kind: str, place: str) -> Line:
    return Line(0, 1, kind, place, "-", "-")


DONE = [line(kind, f"job-1/{step}") for step in range(2) for kind in ("work", "known")]


@pytest.mark.timeout(240)
def test_nothing_is_lost_or_doubled_while_clients_steer_and_workers_are_killed(
    database_url: str, tmp_path: Path
) -> None:
    found = ClientStorm(database_url, tmp_path, seed=2026, kills=2, runs=12).run()

    assert found.violations == []
    assert found.kills > 0
    assert found.commands["resume_workflows"] > 0


def test_nothing_is_found_where_every_promise_is_kept() -> None:
    assert faults(TOLD, STATUSES, DONE) == []


@pytest.mark.parametrize(
    ("statuses", "lines", "fault"),
    [
        ({"job-1": "ERROR"}, [], "job-1 is ERROR"),
        ({"chain-2": "ENQUEUED"}, [], "chain-2 has no outcome"),
        ({"rolled-back-3": "SUCCESS"}, [], "rolled-back-3 was rolled back and is there"),
        ({"job-9": "SUCCESS"}, [], "job-9 was never asked for"),
        ({}, [line("work", "job-1/1")], "job-1/1 was done again"),
    ],
)
def test_a_broken_promise_is_found(statuses: dict[str, str], lines: list[Line], fault: str) -> None:
    assert fault in faults(TOLD, STATUSES | statuses, DONE + lines)


def test_a_step_that_was_never_done_is_found() -> None:
    assert "job-1/1 was never done" in faults(TOLD, STATUSES, DONE[:2])
