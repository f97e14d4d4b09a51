"""A bounded storm over transactions, in both placements."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.hardship import Kind, place
from tests.process.transactions_storm import Placement, TransactionStorm


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("kind", "placement"), [("sqlite", "separate"), ("postgres", "system")])
def test_the_effects_of_a_transaction_are_there_once_however_often_its_process_is_killed(
    kind: Kind, placement: Placement, tmp_path: Path
) -> None:
    with place(kind, tmp_path) as where:
        found = TransactionStorm(where, placement, seed=2026, kills=3, orders=12).run()

    assert found.is_clean, found
    assert found.transactions == 72


@pytest.mark.timeout(240)
def test_the_storm_would_see_an_effect_that_is_missing_or_doubled(tmp_path: Path) -> None:
    with place("sqlite", tmp_path) as where:
        storm = TransactionStorm(where, "system", seed=2026, kills=0, orders=2)
        storm.run()
        storm.ask("DELETE FROM payments WHERE order_id = 'order-0-0' AND part = 0")
        storm.ask("INSERT INTO payments VALUES ('order-1-1', 2, 5)")

        found = storm.findings(0.0)

    assert found.missing == {("order-0-0", 0)}
    assert found.doubled == {("order-1-1", 2): 2}
    assert not found.is_clean
