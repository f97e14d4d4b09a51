"""Serialization as workflows see it: formats, custom serializers and values that come back."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import uuid
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pytest

from dbos import (
    DBOS,
    DBOSPortableJSONSerializer,
    PickleSerializer,
    PortableWorkflowError,
    Serializer,
    SetWorkflowID,
    WorkflowSerializationFormat,
)
from dbos.error import DBOSException, DBOSSerializationError, RestoredError
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Flavour


class Colour(enum.Enum):
    RED = 1


@dataclass
class Order:
    number: int
    colour: Colour


class CodedError(Exception):
    def __init__(self, code: int, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


class Reversed(Serializer):
    """JSON, written backwards."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data)[::-1]

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data[::-1])

    def name(self) -> str:
        return "reversed"


VALUES = (
    None,
    True,
    2**70,
    -0.5,
    float("inf"),
    "ünïcode 😀",
    b"\x00\xff",
    (1, (2,)),
    [1, [2]],
    {"a": {1: "int key", (1, 2): "tuple key"}},
    {1, 2, 3},
    frozenset({"x"}),
    1 + 2j,
    range(3),
    datetime.datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
    datetime.datetime(2030, 1, 2),
    datetime.date(2030, 1, 2),
    datetime.timedelta(days=1, microseconds=3),
    decimal.Decimal("1.10"),
    uuid.UUID(int=5),
    PurePosixPath("/a/b"),
    Colour.RED,
    Order(3, Colour.RED),
)


def test_values_come_back_as_they_were_through_inputs_steps_and_results(
    app: Application, api: Flavour
) -> None:
    is_first = app.once()

    @api.step()
    async def same(values: Any) -> Any:
        return values

    @api.workflow()
    async def carry(values: Any) -> Any:
        stepped = await same(values)
        if is_first():
            app.cut_power()
        return values, stepped

    async def first_life() -> None:
        with SetWorkflowID("run"):
            await carry(VALUES)

    with pytest.raises(PowerCut):
        api.run(first_life)
    app.launch()

    received, stepped = DBOS.get_result("run")
    assert received == stepped == VALUES
    assert [type(value) for value in received] == [type(value) for value in VALUES]
    assert app.column("run", "serialization") == "json"


def test_an_error_comes_back_with_its_class_arguments_and_attributes(
    app: Application, api: Flavour
) -> None:
    @api.workflow()
    async def fail() -> None:
        error = CodedError(7, "why")
        error.add_note("a note")
        raise error

    async def call() -> None:
        with SetWorkflowID("run"):
            await fail()

    with pytest.raises(CodedError):
        api.run(call)
    with pytest.raises(CodedError) as restored:
        DBOS.get_result("run")

    assert restored.value.args == (7, "why")
    assert (restored.value.code, restored.value.detail) == (7, "why")
    assert restored.value.__notes__ == ["a note"]


def test_an_error_whose_class_is_gone_comes_back_as_restored(
    app: Application, api: Flavour
) -> None:
    class Local(Exception):
        pass

    @api.workflow()
    async def fail() -> None:
        raise Local("gone", 1)

    async def call() -> None:
        with SetWorkflowID("run"):
            await fail()

    with pytest.raises(Local):
        api.run(call)
    with pytest.raises(RestoredError) as restored:
        DBOS.get_result("run")

    assert restored.value.name.endswith("Local")
    assert restored.value.args == ("gone", 1)


def test_stored_bytes_never_name_code_to_run(app: Application, api: Flavour) -> None:
    @api.workflow()
    async def run() -> str:
        return "fine"

    async def call() -> None:
        with SetWorkflowID("run"):
            await run()

    api.run(call)
    app.change("UPDATE {workflow_status} SET serialization = 'py_pickle', output = 'gARLAS4='")

    with pytest.raises(DBOSSerializationError, match="is not available") as caught:
        DBOS.get_result("run")
    assert "serializer=PickleSerializer()" in str(caught.value)
    status = DBOS.get_workflow_status("run")
    assert status is not None
    assert status.output == "gARLAS4="


