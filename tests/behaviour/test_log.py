"""What the log says and what it never says."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Flavour


@pytest.fixture
def debug(app: Application, log: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    DBOS.logger.setLevel(logging.DEBUG)
    yield log
    DBOS.logger.setLevel(logging.INFO)


def messages(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records]


def test_running_and_replaying_are_told_apart_at_debug_level(
    app: Application, api: Flavour, debug: pytest.LogCaptureFixture
) -> None:
    is_first = app.once()

    @api.step()
    async def pack() -> None:
        return None

    @api.workflow()
    async def run() -> None:
        await pack()
        await api.sleep(0.001)
        if is_first():
            app.cut_power()

    async def first_life() -> None:
        with SetWorkflowID("run"):
            await run()

    with pytest.raises(PowerCut):
        api.run(first_life)
    first = messages(debug)
    debug.clear()
    app.launch(log_level="DEBUG")
    DBOS.get_result("run")
    second = messages(debug)

    assert any("Running step" in line and "name: pack" in line for line in first)
    assert any("Running sleep" in line for line in first)
    assert any("Replaying step" in line and "name: pack" in line for line in second)
    assert any("Replaying sleep" in line for line in second)
    assert not any("Running" in line for line in second)


def test_arguments_results_errors_and_statements_are_never_logged(
    app: Application, api: Flavour, debug: pytest.LogCaptureFixture
) -> None:
    @api.step(retries_allowed=True, interval_seconds=0, max_attempts=2)
    async def fail(secret: str) -> None:
        raise ConnectionError(f"error with {secret}")

    @api.step()
    async def pack(secret: str) -> str:
        return f"packed {secret}"

    @api.workflow()
    async def run(secret: str) -> str:
        result = await pack(secret)
        try:
            await fail(secret)
        except Exception:
            return str(result)
        return "no error"

    async def scenario() -> Any:
        with SetWorkflowID("run"):
            await run("hunter2")
        with SetWorkflowID("run"):
            return await run("hunter2")

    assert api.run(scenario) == "packed hunter2"
    text = "\n".join(messages(debug))
    assert "hunter2" not in text
    for word in ("SELECT", "INSERT", "UPDATE ", "psycopg", "sqlite3"):
        assert word not in text


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_password_is_shown_in_no_line(shop: Application, log: pytest.LogCaptureFixture) -> None:
    shop.launch(log_level="DEBUG")
    password = shop.database_url.partition("@")[0].rpartition(":")[2]
    DBOS.destroy()

    assert len(password) > 3
    assert password not in "\n".join(messages(log))


def test_there_is_one_handler_however_often_one_constructs(app: Application) -> None:
    def ours() -> list[logging.Handler]:
        return [h for h in DBOS.logger.handlers if type(h).__module__.startswith("dbos")]

    before = ours()
    app.relaunch(log_level="WARNING")

    assert len(before) == 1
    assert ours() == before
    assert DBOS.logger.level == logging.WARNING
    assert DBOS.logger.name == "dbos"
    assert DBOS.logger.propagate is False


def test_the_level_of_the_console_is_its_own(
    shop: Application, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.launch(log_level="DEBUG", console_log_level="ERROR")
    DBOS.logger.info("not on the console")
    DBOS.logger.error("on the console")

    shown = capsys.readouterr().err
    assert "not on the console" not in shown
    assert "[   ERROR] (dbos:test_log.py:" in shown
    assert shown.rstrip().endswith(") on the console")


def test_unknown_and_ineffective_keys_are_reported_once(
    shop: Application, log: pytest.LogCaptureFixture
) -> None:
    shop.launch(unheard_of=1, conductor_key="k")

    warnings = [r.getMessage() for r in log.records if r.levelname == "WARNING"]
    assert [line for line in warnings if "unheard_of" in line] == warnings
    assert len(warnings) == 1
    assert len([line for line in messages(log) if "conductor_key" in line]) == 1
