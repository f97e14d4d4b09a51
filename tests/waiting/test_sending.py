"""Sending: all or nothing, once per idempotency key, and from everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from dbos import DBOS, SendMessage, SetWorkflowID, WorkflowSerializationFormat
from dbos.error import (
    DBOSException,
    DBOSInvalidInputError,
    DBOSNonExistentWorkflowError,
    DBOSSerializationError,
)
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Body, Flavour
from tests.waiting.verbs import Verbs, start


@pytest.fixture
def noop(app: Application, api: Flavour) -> Body:
    @api.workflow()
    async def noop() -> None:
        return None

    return noop


@pytest.fixture
def inbox(app: Application, noop: Body) -> str:
    """A finished workflow, which is as good a destination as any."""
    start(noop, "inbox").get_result()
    return "inbox"


def delivered(app: Application, workflow_id: str) -> int:
    [(number,)] = app.rows(
        "SELECT COUNT(*) FROM {notifications} WHERE destination_uuid = ?", workflow_id
    )
    return int(number)


def fork_by_hand(app: Application, fork: str, origin: str, noop: Body) -> None:
    start(noop, fork).get_result()
    app.change("UPDATE {workflow_status} SET forked_from = ? WHERE workflow_uuid = ?", origin, fork)


def test_one_unknown_destination_and_nothing_is_sent(
    app: Application, api: Flavour, verbs: Verbs, inbox: str
) -> None:
    async def scenario() -> None:
        with pytest.raises(DBOSNonExistentWorkflowError, match="Non-existent `send` destination"):
            await verbs.send("nobody", 1)
        with pytest.raises(DBOSNonExistentWorkflowError, match="Non-existent `send` destination"):
            await verbs.send_bulk([SendMessage(inbox, 1), SendMessage("nobody", 2)])
        await verbs.send_bulk([])

    api.run(scenario)

    assert app.count("notifications") == 0


def test_a_key_counts_once_per_destination_and_only_within_a_call_it_must_not_repeat(
    app: Application, api: Flavour, verbs: Verbs, inbox: str, noop: Body
) -> None:
    start(noop, "other").get_result()

    async def scenario() -> None:
        await verbs.send(inbox, "first", idempotency_key="k")
        await verbs.send(inbox, "again", "topic", idempotency_key="k")
        await verbs.send("other", "elsewhere", idempotency_key="k")
        await verbs.send_bulk(
            [SendMessage(inbox, 1, None, "k"), SendMessage(inbox, 2), SendMessage("other", 3)]
        )
        with pytest.raises(DBOSException, match="duplicate idempotency keys"):
            await verbs.send_bulk(
                [SendMessage(inbox, 4, None, "d"), SendMessage(inbox, 5, "t", "d")]
            )
        await verbs.send_bulk(
            [SendMessage(inbox, 6, None, "e"), SendMessage("other", 7, None, "e")]
        )

    api.run(scenario)

    assert delivered(app, inbox) == 3
    assert delivered(app, "other") == 3


def test_keys_that_contain_the_separator_do_not_meet(
    app: Application, api: Flavour, verbs: Verbs, noop: Body
) -> None:
    start(noop, "b").get_result()
    start(noop, "a::b").get_result()

    async def scenario() -> None:
        await verbs.send("b", 1, idempotency_key="k::a")
        await verbs.send("a::b", 2, idempotency_key="k")

    api.run(scenario)

    assert (delivered(app, "b"), delivered(app, "a::b")) == (1, 1)


def test_sending_from_workflow_code_is_one_step_and_from_a_step_leaves_no_record(
    app: Application, api: Flavour, verbs: Verbs, inbox: str
) -> None:
    @api.step()
    async def notify() -> None:
        await verbs.send(inbox, "from a step")

    @api.workflow()
    async def sender() -> None:
        await verbs.send(inbox, "one", "t")
        await verbs.send_bulk([SendMessage(inbox, "two"), SendMessage(inbox, "three")])
        await verbs.send_bulk([])
        await notify()

    start(sender, "sender").get_result()

    assert app.steps("sender") == [
        (1, "DBOS.send"),
        (2, "DBOS.send_bulk"),
        (3, "DBOS.send_bulk"),
        (4, "notify"),
    ]
    assert [record[2:] for record in app.records("sender")[:3]] == [(None, None, None)] * 3
    assert delivered(app, inbox) == 4


def test_an_unknown_destination_is_an_ordinary_error_in_a_workflow_which_goes_on(
    app: Application, api: Flavour, verbs: Verbs, inbox: str
) -> None:
    @api.workflow()
    async def sender() -> str:
        try:
            await verbs.send("nobody", 1)
        except DBOSNonExistentWorkflowError:
            await verbs.send(inbox, 2)
        return "went on"

    assert start(sender, "sender").get_result() == "went on"
    assert delivered(app, inbox) == 1


def test_a_crash_after_a_send_and_a_set_event_repeats_neither(
    app: Application, api: Flavour, verbs: Verbs, inbox: str
) -> None:
    is_first = app.once()

    @api.workflow()
    async def sender() -> None:
        await verbs.send(inbox, "paid")
        await verbs.send_bulk([SendMessage(inbox, "paid"), SendMessage(inbox, "paid")])
        await verbs.set_event("state", "sent")
        await verbs.write_stream("log", "sent")
        if is_first():
            app.cut_power()

    async def first_life() -> None:
        with SetWorkflowID("sender"):
            await sender()

    with pytest.raises(PowerCut):
        api.run(first_life)
    app.launch()

    DBOS.get_result("sender")
    assert delivered(app, inbox) == 3
    assert DBOS.get_event("sender", "state", 0) == "sent"
    assert list(DBOS.read_stream("sender", "log")) == ["sent"]


def test_sending_to_forks_reaches_all_generations_up_to_now_and_keys_count_there_too(
    app: Application, api: Flavour, verbs: Verbs, inbox: str, noop: Body
) -> None:
    fork_by_hand(app, "fork", inbox, noop)
    fork_by_hand(app, "grandchild", "fork", noop)

    async def scenario() -> None:
        await verbs.send(inbox, "all", send_to_forks=True)
        await verbs.send(inbox, "one")
        await verbs.send("fork", "keyed", idempotency_key="k")
        await verbs.send(inbox, "keyed", idempotency_key="k", send_to_forks=True)
        await verbs.send_bulk([SendMessage("fork", "bulk")], send_to_forks=True)

    api.run(scenario)
    fork_by_hand(app, "late", inbox, noop)

    assert delivered(app, inbox) == 3
    assert delivered(app, "fork") == 3
    assert delivered(app, "grandchild") == 3
    assert delivered(app, "late") == 0


def test_an_argument_of_the_wrong_type_is_named_and_nothing_is_sent(
    app: Application, api: Flavour, verbs: Verbs, inbox: str
) -> None:
    anything: Any = 5

    async def scenario() -> None:
        with pytest.raises(DBOSInvalidInputError, match="destination_id must be a str, not int"):
            await verbs.send(anything, "x")
        with pytest.raises(DBOSInvalidInputError, match="send_to_forks must be a bool, not int"):
            await verbs.send(inbox, "x", send_to_forks=anything)

    api.run(scenario)

    assert delivered(app, inbox) == 0


def test_messages_are_stored_in_the_format_of_the_call_else_of_the_workflow(
    app: Application, api: Flavour, verbs: Verbs, inbox: str
) -> None:
    native, portable = WorkflowSerializationFormat.NATIVE, WorkflowSerializationFormat.PORTABLE

    @api.workflow(serialization_type=portable)
    async def sender() -> None:
        await verbs.send(inbox, 1, "of the workflow")
        await verbs.send(inbox, 1, "of the call", serialization_type=native)

    async def scenario() -> None:
        await verbs.send(inbox, 1, "outside")
        await verbs.send(inbox, 1, "outside portable", serialization_type=portable)

    start(sender, "sender").get_result()
    api.run(scenario)

    formats: dict[str, Any] = dict(app.rows("SELECT topic, serialization FROM {notifications}"))
    assert formats["of the workflow"] == formats["outside portable"] == "portable_json"
    assert formats["of the call"] == formats["outside"] != "portable_json"


def test_a_message_that_cannot_be_stored_sends_nothing(
    app: Application, api: Flavour, verbs: Verbs, inbox: str
) -> None:
    async def scenario() -> None:
        with pytest.raises(DBOSSerializationError):
            await verbs.send_bulk([SendMessage(inbox, 1), SendMessage(inbox, object())])

    api.run(scenario)

    assert delivered(app, inbox) == 0