def test_corrupt_data_concerns_its_own_run_only(app: Application, api: Flavour) -> None:
    @api.workflow()
    async def run() -> str:
        return "fine"

    async def call(workflow_id: str) -> Any:
        with SetWorkflowID(workflow_id):
            return await run()

    api.run(call, "bad")
    app.change("UPDATE {workflow_status} SET output = '{{{{'")

    with pytest.raises(DBOSException) as caught:
        DBOS.get_result("bad")
    assert type(caught.value).__name__ == "DBOSStoredDataError"
    assert "bad" in str(caught.value)
    assert api.run(call, "good") == "fine"


class Pickled:
    """Known to pickle, and to nothing else."""

    def __init__(self, number: int) -> None:
        self.number = number


def test_pickle_is_used_when_asked_for_and_reads_json_rows_too(
    shop: Application, api: Flavour
) -> None:
    @api.step()
    async def wrap(number: int) -> Any:
        return Pickled(number)

    @api.workflow()
    async def run(number: int) -> Any:
        return (await wrap(number)).number

    async def call(workflow_id: str) -> Any:
        with SetWorkflowID(workflow_id):
            return await run(3)

    shop.launch()
    with pytest.raises(DBOSSerializationError, match="result"):
        api.run(call, "json-run")
    shop.relaunch(serializer=PickleSerializer())

    assert api.run(call, "pickle-run") == 3
    assert shop.column("pickle-run", "serialization") == "py_pickle"
    with pytest.raises(DBOSSerializationError):
        DBOS.get_result("json-run")


def test_runs_in_flight_move_from_json_to_pickle(shop: Application, api: Flavour) -> None:
    shop.launch()
    is_first = shop.once()

    @api.step()
    async def one() -> tuple[int]:
        return (1,)

    @api.workflow()
    async def run(start: Any) -> Any:
        first = await one()
        if is_first():
            shop.cut_power()
        return start, first, await one()

    async def call() -> None:
        with SetWorkflowID("run"):
            await run({"a", "b"})

    with pytest.raises(PowerCut):
        api.run(call)
    shop.launch(serializer=PickleSerializer())

    assert DBOS.get_result("run") == ({"a", "b"}, (1,), (1,))
    assert shop.column("run", "serialization") == "json"


def test_a_custom_serializer_writes_everything_under_its_name(
    shop: Application, api: Flavour
) -> None:
    shop.launch(serializer=Reversed())

    @api.step()
    async def step() -> list[int]:
        return [1, 2]

    @api.workflow()
    async def run(word: str) -> Any:
        return [word, await step()]

    async def call() -> Any:
        with SetWorkflowID("run"):
            return await run("abc")

    assert api.run(call) == ["abc", [1, 2]]
    assert DBOS.get_result("run") == ["abc", [1, 2]]
    assert shop.column("run", "serialization") == "reversed"
    assert json.loads(shop.column("run", "output")[::-1]) == ["abc", [1, 2]]
    assert shop.records("run")[0][2] == "]2 ,1["


def test_a_run_of_a_format_unknown_here_is_not_claimed(shop: Application, api: Flavour) -> None:
    shop.launch(serializer=Reversed())
    is_first = shop.once()

    @api.workflow()
    async def run() -> str:
        if is_first():
            shop.cut_power()
        return "done"

    async def call() -> None:
        with SetWorkflowID("run"):
            await run()

    with pytest.raises(PowerCut):
        api.run(call)
    shop.launch(serializer=None)
    left = shop.column("run", "status")
    shop.relaunch(serializer=Reversed())

    assert left == "ENQUEUED"
    assert DBOS.get_result("run") == "done"


