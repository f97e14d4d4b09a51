"""The life of the facade: construction, launch, destruction, reset, and several engines."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from dbos.api.assembly import LaunchedEngine
from dbos.api.slot import SLOT
from dbos.config import settings_from
from dbos.engine.registry import Registry
from dbos.error import (
    DBOSDatabaseError,
    DBOSException,
    DBOSInitializationError,
    DBOSUsageError,
)
from tests.behaviour.application import Application


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def lines(log: pytest.LogCaptureFixture, level: str) -> list[str]:
    return [r.getMessage() for r in log.records if r.levelname == level]


def test_constructing_again_returns_the_instance_and_ignores_the_arguments(
    shop: Application,
) -> None:
    first = DBOS(config=shop.config())

    assert DBOS(config={"name": "another-one"}) is first
    assert DBOS(config={"name": "!"}) is first


def test_a_configuration_is_required_by_keyword(shop: Application) -> None:
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'config'"):
        DBOS()  # type: ignore[call-arg]


def test_a_constructor_that_fails_leaves_no_instance(shop: Application) -> None:
    with pytest.raises(DBOSInitializationError, match="Invalid app name"):
        DBOS(config={"name": "No Such Name"})

    with pytest.raises(DBOSException, match="No DBOS was created yet"):
        DBOS.get_workflow_status("x")


def test_the_configuration_is_copied(shop: Application) -> None:
    config = shop.config()
    before = dict(config)

    DBOS(config=config)
    config["executor_id"] = "changed"

    assert {**config, "executor_id": None} == {**before, "executor_id": None}
    assert DBOS.executor_id == "local"


def test_launch_says_so_and_again_only_warns(
    shop: Application, log: pytest.LogCaptureFixture
) -> None:
    shop.launch()
    incarnation = DBOS.incarnation_id
    DBOS.launch()

    assert "DBOS launched!" in lines(log, "INFO")
    assert "DBOS was already launched" in lines(log, "WARNING")
    assert DBOS.incarnation_id == incarnation


def test_launch_without_an_instance_warns_and_does_nothing(
    shop: Application, log: pytest.LogCaptureFixture
) -> None:
    DBOS.launch()

    assert len(lines(log, "WARNING")) == 1
    assert DBOS.incarnation_id is None


def test_destroy_is_safe_twice_and_without_an_instance(
    app: Application, log: pytest.LogCaptureFixture
) -> None:
    DBOS.destroy()
    DBOS.destroy()

    assert lines(log, "INFO").count("DBOS successfully shut down") == 1
    assert DBOS.incarnation_id is None


def test_an_idle_engine_does_not_wait_out_the_time_it_was_given(app: Application) -> None:
    DBOS.destroy(workflow_completion_timeout_sec=3600)

    assert not [t.name for t in threading.enumerate() if t.name.startswith("dbos-")]


def test_destroy_gives_the_lease_back(app: Application) -> None:
    [(owner,)] = app.rows("SELECT incarnation_id FROM {perdure_executors}")
    incarnation = DBOS.incarnation_id

    DBOS.destroy()

    assert owner == incarnation
    assert app.count("perdure_executors") == 0


def test_destroy_waits_for_background_runs_and_returns_when_none_is_left(
    app: Application,
) -> None:
    go = threading.Event()

    @DBOS.workflow()
    def slow() -> str:
        go.wait(10)
        return "done"

    with SetWorkflowID("slow"):
        DBOS.start_workflow(slow)
    threading.Timer(0.2, go.set).start()
    DBOS.destroy(workflow_completion_timeout_sec=3600)

    assert app.column("slow", "status") == "SUCCESS"


def test_without_a_wait_destroy_leaves_background_runs_to_the_next_launch(
    app: Application,
) -> None:
    begun, go = threading.Event(), threading.Event()
    is_first = app.once()

    @DBOS.workflow()
    def slow() -> str:
        if is_first():
            begun.set()
            go.wait(10)
            return "too late"
        return "recovered"

    with SetWorkflowID("slow"):
        DBOS.start_workflow(slow)
    assert begun.wait(10)
    app.relaunch()
    go.set()

    assert DBOS.get_result("slow") == "recovered"


def test_a_thread_still_inside_a_step_records_nothing_after_destroy(app: Application) -> None:
    begun, go, over = threading.Event(), threading.Event(), threading.Event()

    @DBOS.step()
    def step() -> str:
        begun.set()
        go.wait(10)
        over.set()
        return "late"

    @DBOS.workflow()
    def slow() -> str:
        return step()

    with SetWorkflowID("slow"):
        DBOS.start_workflow(slow)
    assert begun.wait(10)
    DBOS.destroy()
    go.set()
    assert over.wait(10)

    assert app.steps("slow") == []
    assert app.column("slow", "status") == "PENDING"


def test_functions_outlive_an_instance(app: Application, log: pytest.LogCaptureFixture) -> None:
    @DBOS.workflow()
    def keep() -> str:
        return "kept"

    app.relaunch()

    assert keep() == "kept"
    assert lines(log, "WARNING") == []


def test_functions_are_forgotten_on_request(
    app: Application, log: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):

        @DBOS.workflow(name="same")
        def same() -> None:
            return None

        DBOS.destroy(destroy_registry=True)
        app.launch()

    assert lines(log, "WARNING") == []


def test_a_workflow_can_be_decorated_after_launch(app: Application) -> None:
    @DBOS.workflow()
    def late() -> str:
        return "late"

    assert late() == "late"


def test_a_failed_launch_is_logged_rolled_back_and_can_be_retried(
    shop: Application, closed_port: int, log: pytest.LogCaptureFixture
) -> None:
    DBOS(
        config=shop.config(
            system_database_url=f"postgresql://user:hidden@127.0.0.1:{closed_port}/nowhere"
        )
    )
    for _ in range(2):
        with pytest.raises(DBOSDatabaseError) as caught:
            DBOS.launch()
        assert "hidden" not in str(caught.value)
        assert caught.value.__cause__ is None

    assert DBOS.incarnation_id is None
    assert [line for line in lines(log, "ERROR") if line.startswith("DBOS failed to launch:")]
    assert "hidden" not in log.text
    assert not [t.name for t in threading.enumerate() if t.name.startswith("dbos-")]
    DBOS.destroy()
    shop.launch()
    assert DBOS.incarnation_id is not None


@pytest.mark.usefixtures("empty_database")
def test_launch_without_migrations_refuses_an_empty_database_and_creates_nothing(
    shop: Application,
) -> None:
    with pytest.raises(DBOSInitializationError):
        shop.launch(run_migrations=False)
    DBOS.destroy()
    shop.launch(run_migrations=True)
    shop.relaunch(run_migrations=False)

    assert DBOS.incarnation_id is not None


@pytest.mark.usefixtures("empty_database")
def test_several_processes_may_launch_at_once_on_an_empty_database(shop: Application) -> None:
    engines = [LaunchedEngine(settings_from(shop.config()), Registry()) for _ in range(4)]
    errors: list[BaseException] = []

    def launch(engine: LaunchedEngine) -> None:
        try:
            engine.launch()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=launch, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    alive = shop.count("perdure_executors")
    for engine in engines:
        engine.close(0)

    assert errors == []
    assert alive == 4


def test_a_second_engine_of_the_process_takes_over_what_the_first_one_leaves(
    app: Application,
) -> None:
    second = LaunchedEngine(settings_from(app.config()), SLOT.registry)
    second.launch()
    begun, go = threading.Event(), threading.Event()
    is_first = app.once()

    @DBOS.workflow()
    def slow() -> str:
        if is_first():
            begun.set()
            go.wait(10)
        return "done"

    try:
        with SetWorkflowID("slow"):
            DBOS.start_workflow(slow)
        assert begun.wait(10)
        DBOS.destroy()
        deadline = time.monotonic() + 10
        while app.column("slow", "status") != "SUCCESS" and time.monotonic() < deadline:
            go.wait(0.05)
        assert app.column("slow", "status") == "SUCCESS"
        assert app.column("slow", "incarnation_id") == second.engine.identity.incarnation_id
    finally:
        go.set()
        second.close(0)


def test_destroy_from_inside_the_main_loop_is_safe(shop: Application) -> None:
    async def scenario() -> None:
        shop.launch()
        DBOS.destroy()

    asyncio.run(scenario())

    assert DBOS.incarnation_id is None


class TestReset:
    """`reset_system_database` removes what is ours, and nothing else."""

    def test_runs_are_gone_and_tables_of_the_user_stay(self, app: Application) -> None:
        @DBOS.workflow()
        def run() -> None:
            return None

        run()
        app.change("CREATE TABLE customers (name TEXT)")
        DBOS.destroy()
        DBOS(config=app.config())
        DBOS.reset_system_database()
        DBOS.launch()

        assert app.count("workflow_status") == 0
        app.change("INSERT INTO customers VALUES ('Ann')")
        app.change("DROP TABLE customers")

    def test_truncate_only_empties_the_tables(self, app: Application) -> None:
        @DBOS.workflow()
        def run() -> None:
            return None

        run()
        DBOS.destroy()
        DBOS.reset_system_database(system_database_url=app.database_url, truncate=True)

        assert app.count("workflow_status") == 0

    def test_after_launch_it_is_refused(self, app: Application) -> None:
        with pytest.raises(DBOSUsageError, match="after"):
            DBOS.reset_system_database()

    def test_without_an_instance_it_needs_a_url(
        self, shop: Application, log: pytest.LogCaptureFixture
    ) -> None:
        DBOS.reset_system_database()

        assert len(lines(log, "WARNING")) == 1

    def test_a_missing_database_or_schema_is_fine(self, shop: Application) -> None:
        DBOS.reset_system_database(system_database_url=shop.database_url)
        DBOS(config=shop.config())
        DBOS.reset_system_database()
        DBOS.reset_system_database(truncate=True)
        missing: Any = f"{shop.database_url}_missing"
        DBOS.reset_system_database(system_database_url=missing)
