"""Deploys: a process is killed amid three workflows, and the next one has one of them edited."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOSClient
from tests.process import lives
from tests.support.postgres import wait_until

DESK = Path(__file__).with_name("dispatch_desk.py")
RUNS = {"bill": "b1", "pack": "p1", "ship": "s1"}
IN_FLIGHT = {("b1", "do"), ("p1", "do"), ("p1", "DBOS.sleep"), ("s1", "do")}
WITHIN_S = 30.0

pytestmark = pytest.mark.timeout(120)


class Desk:
    """The application in a directory of its own, the database it uses, and a client beside it."""

    def __init__(self, url: str, directory: Path, client: DBOSClient) -> None:
        self._url = url
        self._file = directory / DESK.name
        self._diary = directory / "diary"
        self.client = client
        self._file.write_text(DESK.read_text())

    @contextmanager
    def open(self, *runs: str, **settings: Any) -> Iterator[subprocess.Popen[str]]:
        """A launched process of the application as its source is now; killed in the end."""
        command = [sys.executable, str(self._file), self._url, str(self._diary)]
        process = subprocess.Popen(
            [*command, json.dumps(settings), *runs],
            env=lives.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield process
            finally:
                process.kill()

    def crash_in_flight(self, **settings: Any) -> None:
        """Kill a process amid one run of each workflow, which waits after its first step."""
        with self.open(*(word for run in RUNS.items() for word in run), **settings):
            wait_until(lambda: self._recorded() >= IN_FLIGHT, WITHIN_S)

    def edit(self, old: str, new: str) -> None:
        """Rewrite the source, as a deploy does."""
        source = self._file.read_text()
        assert source.count(old) == 1
        self._file.write_text(source.replace(old, new))

    def send(self, run_id: str, word: str, topic: str) -> None:
        self.client.send(run_id, word, topic)

    def result(self, run_id: str) -> str:
        result: str = self.client.retrieve_workflow(run_id).get_result()
        return result

    def stranded(self) -> list[tuple[str, str | None]]:
        listed = self.client.list_workflows(stranded=True)
        return [(status.workflow_id, status.stranded_reason) for status in listed]

    def diary(self, run_id: str) -> list[str]:
        """What the steps of a run did, in all its processes."""
        lines = [line.split() for line in self._diary.read_text().splitlines()]
        return [what for run, what in lines if run == run_id]

    def _recorded(self) -> set[tuple[str, str]]:
        return {
            (run_id, step["function_name"])
            for run_id in RUNS.values()
            for step in self.client.list_workflow_steps(run_id)
        }


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    """A copy of the application; its client connects when there is a schema."""
    client = DBOSClient(system_database_url=database_url, lazy=True)
    yield Desk(database_url, tmp_path, client)
    client.destroy()


def test_a_deploy_strands_only_the_runs_of_the_workflow_it_edited(desk: Desk) -> None:
    desk.crash_in_flight()
    desk.edit('f"shipped by', 'f"sent by')

    with desk.open():
        desk.send("b1", "ann", "payer")
        desk.send("s1", "ship", "carrier")
        finished = [desk.result("b1"), desk.result("p1")]
        stranded = desk.stranded()
    with desk.open(version_policy="any"):
        changed = desk.result("s1")
        left = desk.stranded()

    assert finished == ["billed to ann", "packed"]
    assert stranded == [("s1", "version")]
    assert changed == "sent by ship"
    assert left == []
    assert desk.diary("b1") == ["weigh"]
    assert desk.diary("p1") == ["fetch", "wrap"]
    assert desk.diary("s1") == ["label"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_stranded_run_goes_on_by_itself_where_its_old_source_still_runs(desk: Desk) -> None:
    desk.crash_in_flight()
    desk.edit('f"shipped by', 'f"sent by')
    with desk.open():
        desk.send("s1", "ship", "carrier")
        desk.result("p1")
        stranded = desk.stranded()
        desk.edit('f"sent by', 'f"shipped by')

        with desk.open():
            result = desk.result("s1")

    assert stranded == [("s1", "version")]
    assert result == "shipped by ship"


def test_a_patched_workflow_goes_on_in_its_old_way_and_begins_in_its_new_one(desk: Desk) -> None:
    desk.crash_in_flight(enable_patching=True)
    desk.edit(
        '    do("label")', '    if DBOS.patch("insured"):\n        do("insure")\n    do("label")'
    )

    with desk.open("ship", "s2", enable_patching=True):
        desk.send("b1", "ann", "payer")
        desk.send("s1", "ship", "carrier")
        desk.send("s2", "rail", "carrier")
        results = [desk.result(run_id) for run_id in ("b1", "p1", "s1", "s2")]

    assert results == ["billed to ann", "packed", "shipped by ship", "shipped by rail"]
    assert desk.diary("s1") == ["label"]
    assert desk.diary("s2") == ["insure", "label"]