class TestPortable:
    """Runs in plain JSON for other languages."""

    def test_inputs_results_and_errors_are_plain_json(self, app: Application, api: Flavour) -> None:
        @api.workflow(serialization_type=WorkflowSerializationFormat.PORTABLE)
        async def run(word: str, *, fails: bool = False) -> Any:
            if fails:
                raise CodedError(7, "why")
            return {"word": word, "pair": (1, 2)}

        async def call(workflow_id: str, fails: bool) -> Any:
            with SetWorkflowID(workflow_id):
                return await run("ü", fails=fails)

        assert api.run(call, "fine", False) == {"word": "ü", "pair": (1, 2)}
        with pytest.raises(CodedError):
            api.run(call, "failed", True)

        assert app.column("fine", "serialization") == "portable_json"
        assert app.column("fine", "inputs") == (
            '{"namedArgs":{"fails":false},"positionalArgs":["ü"]}'
        )
        assert app.column("fine", "output") == '{"word":"ü","pair":[1,2]}'
        assert DBOS.get_result("fine") == {"word": "ü", "pair": [1, 2]}
        error = json.loads(app.column("failed", "error"))
        assert error["name"] == "CodedError"
        assert error["code"] == 7
        with pytest.raises(PortableWorkflowError) as read_back:
            DBOS.get_result("failed")
        assert (read_back.value.name, read_back.value.code) == ("CodedError", 7)

    def test_step_records_keep_the_configured_serializer(
        self, app: Application, api: Flavour
    ) -> None:
        @api.step()
        async def step() -> tuple[int, int]:
            return (1, 2)

        @api.workflow(serialization_type=WorkflowSerializationFormat.PORTABLE)
        async def run() -> int:
            return len(await step())

        async def call() -> Any:
            with SetWorkflowID("run"):
                return await run()

        assert api.run(call) == 2
        assert app.rows("SELECT serialization FROM {operation_outputs}") == [("json",)]

    def test_what_is_not_portable_is_refused(self, app: Application, api: Flavour) -> None:
        @api.workflow(serialization_type=WorkflowSerializationFormat.PORTABLE)
        async def run(_: Any) -> None:
            return None

        async def call() -> None:
            await run(float("nan"))

        with pytest.raises(DBOSSerializationError, match="is not portable JSON serializable"):
            api.run(call)
        assert app.count("workflow_status") == 0

    def test_a_process_may_write_portable_rows_by_default(
        self, shop: Application, api: Flavour
    ) -> None:
        shop.launch(serializer=DBOSPortableJSONSerializer())

        @api.workflow()
        async def run() -> list[int]:
            return [1]

        async def call() -> Any:
            with SetWorkflowID("run"):
                return await run()

        assert api.run(call) == [1]
        assert shop.column("run", "serialization") == "portable_json"

    def test_dates_are_parsed_and_arguments_validated_at_recovery_only(
        self, app: Application, api: Flavour
    ) -> None:
        is_first = app.once()

        @api.workflow(serialization_type=WorkflowSerializationFormat.PORTABLE)
        async def run(day: datetime.date, at: datetime.datetime) -> Any:
            if is_first():
                app.cut_power()
            return [type(day).__name__, type(at).__name__]

        async def call() -> None:
            with SetWorkflowID("run"):
                await run(
                    datetime.date(2030, 1, 2), datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC)
                )

        with pytest.raises(PowerCut):
            api.run(call)
        app.launch()

        assert DBOS.get_result("run") == ["date", "datetime"]


def test_a_validator_runs_when_a_run_is_recovered_and_not_at_the_call(
    app: Application, api: Flavour
) -> None:
    seen: list[Any] = []
    is_first = app.once()

    def strict(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        seen.append((args, kwargs))
        raise LookupError("refused by the validator")

    @api.workflow(validate_args=strict)
    async def run(number: int, *, word: str) -> None:
        if is_first():
            app.cut_power()

    async def call() -> None:
        with SetWorkflowID("run"):
            await run(1, word="x")

    with pytest.raises(PowerCut):
        api.run(call)
    before = list(seen)
    app.launch()

    with pytest.raises(LookupError, match="refused by the validator"):
        DBOS.get_result("run")
    assert before == []
    assert seen == [((1,), {"word": "x"})]
    assert app.column("run", "status") == "ERROR"
