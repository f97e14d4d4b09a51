"""The page about exploring crashes: its examples run as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_the_examples_of_the_page_run_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "page"}

    for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        exec(compile(block, str(PAGE), "exec"), names)
    test = names["test_checkout_survives_every_crash"]
    assert callable(test)
    test()

    told = capsys.readouterr().out
    assert "commit record in workflow draw-1, step 1" in told
    assert "and without a crash it returned 'seat reserved by ticket 1'" in told
