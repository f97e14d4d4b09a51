"""The logger: one handler, the right levels, the words users match, and no payloads."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from dbos.errors import DBOSDatabaseError, DBOSInvalidInputError
from dbos.telemetry import log


@pytest.fixture(autouse=True)
def _untouched_logger() -> Iterator[None]:
    """The logger as it was before the test."""
    logger = log.logger
    handlers, level, propagates = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = propagates


@pytest.fixture
def lines() -> list[tuple[int, str]]:
    """The lines written at any level, in order."""
    log.set_up(logging.DEBUG, logging.CRITICAL)
    written: list[tuple[int, str]] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append((record.levelno, record.getMessage()))

    log.logger.addHandler(Recorder())
    return written


def test_setting_up_twice_changes_levels_and_adds_no_handler() -> None:
    log.set_up(logging.INFO)
    log.set_up(logging.ERROR)

    consoles = [h for h in log.logger.handlers if h.name == log.CONSOLE_HANDLER_NAME]
    assert len(consoles) == 1
    assert consoles[0].level == logging.ERROR
    assert log.logger.level == logging.ERROR
    assert log.logger.propagate is False


def test_handlers_of_the_program_stay() -> None:
    mine = logging.NullHandler()
    log.logger.addHandler(mine)

    log.set_up(logging.INFO)

    assert mine in log.logger.handlers


def test_a_line_has_the_documented_form(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    log.set_up(logging.INFO)
    monkeypatch.setattr(sys, "stderr", stderr)

    log.launched()

    pattern = (
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[    INFO\] "
        r"\(dbos:test_logging\.py:\d+\) DBOS launched!\n"
    )
    assert re.fullmatch(pattern, stderr.getvalue())


def test_the_console_has_a_level_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    log.set_up(logging.DEBUG, logging.WARNING)
    monkeypatch.setattr(sys, "stderr", stderr)

    log.launched()
    log.already_launched()

    assert "DBOS launched!" not in stderr.getvalue()
    assert "DBOS was already launched" in stderr.getvalue()


def test_a_sink_may_want_more_than_the_general_level() -> None:
    log.set_up(logging.WARNING, logging.ERROR, logging.DEBUG)

    assert log.logger.level == logging.DEBUG


def test_the_words_a_user_may_match(lines: list[tuple[int, str]]) -> None:
    log.running_step("charge")
    log.replaying_step("charge")
    log.running_step("DBOS.sleep")
    log.running_step("DBOS.recv")
    log.running_step("DBOS.getEvent")
    log.replaying_step("DBOS.setEvent")
    log.running_step("DBOS.send")
    log.running_transaction("pay")
    log.replaying_transaction("pay")
    log.already_run("order", "w-1", "SUCCESS")

    assert [text for _, text in lines] == [
        "Running step, name: charge",
        "Replaying step, name: charge",
        "Running sleep",
        "Running recv",
        "Running get_event",
        "Replaying set_event",
        "Running DBOS.send",
        "Running transaction, name: pay",
        "Replaying transaction, name: pay",
        "Workflow w-1, name: order, already run with status SUCCESS",
    ]
    assert {level for level, _ in lines} == {logging.DEBUG}


def test_the_life_of_the_engine_is_told_in_the_documented_words(
    lines: list[tuple[int, str]],
) -> None:
    log.launched()
    log.already_launched()
    log.launch_failed(DBOSDatabaseError("no route"))
    log.shut_down()
    log.duplicate_registration("order")
    log.keys_ignored(["conductor_key"])
    log.keys_ignored([])

    assert [(level, text.split(";")[0]) for level, text in lines] == [
        (logging.INFO, "DBOS launched!"),
        (logging.WARNING, "DBOS was already launched"),
        (logging.ERROR, "DBOS failed to launch: DBOS Error 105: no route"),
        (logging.INFO, "DBOS successfully shut down"),
        (logging.WARNING, "Duplicate registration of function 'order'"),
        (
            logging.INFO,
            "Ignoring conductor_key: failover and management are built in and need no service",
        ),
    ]


def test_an_outage_is_one_error_per_component(lines: list[tuple[int, str]]) -> None:
    error = DBOSDatabaseError("connection refused")

    for _ in range(3):
        log.database_unavailable("test writer", error)
        log.database_unavailable("test reader", error)
    log.database_available("test writer")
    log.database_available("test writer")
    log.database_available("test reader")
    log.database_unavailable("test writer", error)
    log.database_available("test writer")

    loud = [text for level, text in lines if level > logging.DEBUG]
    assert [text.partition(",")[0] for text in loud] == [
        "The database is unavailable to the test writer",
        "The database is unavailable to the test reader",
        "The database is available to the test writer again",
        "The database is available to the test reader again",
        "The database is unavailable to the test writer",
        "The database is available to the test writer again",
    ]


def test_a_service_that_keeps_failing_is_one_error(lines: list[tuple[int, str]]) -> None:
    for failures in (1, 2, 3):
        log.service_failed("dispatcher", failures, KeyError("secret"))

    assert [level for level, _ in lines] == [logging.ERROR, logging.DEBUG, logging.DEBUG]


def test_errors_of_others_are_shown_by_type_alone(lines: list[tuple[int, str]]) -> None:
    foreign = ValueError("secret argument")

    log.step_attempt_failed("charge", 1, 3, foreign)
    log.background_run_failed("w-1", foreign)
    log.cannot_start("w-1", foreign)
    log.database_unavailable("test secrets", foreign)
    log.database_available("test secrets")
    log.service_failed("janitor", 1, foreign)
    log.launch_failed(foreign)

    assert not any("secret argument" in text for _, text in lines)
    assert sum("ValueError" in text for _, text in lines) == 6
    assert log.describe(DBOSInvalidInputError("priority is wrong")).endswith("priority is wrong")


def test_an_id_cannot_forge_a_line(lines: list[tuple[int, str]]) -> None:
    log.outcome_dropped("w\n2026-01-01 [ERROR] forged")

    assert "\n" not in lines[0][1]


def test_nothing_is_formatted_below_the_level() -> None:
    log.set_up(logging.INFO)

    class Unprintable(str):
        def startswith(self, *_: object) -> bool:
            raise AssertionError("formatted although nobody reads it")

    log.running_step(Unprintable("charge"))
    log.replaying_step(Unprintable("charge"))


@pytest.mark.parametrize(
    ("write", "level"),
    [
        (lambda: log.launch_without_instance(), logging.WARNING),
        (lambda: log.reset_without_instance(), logging.WARNING),
        (lambda: log.using_database("postgresql://h/shop"), logging.INFO),
        (lambda: log.not_the_latest_version("v1", "v2"), logging.WARNING),
        (lambda: log.source_not_readable(), logging.WARNING),
        (lambda: log.admin_without_token(), logging.WARNING),
        (lambda: log.admin_port_taken(3001), logging.WARNING),
        (lambda: log.workflow_id_used_up("w"), logging.WARNING),
        (lambda: log.other_queue("w", "a", None), logging.WARNING),
        (lambda: log.queue_unserved("a"), logging.WARNING),
        (lambda: log.blocking_under_a_loop("Queue.limiter", "x"), logging.WARNING),
        (lambda: log.execution_stopped("w", "cancelled"), logging.DEBUG),
        (lambda: log.dead_lettered(DBOSInvalidInputError("x")), logging.ERROR),
        (lambda: log.stranded("f", None, "version"), logging.WARNING),
        (lambda: log.replay_order_given_up(), logging.WARNING),
        (lambda: log.undecodable("w", ["output"]), logging.WARNING),
    ],
)
def test_each_line_has_its_level(write: object, level: int, lines: list[tuple[int, str]]) -> None:
    assert callable(write)

    write()

    assert [each for each, _ in lines] == [level]
