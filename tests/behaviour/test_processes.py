"""Whole processes: those that forget to shut down, and those that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dbos import DBOS
from tests.behaviour.application import Application

SOURCES = Path(__file__).parents[2] / "src"

PREAMBLE = """
import asyncio, os, sys, threading, time
from dbos import DBOS, SetWorkflowID

config = {"name": "shop", "system_database_url": os.environ["URL"], "application_version": "v1"}
"""


def start(app: Application, program: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "URL": app.database_url, "PYTHONPATH": str(SOURCES)}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PREAMBLE + textwrap.dedent(program)],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


FORGETFUL = {
    "never constructs": "print('end')",
    "never launches": "DBOS(config=config); print('end')",
    "never destroys": "DBOS(config=config); DBOS.launch(); print('end')",
    "leaves a sync run": """
        @DBOS.workflow(name="endless")
        def endless():
            DBOS.sleep(3600)

        DBOS(config=config); DBOS.launch(); DBOS.start_workflow(endless); print('end')
        """,
    "leaves an async run": """
        @DBOS.workflow(name="endless")
        async def endless():
            await DBOS.sleep_async(3600)

        DBOS(config=config); DBOS.launch(); DBOS.start_workflow(endless); print('end')
        """,
    "leaves a blocked thread": """
        @DBOS.workflow(name="endless")
        def endless():
            threading.Event().wait()

        DBOS(config=config); DBOS.launch(); DBOS.start_workflow(endless); print('end')
        """,
    "leaves a closed loop": """
        @DBOS.workflow(name="endless")
        async def endless():
            await asyncio.sleep(3600)

        async def main():
            DBOS(config=config); DBOS.launch()
            await DBOS.start_workflow_async(endless)
            await asyncio.sleep(0)

        asyncio.run(main()); print('end')
        """,
}


@pytest.mark.parametrize("habit", FORGETFUL)
def test_a_process_that_forgets_to_shut_down_exits_promptly_and_without_a_traceback(
    shop: Application, habit: str
) -> None:
    process = start(shop, FORGETFUL[habit])
    try:
        output, errors = process.communicate(timeout=15)
    finally:
        process.kill()

    assert output == "end\n"
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


def test_the_work_of_a_killed_process_is_finished_here_without_a_restart(
    app: Application,
) -> None:
    ran: list[str] = []

    @DBOS.step(name="first")
    def first() -> str:
        ran.append("first")
        return "here"

    @DBOS.workflow(name="job")
    def job() -> str:
        return f"{first()} then {DBOS.workflow_id}"

    process = start(
        app,
        """
        @DBOS.step(name="first")
        def first():
            return "there"

        @DBOS.workflow(name="job")
        def job():
            word = first()
            print("recorded", flush=True)
            time.sleep(3600)

        DBOS(config=config); DBOS.launch()
        with SetWorkflowID("job"):
            job()
        """,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "recorded\n"
        process.send_signal(signal.SIGKILL)

    assert DBOS.get_result("job") == "there then job"
    assert ran == []


def test_a_process_with_the_same_label_leaves_live_runs_alone(app: Application) -> None:
    process = start(
        app,
        """
        @DBOS.workflow(name="job")
        def job():
            print("begun", flush=True)
            sys.stdin.readline()
            return "there"

        DBOS(config=config); DBOS.launch()
        with SetWorkflowID("job"):
            job()
        DBOS.destroy()
        """,
    )

    @DBOS.workflow(name="job")
    def job() -> str:
        return "here"

    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    app.relaunch()
    output, _ = process.communicate("go on\n", timeout=15)

    assert output == ""
    assert DBOS.get_result("job") == "there"
    assert app.column("job", "recovery_attempts") == 1
