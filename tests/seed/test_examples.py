"""Each example of the seed runs as printed; what it takes for granted is put around it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOS, DBOSConfig, Queue
from tests.seed.network import Site, aiohttp_for, requests_for, serving

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "seed"


def run_example(name: str, **given: Any) -> dict[str, Any]:
    """Run an example as a program, with the names it takes for granted; its globals."""
    path = EXAMPLES / f"{name}.py"
    program: dict[str, Any] = {"__name__": "__main__", "__file__": str(path), **given}
    exec(compile(path.read_text(), str(path), "exec"), program)
    return program


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def database(database_url: str) -> Iterator[str]:
    """An empty database, and no application but the one that the test makes."""
    DBOS.destroy(destroy_registry=True)
    yield database_url
    DBOS.destroy(destroy_registry=True)


@pytest.fixture
def launched(database: str) -> None:
    """A launched application, for examples that begin after the launch."""
    DBOS(config={"name": "my-app", "system_database_url": database})
    DBOS.launch()


def test_basic_application_structure(
    database: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBOS_SYSTEM_DATABASE_URL", database)

    program = run_example("basic_application_structure", requests=requests_for(site))

    assert program["result"] == "ok"
    assert site.asked == [("POST", "/", json.dumps({"data": "hello"}).encode())]


def test_basic_application_structure_without_a_database_url(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DBOS_SYSTEM_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)

    program = run_example("basic_application_structure", requests=requests_for(site))
    DBOS.destroy(destroy_registry=True)

    assert program["result"] == "ok"
    assert (tmp_path / "my_app.sqlite").exists()


@pytest.mark.usefixtures("launched")
def test_steps_with_retry_configuration(site: Site) -> None:
    program = run_example("steps_with_retry_configuration", DBOS=DBOS, requests=requests_for(site))

    @DBOS.workflow()
    def fetch(url: str) -> Any:
        return program["unreliable_api_call"](url)

    site.failures_left = 1

    assert json.loads(fetch("https://api.example.com/thing"))["path"] == "/thing"
    assert len(site.asked) == 2


@pytest.mark.usefixtures("launched")
def test_background_workflows(capsys: pytest.CaptureFixture[str]) -> None:
    def long_running_task(data: str) -> str:
        return f"{data} done"

    program = run_example("background_workflows", DBOS=DBOS, long_running_task=long_running_task)

    assert program["result"] == "input done"
    assert f"Workflow ID: {program['handle'].workflow_id}\n" in capsys.readouterr().out


@pytest.mark.usefixtures("launched")
def test_database_transactions() -> None:
    program = run_example("database_transactions", DBOS=DBOS)

    @DBOS.transaction()
    def create_tables() -> None:
        program["metadata"].drop_all(DBOS.sql_session.connection())
        program["metadata"].create_all(DBOS.sql_session.connection())

    create_tables()

    assert program["get_user"]("1") is None
    assert program["user_workflow"]("1", "Ada") == {"id": "1", "name": "Ada"}
    assert program["get_user"]("1") == {"id": "1", "name": "Ada"}


@pytest.mark.usefixtures("launched")
def test_idempotent_workflows() -> None:
    program = run_example("idempotent_workflows", DBOS=DBOS)

    answers = [program["handle_payment"]("7", 9.5) for _ in range(2)]

    assert answers == ["processed", "processed"]
    status = DBOS.get_workflow_status("payment-7")
    assert status is not None
    assert status.input == {"args": ("7", 9.5), "kwargs": {}}
    assert status.recovery_attempts == 1


@pytest.mark.usefixtures("launched")
def test_async_workflows(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", aiohttp_for(site))
    program = run_example("async_workflows", DBOS=DBOS)

    pages = asyncio.run(program["async_workflow"](["https://a.example/1", "https://a.example/2"]))

    assert [json.loads(page)["path"] for page in pages] == ["/1", "/2"]


APPLICATION = """
from dbos import DBOS, DBOSConfig, Queue

@DBOS.workflow()
def my_workflow(word: str) -> str:
    return "expected_output"
