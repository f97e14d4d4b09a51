"""Streams: append-only, one entry for one logical write, and replayed as they were seen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from dbos.error import (
    DBOSInvalidInputError,
    DBOSNonExistentWorkflowError,
    DBOSSerializationError,
    DBOSStreamNondeterminismError,
    DBOSStreamTimeoutError,
    DBOSUsageError,
)
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Body, Flavour
from tests.waiting.verbs import Verbs, start, until, until_waited_for


@pytest.fixture
def writer(app: Application, api: Flavour, verbs: Verbs) -> Body:
    """Writes each value to the stream `s`, and ends without closing it."""

    @api.workflow()
    async def writer(values: list[Any]) -> None:
        for value in values:
            await verbs.write_stream("s", value)

    return writer


def entries(app: Application, workflow_id: str) -> list[tuple[Any, ...]]:
    return app.rows(
        'SELECT key, "offset", function_id FROM {streams} WHERE workflow_uuid = ?'
        ' ORDER BY key, "offset"',
        workflow_id,
    )


def test_values_are_read_in_order_from_an_offset_to_the_end_of_a_finished_workflow(
    app: Application, api: Flavour, verbs: Verbs, writer: Body
) -> None:
    values = [1, None, {"deep": [2]}, ""]
    start(writer, "writer", values).get_result()

    async def scenario() -> None:
        assert await verbs.read_all("writer", "s") == values
        assert await verbs.read_all("writer", "s", offset=2) == values[2:]
        assert await verbs.read_all("writer", "s", offset=9) == []
        assert await verbs.read_all("writer", "other") == []
        assert await verbs.read_stream_offset("writer", "s", 1) is None
        assert await verbs.read_stream_offset("writer", "s", 2, timeout_seconds=0) == {"deep": [2]}
        with pytest.raises(DBOSStreamTimeoutError) as ended:
            await verbs.read_stream_offset("writer", "s", 4, timeout_seconds=5)
        assert "within" not in str(ended.value)
        for read in (verbs.read_all("nobody", "s"), verbs.read_stream_offset("nobody", "s", 0)):
            with pytest.raises(DBOSNonExistentWorkflowError):
                await read

    api.run(scenario)

    assert entries(app, "writer") == [("s", offset, offset + 1) for offset in range(4)]
    assert app.steps("writer") == [(number, "DBOS.writeStream") for number in range(1, 5)]


def test_readers_see_nothing_after_the_close_and_closing_again_has_no_effect(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.step()
    async def close() -> None:
        await verbs.close_stream("by step")

    @api.workflow()
    async def writer() -> None:
        await verbs.write_stream("s", "seen")
        await verbs.close_stream("s")
        await verbs.write_stream("s", "unseen")
        await verbs.close_stream("s")
        await close()
        await verbs.recv(None, 3600)

    start(writer, "writer")
    until(lambda: len(app.steps("writer")) == 6)

    async def scenario() -> None:
        assert await verbs.read_all("writer", "s") == ["seen"]
        assert await verbs.read_all("writer", "s", offset=2) == []
        assert await verbs.read_all("writer", "by step") == []
        with pytest.raises(DBOSStreamTimeoutError):
            await verbs.read_stream_offset("writer", "s", 2)

    api.run(scenario)

    assert app.steps("writer")[:4] == [
        (1, "DBOS.writeStream"),
        (2, "DBOS.closeStream"),
        (3, "DBOS.writeStream"),
        (4, "DBOS.closeStream"),
    ]


def test_a_step_that_is_retried_leaves_one_entry_per_logical_write(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    attempts: list[int] = []

    @api.step(retries_allowed=True, interval_seconds=0.001, max_attempts=4)
    async def chatty() -> None:
        attempts.append(1)
        await verbs.write_stream("s", f"a{len(attempts)}")
        if len(attempts) < 2:
            raise ConnectionError
        await verbs.write_stream("s", f"b{len(attempts)}")
        await verbs.write_stream("t", len(attempts))
        if len(attempts) < 4:
            raise ConnectionError

    @api.workflow()
    async def writer() -> None:
        await chatty()
        await verbs.write_stream("s", "end")

    start(writer, "writer").get_result()

    assert list(DBOS.read_stream("writer", "s")) == ["a1", "b2", "end"]
    assert list(DBOS.read_stream("writer", "t")) == [2]
    assert entries(app, "writer") == [("s", 0, 1), ("s", 1, 1), ("s", 2, 2), ("t", 0, 1)]


def test_a_value_that_cannot_be_stored_does_not_count_as_a_write_of_its_step(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    attempts: list[int] = []

    @api.step(retries_allowed=True, interval_seconds=0.001, max_attempts=3)
    async def clumsy() -> None:
        attempts.append(1)
        with pytest.raises(DBOSSerializationError):
            await verbs.write_stream("s", object())
        await verbs.write_stream("s", "plain")
        if len(attempts) < 3:
            raise ConnectionError

    @api.workflow()
    async def writer() -> None:
        await clumsy()

    start(writer, "writer").get_result()

    assert list(DBOS.read_stream("writer", "s")) == ["plain"]


def test_a_step_that_is_run_again_after_a_crash_does_not_repeat_what_it_wrote(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    lives: list[int] = []

    @api.step()
    async def chatty() -> None:
        lives.append(1)
        await verbs.write_stream("s", f"one in life {len(lives)}")
        if len(lives) == 1:
            app.cut_power()
        await verbs.write_stream("s", f"two in life {len(lives)}")
        await verbs.close_stream("s")

    @api.workflow()
    async def writer() -> None:
        await verbs.write_stream("s", "begin")
        await chatty()

    async def first_life() -> None:
        with SetWorkflowID("writer"):
            await writer()

    with pytest.raises(PowerCut):
        api.run(first_life)
    app.launch()
    DBOS.get_result("writer")

    assert list(DBOS.read_stream("writer", "s")) == ["begin", "one in life 1", "two in life 2"]


def test_a_reader_gets_entries_as_they_come_and_ends_with_the_workflow(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def writer() -> None:
        while (message := await verbs.recv(None, 60)) != "end":
            await verbs.write_stream("s", message)

    @api.workflow()
    async def reader() -> list[Any]:
        return await verbs.read_all("writer", "s")

    start(writer, "writer")
    handle = start(reader, "reader")
    until_waited_for("stream", "writer::s")
    DBOS.send("writer", 1)
    until(lambda: len(app.steps("reader")) == 1)
    DBOS.send("writer", 2)
    DBOS.send("writer", "end")

    assert handle.get_result() == [1, 2]
    assert [name for _, name in app.steps("reader")] == ["DBOS.readStream"] * 3
    assert "__DBOS_STREAM_CLOSED__" in app.records("reader")[2][2]


def test_a_replay_yields_exactly_what_was_seen(
    app: Application, api: Flavour, verbs: Verbs, writer: Body
) -> None:
    @api.workflow()
    async def reader() -> list[Any]:
        seen = await verbs.read_all("writer", "s")
        seen.append(await verbs.read_stream_offset("writer", "s", 1))
        try:
            await verbs.read_stream_offset("writer", "s", 7)
        except DBOSStreamTimeoutError as error:
            seen.append("within" in str(error))
        await verbs.recv(None, 3600)
        return seen

    start(writer, "writer", ["a", "b"]).get_result()
    start(reader, "reader")
    until(lambda: len(app.steps("reader")) == 6)
    app.kill()
    app.change("DELETE FROM {streams}")
    app.launch()
    DBOS.send("reader", "go")

    assert DBOS.get_result("reader") == ["a", "b", "b", False]
    assert app.steps("reader") == [
        (1, "DBOS.readStream"),
        (2, "DBOS.readStream"),
        (3, "DBOS.readStream"),
        (4, "DBOS.readStreamOffset"),
        (5, "DBOS.readStreamOffset"),
        (6, "DBOS.recv"),
        (7, "DBOS.sleep"),
    ]
    assert app.records("reader")[4][3] is not None


def test_a_timeout_counts_for_each_value_and_is_recorded_in_a_workflow(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def writer() -> None:
        await verbs.write_stream("s", 1)
        await verbs.recv(None, 3600)

    @api.workflow()
    async def reader() -> str:
        try:
            await verbs.read_all("writer", "s", timeout_seconds=0.05)
        except DBOSStreamTimeoutError as error:
            await verbs.recv(None, 3600)
            return str(error)
        return "no timeout"

    start(writer, "writer")
    start(reader, "reader")
    until(lambda: len(app.steps("reader")) == 3)
    app.kill()
    app.launch()
    DBOS.send("reader", "go")

    message = DBOS.get_result("reader")
    assert "No value arrived on stream" in message
    assert "within" in message
    assert [record[3] is not None for record in app.records("reader")[:2]] == [False, True]

    async def outside() -> None:
        with pytest.raises(DBOSStreamTimeoutError, match="No value arrived on stream"):
            await verbs.read_stream_offset("writer", "s", 1, timeout_seconds=0)

    api.run(outside)


def test_two_overlapping_reads_in_one_workflow_are_refused(app: Application) -> None:
    @DBOS.workflow(name="reader")
    async def reader() -> Any:
        first = asyncio.create_task(DBOS.read_stream_offset_async("reader", "s", 0))
        await asyncio.sleep(0)
        with pytest.raises(DBOSStreamNondeterminismError):
            await DBOS.read_stream_offset_async("reader", "t", 0)
        await DBOS.write_stream_async("s", "came")
        return await first

    assert start(reader, "reader").get_result() == "came"


def test_reading_in_a_step_is_not_recorded(
    app: Application, api: Flavour, verbs: Verbs, writer: Body
) -> None:
    @api.step()
    async def read() -> Any:
        return [
            await verbs.read_all("writer", "s"),
            await verbs.read_stream_offset("writer", "s", 0),
        ]

    @api.workflow()
    async def reader() -> Any:
        return await read()

    start(writer, "writer", ["a"]).get_result()

    assert start(reader, "reader").get_result() == [["a"], "a"]
    assert app.steps("reader") == [(1, "read")]


def test_writing_belongs_to_a_workflow_or_its_steps(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    async def scenario() -> None:
        for write in (verbs.write_stream("s", 1), verbs.close_stream("s")):
            with pytest.raises(
                DBOSUsageError, match="must be called from within a workflow or step"
            ):
                await write

    api.run(scenario)


def test_reads_are_checked_at_the_first_value(app: Application, api: Flavour, verbs: Verbs) -> None:
    faults: dict[str, dict[str, Any]] = {
        "must not be negative": {"timeout_seconds": -1},
        "at least 0.001": {"polling_interval_sec": 0.0001},
        "offset": {"offset": -1},
        "finite": {"timeout_seconds": float("nan")},
    }

    async def scenario() -> None:
        for refusal, arguments in faults.items():
            with pytest.raises(DBOSInvalidInputError, match=refusal):
                await verbs.read_all("nobody", "s", **arguments)

    for arguments in faults.values():
        DBOS.read_stream("nobody", "s", **arguments)
    api.run(scenario)
