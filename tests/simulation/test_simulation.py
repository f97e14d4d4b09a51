"""The simulation finds nothing in the engine, and finds every bug that is put there."""

from __future__ import annotations

import pytest

from tests.simulation.__main__ import main, regressions
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.storm import play

SEEDS_PER_BLOCK = 50
BLOCKS = range(2)
SEEDS_PER_MUTANT = 250


@pytest.mark.parametrize("block", BLOCKS)
def test_no_interleaving_of_faults_breaks_a_promise(block: int) -> None:
    seeds = range(block * SEEDS_PER_BLOCK, (block + 1) * SEEDS_PER_BLOCK)

    failed = {seed: found for seed in seeds if (found := play(seed).violations)}

    assert failed == {}


def test_seeds_that_once_failed_hold() -> None:
    failed = {seed: found for seed in regressions() if (found := play(seed).violations)}

    assert failed == {}


def test_a_seed_plays_the_same_twice() -> None:
    first = [play(seed) for seed in range(10)]

    second = [play(seed) for seed in range(10)]

    assert second == first
    assert len({verdict.mark for verdict in first}) == 10


def test_storms_lead_to_takeovers() -> None:
    verdicts = [play(seed) for seed in range(40)]

    assert sum(verdict.takeovers for verdict in verdicts) > 10
    assert sum(bool(verdict.story) for verdict in verdicts) > 20


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_seeded_bug_is_found(mutant: Mutant) -> None:
    with mutant.at_large():
        found = any(play(seed, mutant.focus).violations for seed in range(SEEDS_PER_MUTANT))

    assert found


def test_the_command_replays_a_seed_and_tells_its_story(capsys: pytest.CaptureFixture[str]) -> None:
    seed = next(seed for seed in range(100) if play(seed).story)

    code = main(["--seed", str(seed)])

    assert code == 0
    assert f"seed {seed}: no violation" in capsys.readouterr().out


def test_the_command_fails_when_a_seed_fails(capsys: pytest.CaptureFixture[str]) -> None:
    forgetful = next(mutant for mutant in MUTANTS if "replay" in mutant.name)

    with forgetful.at_large():
        code = main(["--seeds", "30", "--processes", "1"])

    assert code == 1
    assert "replay: python -m tests.simulation --seed" in capsys.readouterr().out
