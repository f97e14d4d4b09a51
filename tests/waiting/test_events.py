"""Events: the last value counts, and whoever waits for it gets it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dbos import DBOS
from dbos.error import DBOSUsageError
from tests.behaviour.application import Application
from tests.behaviour.flavours import Flavour
from tests.waiting.verbs import Verbs, start, until, until_waited_for


def test_the_last_write_wins_also_from_a_step_whose_attempts_overwrite(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    attempts: list[int] = []

    @api.step(retries_allowed=True, interval_seconds=0.001, max_attempts=3)
    async def report() -> None:
        attempts.append(1)
        await verbs.set_event("from step", len(attempts))
        if len(attempts) < 3:
            raise ConnectionError

    @api.workflow()
    async def writer() -> None:
        await verbs.set_event("key", "first")
        await verbs.set_event("key", {"second": None})
        await verbs.set_event("none", None)
        await report()

    start(writer, "writer").get_result()

    assert DBOS.get_event("writer", "key", 0) == {"second": None}
    assert DBOS.get_all_events("writer") == {
        "from step": 3,
        "key": {"second": None},
        "none": None,
    }
    assert app.steps("writer") == [
        (1, "DBOS.setEvent"),
        (2, "DBOS.setEvent"),
        (3, "DBOS.setEvent"),
        (4, "report"),
    ]
    assert app.records("writer")[0][2:] == (None, None, None)


def test_reading_outside_returns_at_once_or_none_at_the_timeout(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def writer() -> None:
        await verbs.set_event("key", 1)

    start(writer, "writer").get_result()

    async def scenario() -> None:
        assert await verbs.get_event("writer", "key", 0) == 1
        assert await verbs.get_event("writer", "other", 0.02) is None
        assert await verbs.get_event("nobody", "key", 0.02) is None
        assert await verbs.get_all_events("nobody") == {}
        assert await verbs.get_all_events("writer") == {"key": 1}

    api.run(scenario)


def test_all_who_wait_for_a_key_get_its_value(app: Application, api: Flavour, verbs: Verbs) -> None:
    @api.workflow()
    async def writer() -> None:
        await verbs.recv(None, 60)
        await verbs.set_event("key", "value")

    @api.workflow()
    async def reader() -> Any:
        return await verbs.get_event("writer", "key")

    seen: list[Any] = []
    outside = threading.Thread(target=lambda: seen.append(DBOS.get_event("writer", "key")))
    outside.start()
    readers = [start(reader, f"reader{number}") for number in range(2)]
    until(lambda: app.steps("reader0") and app.steps("reader1"))
    start(writer, "writer")
    DBOS.send("writer", "go")

    assert [handle.get_result() for handle in readers] == ["value", "value"]
    outside.join(30)
    assert seen == ["value"]


def test_in_a_workflow_answers_and_deadline_are_recorded_and_replayed(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def writer() -> None:
        await verbs.set_event("key", 1)
        await verbs.recv(None, 3600)
        await verbs.set_event("key", 2)
        await verbs.set_event("other", 3)

    @api.workflow()
    async def reader() -> list[Any]:
        seen = [
            await verbs.get_event("writer", "key", 60),
            await verbs.get_event("writer", "other", 0),
            await verbs.get_all_events("writer"),
        ]
        await verbs.recv(None, 3600)
        return seen

    start(writer, "writer")
    start(reader, "reader")
    until(lambda: len(app.steps("reader")) == 6)
    app.kill()
    app.launch()
    DBOS.send("writer", "go")
    DBOS.get_result("writer")
    DBOS.send("reader", "go")

    assert DBOS.get_result("reader") == [1, None, {"key": 1}]
    assert app.steps("reader") == [
        (1, "DBOS.getEvent"),
        (2, "DBOS.sleep"),
        (3, "DBOS.getEvent"),
        (4, "DBOS.sleep"),
        (5, "DBOS.get_events"),
        (6, "DBOS.recv"),
        (7, "DBOS.sleep"),
    ]


def test_a_waiting_reader_goes_on_waiting_after_a_crash(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def writer() -> None:
        await verbs.set_event("key", "late")

    @api.workflow()
    async def reader(key: str) -> Any:
        return await verbs.get_event("writer", key, 3600)

    start(reader, "reader", "key")
    start(reader, "out of time", "other")
    until(lambda: app.steps("reader") and app.steps("out of time"))
    app.kill()
    app.change("UPDATE {operation_outputs} SET output = '1.5' WHERE workflow_uuid = 'out of time'")
    app.launch()
    until_waited_for("event", "writer::key")
    start(writer, "writer")

    assert DBOS.get_result("reader") == "late"
    assert DBOS.get_result("out of time") is None


def test_setting_belongs_to_a_workflow_or_its_steps(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.step()
    async def alone() -> None:
        await verbs.set_event("key", 1)

    async def scenario() -> None:
        refusal = r"set_event\(\) must be called from within a workflow or step"
        with pytest.raises(DBOSUsageError, match=refusal):
            await verbs.set_event("key", 1)
        with pytest.raises(DBOSUsageError, match=refusal):
            await alone()

    api.run(scenario)


def test_reading_from_a_step_is_not_recorded(app: Application, api: Flavour, verbs: Verbs) -> None:
    @api.step()
    async def look() -> Any:
        return [
            await verbs.get_event("looker", "key", 0),
            await verbs.get_event("looker", "other", 0),
            await verbs.get_all_events("looker"),
        ]

    @api.workflow()
    async def looker() -> Any:
        await verbs.set_event("key", 1)
        return await look()

    assert start(looker, "looker").get_result() == [1, None, {"key": 1}]
    assert app.steps("looker") == [(1, "DBOS.setEvent"), (2, "look")]
