"""Runs one measured program once, on one side, on a database of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from bench.databases import Databases
from bench.environments import Interpreter, prepare_cache
from bench.plan import Database, Row
from bench.results import Run
from bench.work.program import DATABASE_VARIABLE

TIMEOUT_S = 300.0
SHOWN_LINES = 15


def run_once(
    row: Row, database: Database, databases: Databases, interpreter: Interpreter, *, quick: bool
) -> Run:
    """A program that fails is a result too: it must not take the other rows with it."""
    failed = partial(Run, row.name, database, interpreter.side, None)
    command = [str(interpreter.python), "-m", f"bench.work.{row.program}"]
    command += row.arguments(quick=quick)
    with databases.fresh() as url:
        status, output, errors = _run(command, interpreter.environment() | {DATABASE_VARIABLE: url})
    if status != 0 or not output.strip():
        return failed(f"status {status}\n{_tail(errors)}")
    answer = json.loads(output.splitlines()[-1])
    if not Path(answer["package"]).is_relative_to(interpreter.origin):
        return failed(f"measured {answer['package']}, which is not in {interpreter.origin}")
    return Run(row.name, database, interpreter.side, answer["figures"])


def _run(command: list[str], environment: dict[str, str]) -> tuple[int | str, str, str]:
    """Runs in an empty folder and in a process group of its own, which ends with the program."""
    with tempfile.TemporaryDirectory(dir=prepare_cache(), prefix="run-") as folder:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_neutral_environment() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=TIMEOUT_S)
            return process.returncode, output, errors
        except subprocess.TimeoutExpired:
            # Nobody has waited for the leader yet, so the number still means this group alone.
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            return f"none after {TIMEOUT_S:g} s", output, errors


def _neutral_environment() -> dict[str, str]:
    """Ours without what changes how Python runs or how either package is configured."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "DBOS", "PG"))
    }


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-SHOWN_LINES:])
