"""Real processes that are killed, interrupted, or just end, and what is left of their work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.driver import Storm, Weather, count_tracebacks
from tests.process.errands import BLOCKING_KINDS, LARGEST_NUMBER, Errand
from tests.process.ledger import Entry, Snapshot, read_ledger, runs_after_record
from tests.process.lives import ROOT, Heard, Life, environment
from tests.process.observer import Observer
from tests.process.storm import complaints
from tests.support.postgres import wait_until

SEED = 2026
TAKEOVER_S = 10.0


@pytest.mark.timeout(240)
def test_nothing_is_lost_wrong_or_run_again_in_a_storm_of_kills(
    database_url: str, tmp_path: Path
) -> None:
    weather = Weather(SEED, kills=22, errands=220)

    outcome = Storm(database_url, tmp_path, weather).run()

    assert complaints(outcome) == []
    assert outcome.kills == 22
    assert 0 < outcome.kills_at_start_up < 22
    assert outcome.repeated_unrecorded > 0, "No kill hit a workflow: the storm shows nothing."


@pytest.mark.timeout(240)
def test_two_storms_over_one_database_leave_no_trace_either(
    database_url: str, tmp_path: Path
) -> None:
    weather = Weather(SEED, kills=6, errands=60, seats=2)

    outcome = Storm(database_url, tmp_path, weather).run()

    assert complaints(outcome) == []
    assert outcome.kills == 12


def test_a_live_process_takes_over_from_one_killed_for_good(
    database_url: str, tmp_path: Path
) -> None:
    errands = [
        Errand(f"{kind}{number}", kind, "background", number)
        for number in range(10)
        for kind in BLOCKING_KINDS
    ]
    observer = Observer(database_url)

    with worker(database_url, tmp_path) as survivor, worker(database_url, tmp_path) as victim:
        for errand in errands:
            victim.send(errand)
        _listen_until_acknowledged(victim, errands)
        victim.kill()
        snapshot = observer.snapshot()
        unfinished = observer.active()
        results = _results(survivor, errands, TAKEOVER_S)

    assert results == {errand.workflow_id: str(errand.expected) for errand in errands}
    assert unfinished, "The victim had nothing left to take over."
    assert runs_after_record(read_ledger(tmp_path), [snapshot]) == {}
    assert observer.active() == []
    assert count_tracebacks(tmp_path) == 0


def test_a_process_frozen_beyond_its_lease_loses_its_work_and_records_nothing_more(
    database_url: str, tmp_path: Path
) -> None:
    three_s = 3 * LARGEST_NUMBER
    errands = [Errand(f"chain{n}", "chain", "background", three_s + n) for n in range(10)]
    asleep = {(errand.workflow_id, 2) for errand in errands}
    observer = Observer(database_url)

    with (
        worker(database_url, tmp_path, lease_s=1.0) as survivor,
        worker(database_url, tmp_path, lease_s=1.0) as zombie,
    ):
        for errand in errands:
            zombie.send(errand)
        # Frozen in the middle of a transaction, it would keep its locks: another story.
        wait_until(lambda: asleep <= observer.snapshot().recorded, TAKEOVER_S)
        zombie.freeze()
        unfinished = observer.active()
        told = _results(survivor, errands, TAKEOVER_S + 10)
        zombie.thaw()
        told_by_zombie = _results(zombie, errands, TAKEOVER_S)
        codes = [zombie.end(), survivor.end()]

    assert set(unfinished) == {errand.workflow_id for errand in errands}
    assert told == {errand.workflow_id: str(errand.expected) for errand in errands}
    assert told_by_zombie == told
    assert runs_after_record(read_ledger(tmp_path), []) == {}
    assert codes == [0, 0]
    assert count_tracebacks(tmp_path) == 0


def test_the_ledger_tells_a_step_that_began_after_its_record_was_seen() -> None:
    def begin(at_ns: int, step_id: int) -> Entry:
        return Entry(at_ns, 1, "begin", ("run", step_id), "add")

    known = Entry(40, 1, "known", ("run", 2), "-")
    entries = [begin(10, 1), begin(20, 2), begin(30, 1), known, begin(50, 2), begin(60, 3)]
    snapshot = Snapshot(35, frozenset({("run", 1)}), frozenset())
    earlier = Snapshot(25, frozenset({("run", 1)}), frozenset())

    assert runs_after_record(entries, [snapshot]) == {("run", 2): begin(50, 2)}
    assert runs_after_record(entries, [snapshot, earlier]) == {
        ("run", 1): begin(30, 1),
        ("run", 2): begin(50, 2),
    }


@pytest.mark.parametrize("manner", ["idle", "never launched", "never constructed"])
def test_a_program_that_forgets_destroy_ends_at_once_and_in_silence(
    database_url: str, manner: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.process.departures", database_url, manner],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert ended.stderr == ""
    assert ended.returncode == 0
    assert ended.stdout == ("hello\n" if manner == "idle" else "")


@pytest.mark.parametrize("manner", ["waiting", "calling", "parked"])
def test_ctrl_c_ends_a_program_with_the_one_traceback_of_python(
    database_url: str, manner: str
) -> None:
    code, said = _depart(database_url, manner, signal.SIGINT)

    assert said.count("Traceback") == 1
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "Exception ignored" not in said
    assert code == -signal.SIGINT
    assert Observer(database_url).active() == ["long"]


def test_sigterm_ends_a_program_without_a_word(database_url: str) -> None:
    code, said = _depart(database_url, "parked", signal.SIGTERM)

    assert said == ""
    assert code == -signal.SIGTERM


@contextmanager
def worker(database_url: str, directory: Path, *, lease_s: float = 15.0) -> Iterator[Life]:
    """A launched worker, which is made to end with the block."""
    life = Life(database_url, directory, Heard(), lease_s=lease_s)
    try:
        life.be_ready()
        yield life
    finally:
        life.abandon()


def _listen_until_acknowledged(life: Life, errands: list[Errand]) -> None:
    deadline = time.monotonic() + TAKEOVER_S
    while len(life.heard.acknowledged) < len(errands):
        assert life.listen(deadline)


def _results(life: Life, errands: list[Errand], timeout_s: float) -> dict[str, str]:
    """The results of all errands, as this worker tells them within the time."""
    deadline = time.monotonic() + timeout_s
    for errand in errands:
        life.ask_result(errand.workflow_id)
    while len(life.heard.results) < len(errands):
        assert life.listen(deadline), "The work was not done in time."
    return life.heard.results


def _depart(database_url: str, manner: str, how: signal.Signals) -> tuple[int, str]:
    """Send a signal to a program whose workflow sleeps: exit code and last words."""
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.process.departures", database_url, manner],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "asleep\n"
            os.kill(program.pid, how)
            _, said = program.communicate(timeout=30)
        finally:
            program.kill()
    return program.returncode, said
