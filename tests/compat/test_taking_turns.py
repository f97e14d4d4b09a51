"""A database made by the reference is finished by us, and one made by us by the reference."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from bench.environments import Interpreter, ours, reference

SHOP = Path(__file__).with_name("shop.py")
HELD = 6
OUTCOMES = {
    "refused": "Refused: not today",
    "order": "Order(number=2, lines=('a', 'b', 'noted first', 'noted last'))",
    "order_async": "Order(number=2, lines=('noted first', 'noted last'))",
    "listen": "[Order(number=1, lines=('a', 'b')), Order(number=2, lines=())]",
    "parent": "3",
    "job-1": "1",
    "job-2": "2",
    "doze": "'noted awake'",
    "event": "Order(number=1, lines=('a', 'b'))",
    "stream": "[Order(number=1, lines=('a', 'b')), 'last']",
}


@pytest.fixture(scope="session")
def theirs() -> Interpreter:
    """The reference, in an environment of its own that is made when it is first needed."""
    return reference(None)


def program(side: Interpreter, database_url: str, ledger: Path, stage: str) -> list[str]:
    return [str(side.python), str(SHOP), database_url, str(ledger), stage, side.side]


def environment(side: Interpreter) -> dict[str, str]:
    return {**os.environ, **side.environment()}


def begin_and_kill(side: Interpreter, database_url: str, ledger: Path) -> None:
    """Run the application until all its runs are held, and kill it there."""
    with subprocess.Popen(
        program(side, database_url, ledger, "begin"),
        env=environment(side),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        # All are held but the second job, which waits in its queue, and the one that sleeps.
        said = Counter(process.stdout.readline().strip() for _ in range(HELD))
        process.kill()
    assert said == {"held": HELD - 1, "started": 1}


def finish(side: Interpreter, database_url: str, ledger: Path) -> dict[str, str]:
    ended = subprocess.run(
        program(side, database_url, ledger, "finish"),
        env=environment(side),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=100,
    )
    found: dict[str, str] = json.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(300)
def test_runs_that_the_reference_left_in_the_middle_are_finished_here(
    theirs: Interpreter, database_url: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    begin_and_kill(theirs, database_url, ledger)

    found = finish(ours(), database_url, ledger)

    assert found == OUTCOMES
    assert max(Counter(ledger.read_text().splitlines()).values()) == 1


@pytest.mark.timeout(300)
def test_runs_that_we_left_in_the_middle_are_finished_by_the_reference(
    theirs: Interpreter, database_url: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    begin_and_kill(ours(), database_url, ledger)

    found = finish(theirs, database_url, ledger)

    assert found == OUTCOMES
    assert max(Counter(ledger.read_text().splitlines()).values()) == 1
