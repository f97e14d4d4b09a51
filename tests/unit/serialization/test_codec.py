"""Formats: which one a payload gets, which ones a process reads, what happens with the others."""

from __future__ import annotations

import json
import pathlib
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest

from dbos.errors import DBOSInitializationError, DBOSSerializationError, DBOSStoredDataError
from dbos.serialization import (
    Codec,
    DBOSPortableJSONSerializer,
    JSONSerializer,
    PickleSerializer,
    Serializer,
    Stored,
    WorkflowSerializationFormat,
)

WHERE = Stored("w", 3, "output")
DEFAULT, NATIVE, PORTABLE = (
    WorkflowSerializationFormat.DEFAULT,
    WorkflowSerializationFormat.NATIVE,
    WorkflowSerializationFormat.PORTABLE,
)


class Named(Serializer):
    """A custom format with the name and the text it is told."""

    def __init__(self, name: Any = "named", text: Any = None) -> None:
        self._name = name
        self._text = text

    def serialize(self, data: Any) -> str:
        text: str = json.dumps(data) if self._text is None else self._text
        return text

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)

    def name(self) -> str:
        name: str = self._name
        return name


class Anonymous(Serializer):
    def serialize(self, data: Any) -> str:
        return str(data)

    def deserialize(self, serialized_data: str) -> Any:
        return serialized_data


class Unpickler(PickleSerializer):
    """A user's own variant of a format of ours."""

    def deserialize(self, serialized_data: str) -> Any:
        return "restricted"


@pytest.mark.parametrize(
    ("serializer", "native", "readable"),
    [
        (JSONSerializer(), "json", {"json", "portable_json"}),
        (DBOSPortableJSONSerializer(), "portable_json", {"json", "portable_json"}),
        (PickleSerializer(), "py_pickle", {"json", "portable_json", "py_pickle"}),
        (Named(), "named", {"json", "portable_json", "named"}),
        (Anonymous(), "custom_serializer", {"json", "portable_json", "custom_serializer"}),
    ],
)
def test_a_process_reads_json_in_both_forms_and_what_it_is_configured_for(
    serializer: Serializer, native: str, readable: set[str]
) -> None:
    codec = Codec(serializer)

    assert codec.native == native
    assert codec.readable == readable


@pytest.mark.parametrize(
    ("requested", "run_format", "expected"),
    [
        (DEFAULT, None, "py_pickle"),
        (DEFAULT, "json", "json"),
        (DEFAULT, "portable_json", "portable_json"),
        (NATIVE, "json", "py_pickle"),
        (NATIVE, None, "py_pickle"),
        (PORTABLE, "json", "portable_json"),
        (PORTABLE, None, "portable_json"),
    ],
)
def test_the_format_follows_the_request_then_the_run_then_the_configuration(
    requested: WorkflowSerializationFormat, run_format: str | None, expected: str
) -> None:
    assert Codec(PickleSerializer()).format_for(requested, run_format) == expected


def test_the_members_have_the_values_of_the_reference() -> None:
    assert [(m.name, m.value) for m in WorkflowSerializationFormat] == [
        ("PORTABLE", "portable"),
        ("NATIVE", "native"),
        ("DEFAULT", "None"),
    ]


def test_a_process_with_pickle_reads_what_json_processes_wrote() -> None:
    text = Codec(JSONSerializer()).dump((1, {2}), "result", "json")

    assert Codec(PickleSerializer()).load(text, "json", WHERE) == (1, {2})


def test_a_row_without_a_format_is_a_pickle_or_of_the_custom_serializer() -> None:
    pickled = Codec(PickleSerializer()).dump([1], "result", "py_pickle")

    assert Codec(PickleSerializer()).load(pickled, None, WHERE) == [1]
    assert Codec(Named()).load("[1]", None, WHERE) == [1]
    assert not Codec(JSONSerializer()).can_read(None)
    with pytest.raises(DBOSSerializationError, match="py_pickle is not available"):
        Codec(JSONSerializer()).load(pickled, None, WHERE)


def test_a_format_that_is_not_available_is_refused_for_reading_and_writing() -> None:
    codec = Codec(JSONSerializer())

    with pytest.raises(DBOSSerializationError, match=r"output of step 3 of workflow w.*not avail"):
        codec.load("x", "acme", WHERE)
    with pytest.raises(DBOSSerializationError, match="acme is not available"):
        codec.dump(1, "result", "acme")


def test_no_text_is_none_but_no_arguments_are_a_fault() -> None:
    codec = Codec(JSONSerializer())

    assert codec.load(None, "json", WHERE) is None
    with pytest.raises(DBOSStoredDataError):
        codec.load_arguments(None, "json", WHERE)
    with pytest.raises(DBOSStoredDataError):
        codec.load_error(None, "json", WHERE)