"""


def test_testing(tmp_path: Path) -> None:
    (tmp_path / "my_app.py").write_text(APPLICATION)
    example = (EXAMPLES / "testing.py").read_text()
    (tmp_path / "test_app.py").write_text("from my_app import my_workflow\n" + example)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}

    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_app.py"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout
        assert "1 passed" in ran.stdout
    assert (tmp_path / "test_app.sqlite").exists()


def test_class_based_workflows(database: str, site: Site) -> None:
    DBOS(config={"name": "my-app", "system_database_url": database})

    program = run_example("class_based_workflows", DBOS=DBOS, requests=requests_for(site))

    assert program["result"] == {"transformed": {"status": "ok", "path": "/data"}}


@pytest.mark.usefixtures("launched")
def test_queue_based_processing() -> None:
    program = run_example("queue_based_processing", DBOS=DBOS)

    assert program["result"] == "Completed task 123"
    assert program["rate_limited_queue"].limiter == {"limit": 100, "period": 60}


@pytest.mark.usefixtures("launched")
def test_queue_with_partitioning() -> None:
    """Of each user one action at a time, in order, while the users go on side by side."""
    program = run_example("queue_with_partitioning", DBOS=DBOS, Queue=Queue)
    ledger: dict[str, list[int]] = {}
    begun: list[str] = []
    both_run = threading.Barrier(2)

    @DBOS.workflow()
    def act(user_id: str, number: int) -> str:
        begun.append(user_id)
        alone = begun.count(user_id) == 1
        if number == 0:
            # Neither user goes on before the other one runs as well.
            both_run.wait(timeout=60)
        DBOS.sleep(0.001 * (5 - number))
        ledger.setdefault(user_id, []).append(number)
        begun.remove(user_id)
        return "alone" if alone else "crowded"

    handles = [
        program["queue"].enqueue(act, user_id, number, partition_key=user_id)
        for number in range(5)
        for user_id in ("ann", "bob")
    ]
    told = {handle.get_result() for handle in handles}

    assert ledger == {"ann": [0, 1, 2, 3, 4], "bob": [0, 1, 2, 3, 4]}
    assert told == {"alone"}


def test_scheduled_workflows(database: str) -> None:
    done: list[str] = []
    DBOS(config={"name": "my-app", "system_database_url": database})

    program = run_example(
        "scheduled_workflows",
        DBOS=DBOS,
        perform_backup=lambda: done.append("backup"),
        check_system_health=lambda: "healthy",
    )

    now = datetime.now(UTC)
    assert program["daily_backup"](now, now) == "backup_completed"
    assert done == ["backup"]
    assert program["health_check"](now, now) == "healthy"


def test_configuration_options(database: str, tmp_path: Path) -> None:
    config = run_example("configuration_options", DBOSConfig=DBOSConfig)["config"]

    config["system_database_url"] = database
    config["application_database_url"] = f"sqlite:///{tmp_path / 'application.sqlite'}"
    DBOS(config=config)
    DBOS.launch()

    assert DBOS.application_version == "1.0.0"
    assert DBOS.logger.getEffectiveLevel() == logging.INFO


@pytest.mark.usefixtures("launched")
def test_debouncing() -> None:
    program = run_example("debouncing", DBOS=DBOS)

    for typed in ("h", "he", "hello"):
        program["on_user_keystroke"]("ann", typed)
    program["on_user_keystroke"]("bob", "bye")
    delayed = DBOS.list_workflows(name=program["process_user_input"].__qualname__)
    for status in delayed:
        DBOS.set_workflow_delay(status.workflow_id, delay_seconds=0)

    assert [status.status for status in delayed] == ["DELAYED", "DELAYED"]
    results = {DBOS.get_result(status.workflow_id) for status in delayed}
    assert results == {"Processing: hello", "Processing: bye"}


@pytest.mark.usefixtures("launched")
def test_workflow_introspection() -> None:
    @DBOS.step()
    def add(number: int) -> int:
        return number + 1

    @DBOS.workflow()
    def count() -> int:
        return add(add(add(0)))

    handle = DBOS.start_workflow(count)
    assert handle.get_result() == 3

    program = run_example("workflow_introspection", DBOS=DBOS, workflow_id=handle.workflow_id)

    assert program["pending"] == []
    assert [status.workflow_id for status in program["completed"]] == [handle.workflow_id]
    assert [step["function_name"].rpartition(".")[2] for step in program["steps"]] == ["add"] * 3
    [fork] = DBOS.list_workflows(forked_from=handle.workflow_id)
    assert DBOS.get_result(fork.workflow_id) == 3
