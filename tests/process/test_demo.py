"""The demonstration shows what it promises."""

from __future__ import annotations

import subprocess
import sys

from tests.process.lives import ROOT, environment


def test_the_demonstration_succeeds_and_says_so() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "dbos.testing.demo"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert shown.stderr == ""
    assert shown.returncode == 0
    assert "steps done                    5 of 5" in shown.stdout
    assert "recorded steps run again      0" in shown.stdout
    assert shown.stdout.endswith("Everything checks.\n")