@pytest.mark.parametrize("text", ["", "%%%", "aGVsbG8=", "gASVCg=="])
def test_damaged_pickles_are_corrupt_data_of_that_place(text: str) -> None:
    with pytest.raises(DBOSStoredDataError) as caught:
        Codec(PickleSerializer()).load(text, "py_pickle", WHERE)

    assert (caught.value.workflow_id, caught.value.step_id, caught.value.field) == (
        "w",
        3,
        "output",
    )


@pytest.mark.parametrize(
    "text", ["5", "[]", "{}", '{"args":[1],"kwargs":{}}', '{"args":{"$tuple":[]},"kwargs":5}']
)
def test_a_text_that_is_not_one_of_arguments_is_corrupt_data(text: str) -> None:
    with pytest.raises(DBOSStoredDataError):
        Codec(JSONSerializer()).load_arguments(text, "json", WHERE)


def test_a_text_that_is_not_one_of_an_error_is_corrupt_data() -> None:
    with pytest.raises(DBOSStoredDataError):
        Codec(JSONSerializer()).load_error('"text"', "json", WHERE)


@pytest.mark.parametrize("serializer", [JSONSerializer(), PickleSerializer(), Named()])
def test_arguments_come_back_in_every_format(serializer: Serializer) -> None:
    codec = Codec(serializer)

    text = codec.dump_arguments((1, "a"), {"k": [2]}, codec.native)

    assert codec.load_arguments(text, codec.native, WHERE) == ((1, "a"), {"k": [2]})


def test_plain_arguments_are_stored_as_one_typed_value() -> None:
    codec = Codec(JSONSerializer())

    text = codec.dump_arguments((1, "a"), {"k": 2}, "json")

    assert codec.load(text, "json", WHERE) == {"args": (1, "a"), "kwargs": {"k": 2}}


@pytest.mark.parametrize("serializer", [PickleSerializer(), Named()])
def test_the_argument_a_serializer_refuses_is_named(serializer: Serializer) -> None:
    codec = Codec(serializer)
    lock = threading.Lock()

    with pytest.raises(DBOSSerializationError) as positional:
        codec.dump_arguments((1, lock), {}, codec.native)
    with pytest.raises(DBOSSerializationError) as named:
        codec.dump_arguments((), {"k": lock}, codec.native)
    with pytest.raises(DBOSSerializationError) as result:
        codec.dump(lock, "result", codec.native)

    assert (positional.value.path, positional.value.type_name) == ("args[1]", "_thread.lock")
    assert named.value.path == "kwargs['k']"
    assert result.value.path == "result"


@pytest.mark.parametrize("text", [5, b"x", "a\0b", "\ud800"])
def test_a_text_no_database_can_hold_is_refused_when_it_is_written(text: Any) -> None:
    with pytest.raises(DBOSSerializationError, match="result"):
        Codec(Named(text=text)).dump(1, "result", "named")


@pytest.mark.parametrize("name", ["", None, 5, "json", "portable_json", "py_pickle"])
def test_a_serializer_must_have_a_name_of_its_own(name: Any) -> None:
    with pytest.raises(DBOSInitializationError, match="name"):
        Codec(Named(name=name))


def test_a_variant_of_a_format_of_ours_is_used_for_it() -> None:
    codec = Codec(Unpickler())

    assert codec.native == "py_pickle"
    assert codec.load("whatever", "py_pickle", WHERE) == "restricted"


def test_the_public_serializers_work_by_themselves() -> None:
    for serializer in (JSONSerializer(), PickleSerializer(), DBOSPortableJSONSerializer()):
        assert serializer.deserialize(serializer.serialize({"a": [1]})) == {"a": [1]}
    with pytest.raises(DBOSStoredDataError):
        JSONSerializer().deserialize("{")
    with pytest.raises(DBOSSerializationError, match="cannot store value"):
        PickleSerializer().serialize(threading.Lock())


def test_a_pickle_is_a_plain_one_in_base64() -> None:
    import base64

    text = PickleSerializer().serialize({"args": (1,), "kwargs": {}})

    assert pickle.loads(base64.b64decode(text)) == {"args": (1,), "kwargs": {}}


def test_importing_the_formats_imports_no_optional_package(tmp_path: pathlib.Path) -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]; import dbos.serialization; "
        "print(*sorted({'pydantic', 'attr', 'attrs', 'numpy'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, *sys.path],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )

    assert done.stdout.split() == []
