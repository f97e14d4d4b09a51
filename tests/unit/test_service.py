"""How long a service pauses after failures."""

from __future__ import annotations

import pytest

from dbos.runtime.service import back_off_s


@pytest.mark.parametrize(("failures", "pause_s"), [(1, 1), (2, 2), (3, 4), (4, 5), (100, 5)])
def test_the_pause_doubles_up_to_five_seconds(failures: int, pause_s: float) -> None:
    assert back_off_s(failures) == pause_s


def test_an_outage_of_hours_does_not_end_the_tries() -> None:
    # The thousand-and-somethingth power of two is beyond any float.
    assert back_off_s(5000) == 5
