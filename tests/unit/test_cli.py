"""The command line, run as users run it."""

from __future__ import annotations

import subprocess
import sys

from dbos.version import PACKAGE_VERSION

PROGRAM = "from dbos.cli import main; main()"


def test_the_version_command_prints_the_version() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, "version"], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{PACKAGE_VERSION}\n", "")


def test_an_unknown_command_is_wrong_usage() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, "juggle"], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert "juggle" in ended.stderr
