"""Receiving: in order, exactly this topic, exactly once, and with a deadline that survives."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from dbos import DBOS, SendMessage
from dbos.error import DBOSUsageError
from tests.behaviour.application import Application
from tests.behaviour.flavours import Body, Flavour
from tests.waiting.verbs import Verbs, start, until, until_waited_for


@pytest.fixture
def taker(app: Application, api: Flavour, verbs: Verbs) -> Body:
    """Receives on each topic it is given, with a timeout."""

    @api.workflow()
    async def taker(*wanted: Any) -> list[Any]:
        return [await verbs.recv(topic, timeout) for topic, timeout in wanted]

    return taker


def filled(taker: Body, workflow_id: str, *messages: SendMessage) -> None:
    """A destination whose messages are there before anything is received."""
    start(taker, workflow_id).get_result()
    DBOS.send_bulk(list(messages))


def test_the_oldest_message_of_exactly_that_topic_comes_first(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def taker() -> list[Any]:
        await verbs.recv("go")
        wanted = [None, "a", "a", "A", None, "a", None]
        return [await verbs.recv(topic, 0) for topic in wanted]

    handle = start(taker, "taker")
    DBOS.send("taker", "a1", "a")
    DBOS.send("taker", "none1")
    DBOS.send_bulk([SendMessage("taker", f"a{n}", "a") for n in (2, 3)])
    DBOS.send("taker", "none2")
    DBOS.send("taker", "go", "go")

    assert handle.get_result() == ["none1", "a1", "a2", None, "none2", "a3", None]


def test_a_message_that_arrives_ends_the_wait_and_is_recorded_and_kept(
    app: Application, taker: Body
) -> None:
    handle = start(taker, "taker", ("pay", 60))
    until_waited_for("message", "taker::pay")

    DBOS.send("taker", {"amount": 3}, "other")
    DBOS.send("taker", {"amount": 7}, "pay")

    assert handle.get_result() == [{"amount": 7}]
    assert app.steps("taker") == [(1, "DBOS.recv"), (2, "DBOS.sleep")]
    kept = app.rows(
        "SELECT topic, consumed, consumed_function_id FROM {notifications} ORDER BY topic"
    )
    assert [(topic, bool(consumed), step) for topic, consumed, step in kept] == [
        ("other", False, None),
        ("pay", True, 1),
    ]


def test_none_in_time_and_a_sent_none_are_both_none_but_the_latter_is_at_once(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def taker() -> list[Any]:
        await verbs.recv("go")
        before = time.monotonic()
        sent = await verbs.recv("null", 60)
        took_s = time.monotonic() - before
        return [sent, took_s < 30, await verbs.recv("missing", 0.05), await verbs.recv("zero", 0)]

    handle = start(taker, "taker")
    DBOS.send_bulk([SendMessage("taker", None, "null"), SendMessage("taker", 1, "go")])

    assert handle.get_result() == [None, True, None, None]
    assert app.steps("taker") == [
        (number, name)
        for first in (1, 3, 5, 7)
        for number, name in ((first, "DBOS.recv"), (first + 1, "DBOS.sleep"))
    ]


def test_the_deadline_is_stored_with_the_second_step_id_before_the_wait(
    app: Application, taker: Body
) -> None:
    start(taker, "taker", (None, 500))
    until(lambda: app.steps("taker"))

    [(number, name, output, error, child)] = app.records("taker")
    assert (number, name, error, child) == (2, "DBOS.sleep", None, None)
    assert abs(float(output) * 1000 - app.column("taker", "created_at") - 500_000) < 20_000


def test_after_a_crash_only_the_remainder_is_waited(app: Application, taker: Body) -> None:
    start(taker, "taker", (None, 3600))
    until(lambda: app.steps("taker"))
    app.kill()
    app.change(
        "UPDATE {operation_outputs} SET output = ? WHERE workflow_uuid = 'taker'",
        str(time.time() - 1),
    )
    app.launch()

    assert DBOS.get_result("taker") == [None]
    assert app.steps("taker") == [(1, "DBOS.recv"), (2, "DBOS.sleep")]


def test_after_a_crash_a_waiting_receiver_still_gets_its_message(
    app: Application, taker: Body
) -> None:
    start(taker, "taker", (None, 3600), ("t", 3600))
    until(lambda: app.steps("taker"))
    DBOS.send("taker", "before")
    until(lambda: len(app.steps("taker")) == 3)
    app.kill()
    app.launch()
    DBOS.send("taker", "after", "t")

    assert DBOS.get_result("taker") == ["before", "after"]


def test_what_was_received_is_replayed_and_not_received_again(
    app: Application, taker: Body
) -> None:
    start(taker, "taker", ("a", 60), ("none", 0), ("b", 3600), ("a", 0))
    DBOS.send_bulk([SendMessage("taker", "one", "a"), SendMessage("taker", "two", "a")])
    until(lambda: (6, "DBOS.sleep") in app.steps("taker"))
    app.kill()
    app.launch()
    DBOS.send("taker", "late", "none")
    DBOS.send("taker", "go", "b")

    assert DBOS.get_result("taker") == ["one", None, "go", "two"]


def test_a_second_receiver_on_a_topic_is_refused_while_the_first_waits(
    app: Application,
) -> None:
    @DBOS.workflow(name="taker")
    async def taker() -> list[Any]:
        first = asyncio.create_task(DBOS.recv_async("t"))
        other = asyncio.create_task(DBOS.recv_async("u"))
        await asyncio.sleep(0)
        with pytest.raises(DBOSUsageError):
            await DBOS.recv_async("t", 0)
        await DBOS.set_event_async("refused", True)
        found = [await first, await other]
        return [*found, await DBOS.recv_async("t", 0)]

    handle = start(taker, "taker")
    assert DBOS.get_event("taker", "refused") is True
    DBOS.send_bulk([SendMessage("taker", "a", "t"), SendMessage("taker", "b", "u")])

    assert handle.get_result() == ["a", "b", None]


def test_an_abandoned_receiver_leaves_nothing_behind(app: Application) -> None:
    @DBOS.workflow(name="taker")
    async def taker() -> Any:
        waiting = asyncio.create_task(DBOS.recv_async("t", 60))
        await DBOS.get_event_async("taker", "nothing", 0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await DBOS.set_event_async("abandoned", True)
        return await DBOS.recv_async("t", 60)

    handle = start(taker, "taker")
    assert DBOS.get_event("taker", "abandoned") is True
    DBOS.send("taker", "came", "t")

    assert handle.get_result() == "came"


def test_receiving_belongs_to_workflow_code(app: Application, api: Flavour, verbs: Verbs) -> None:
    refusal = r"recv\(\) must be called from within a workflow"

    @api.step()
    async def step() -> None:
        with pytest.raises(DBOSUsageError, match=refusal):
            await verbs.recv("t", 0)

    @api.workflow()
    async def workflow() -> None:
        await step()

    async def scenario() -> None:
        with pytest.raises(DBOSUsageError, match=refusal):
            await verbs.recv("t", 0)
        await workflow()

    api.run(scenario)


def test_a_fork_that_waits_is_woken_by_a_message_to_its_origin(
    app: Application, taker: Body
) -> None:
    filled(taker, "origin")
    handle = start(taker, "fork", (None, 60))
    until_waited_for("message", "fork::__null__topic__")
    app.change("UPDATE {workflow_status} SET forked_from = 'origin' WHERE workflow_uuid = 'fork'")

    DBOS.send("origin", "hello", send_to_forks=True)

    assert handle.get_result() == ["hello"]
