"""What stored bytes written by an enemy can do in a process with the default codec: nothing.

Each payload would leave a canary file if reading it ran the code it names.
"""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from dbos.errors import DBOSSerializationError, DBOSStoredDataError, RestoredError
from dbos.serialization import Codec, JSONSerializer, PickleSerializer, Stored
from tests.unit.serialization import hostile

CODEC = Codec(JSONSerializer())
WHERE = Stored("w", 1, "output")
HERE = hostile.__name__


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "canary"
    monkeypatch.setenv(hostile.CANARY, str(path))
    return path


class _Payload:
    """Unpickles into a call."""

    def __reduce__(self) -> Any:
        return hostile.bite, ()


def _read(payload: object) -> Any:
    return CODEC.load(json.dumps(payload), "json", WHERE)


def test_the_canary_dies_where_code_does_run(canary: Path) -> None:
    hostile.BitingEnum(1)

    assert canary.exists()


def test_a_pickle_is_refused_unread_in_a_json_process(canary: Path) -> None:
    text = base64.b64encode(pickle.dumps(_Payload())).decode()

    with pytest.raises(DBOSSerializationError, match="is not available") as caught:
        CODEC.load(text, "py_pickle", WHERE)
    with pytest.raises(DBOSSerializationError, match="is not available"):
        CODEC.load_error(text, None, WHERE)
    with pytest.raises(DBOSSerializationError, match="is not available"):
        CODEC.load_arguments(text, "py_pickle", WHERE)
    with pytest.raises(DBOSStoredDataError):
        CODEC.load(text, "json", WHERE)

    assert "unpickling runs code" in str(caught.value)
    assert "serializer=PickleSerializer()" in str(caught.value)
    assert not canary.exists()


def test_that_pickle_does_run_code_in_a_process_that_opted_in(canary: Path) -> None:
    text = base64.b64encode(pickle.dumps(_Payload())).decode()

    Codec(PickleSerializer()).load(text, "py_pickle", WHERE)

    assert canary.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "subprocess:Popen",
        "builtins:eval",
        "builtins:type",
        "builtins:object",
        "builtins:dict",
        "os:path.join",
        "sys:modules",
        "pathlib:Path",
        "dbos.serialization:PickleSerializer",
    ],
)
@pytest.mark.parametrize("tag", ["$dataclass", "$attrs", "$namedtuple", "$enum", "$model"])
def test_a_tag_naming_anything_but_its_own_kind_is_refused(tag: str, name: str) -> None:
    content = {tag: name, "name": "x", "args": "true", "fields": {}, "given": []}

    with pytest.raises(DBOSSerializationError, match=name.replace(":", ".")):
        _read(content)


@pytest.mark.parametrize("name", ["os:system", "subprocess:Popen", "builtins:eval"])
def test_an_exception_tag_naming_something_else_gives_a_stand_in(name: str) -> None:
    restored = _read({"$exception": name, "message": "m", "args": ["echo"]})

    assert type(restored) is RestoredError
    assert (restored.name, restored.args) == (name.replace(":", "."), ("echo",))


def test_an_enum_is_found_without_calling_its_class_or_its_hooks(canary: Path) -> None:
    restored = _read([{"$enum": f"{HERE}:BitingEnum", "name": "ONE"}])
    with pytest.raises(DBOSSerializationError):
        _read({"$enum": f"{HERE}:BitingEnum", "name": "TWO"})

    assert not canary.exists()
    assert restored == [hostile.BitingEnum.ONE]


def test_combined_flags_are_made_without_the_hook_of_their_class(canary: Path) -> None:
    restored = _read({"$enum": f"{HERE}:BitingFlag", "flags": 3})

    assert not canary.exists()
    assert restored is hostile.BitingFlag.ONE | hostile.BitingFlag.TWO


def test_an_exception_is_rebuilt_without_any_method_of_its_class(canary: Path) -> None:
    restored = _read(
        {
            "$exception": f"{HERE}:BitingError",
            "message": "m",
            "args": [1],
            "attributes": {"code": 5, "reason": "r"},
        }
    )

    assert not canary.exists()
    assert type(restored) is hostile.BitingError
    assert (restored.args, vars(restored)) == ((1,), {"code": 5, "reason": "r"})


def test_a_dataclass_is_rebuilt_without_any_method_of_its_class(canary: Path) -> None:
    restored = _read({"$dataclass": f"{HERE}:BitingRecord", "x": 5})

    assert not canary.exists()
    assert type(restored) is hostile.BitingRecord
    assert restored.x == 5


def test_a_named_tuple_is_rebuilt_without_its_constructor(canary: Path) -> None:
    restored = _read({"$namedtuple": f"{HERE}:BitingPair", "a": 5})

    assert not canary.exists()
    assert type(restored) is hostile.BitingPair
    assert tuple(restored) == (5,)


def test_looking_for_a_class_does_not_ask_the_module_for_it(canary: Path) -> None:
    with pytest.raises(DBOSSerializationError, match=r"hostile\.Nothing"):
        _read({"$dataclass": f"{HERE}:Nothing"})

    assert not canary.exists()


def test_undeclared_fields_are_not_set() -> None:
    for name in ("y", "__class__", "__dict__"):
        with pytest.raises(DBOSSerializationError, match="has no field"):
            _read({"$dataclass": f"{HERE}:BitingRecord", "x": 1, name: {}})


def test_a_module_that_is_not_imported_stays_so(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text("open('canary', 'w').close()\nclass A(Exception): pass\n")
    program = textwrap.dedent(
        """
        import sys
        sys.path[:0] = sys.argv[1:]
        from dbos.errors import DBOSSerializationError, RestoredError
        from dbos.serialization import JSONSerializer

        try:
            JSONSerializer().deserialize('{"$dataclass":"sleeper:A"}')
        except DBOSSerializationError as error:
            print(error)
        error = JSONSerializer().deserialize('{"$exception":"sleeper:A","message":"m"}')
        print(type(error) is RestoredError, "sleeper" in sys.modules)
        """
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), *sys.path],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )

    first, second = done.stdout.splitlines()
    assert "sleeper.A is in a module that this process has not imported" in first
    assert second == "True False"
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("key", ["../../etc/passwd", "/etc/passwd", "a.b", "", "Europe/..", "é"])
def test_a_time_zone_name_cannot_leave_the_time_zone_directory(key: str) -> None:
    with pytest.raises(DBOSStoredDataError):
        _read({"$zoneinfo": key})


@pytest.mark.parametrize(
    "payload",
    [
        {"$unknown": 1},
        {"$tuple": 5},
        {"$tuple": {"a": 1}},
        {"$dict": ["a"]},
        {"$dict": [[], 1]},
        {"$set": [[]]},
        {"$int": 5},
        {"$int": "0xzz"},
        {"$float": "1.5"},
        {"$bytes": "%%%"},
        {"$str": "\\x"},
        {"$datetime": "yesterday"},
        {"$datetime": "2024-01-01", "zone": "Europe/Paris"},
        {"$timedelta": [10**12, 0, 0]},
        {"$timezone": [1, 0, 0]},
        {"$decimal": "one"},
        {"$uuid": "x"},
        {"$path": "a", "class": "Popen"},
        {"$range": [1, 2]},
        {"$complex": [1]},
        {"$enum": 5},
        {"$enum": f"{HERE}:BitingFlag", "flags": 1000},
        {"$exception": "builtins:ValueError"},
        {"$exception": "builtins:ValueError", "message": "m", "args": 5},
        {"$exception": "builtins:ExceptionGroup", "message": "m", "args": []},
        {"$exception": "builtins:ExceptionGroup", "message": "m", "group": "g", "members": [1]},
    ],
    ids=json.dumps,
)
def test_a_malformed_tag_is_corrupt_data(payload: Any) -> None:
    with pytest.raises(DBOSStoredDataError) as caught:
        _read(payload)

    assert (caught.value.workflow_id, caught.value.step_id) == ("w", 1)
    assert caught.value.field == "output"


@pytest.mark.parametrize("text", ["", "{", "nope", "[1]x", '"\ud800"', "NaN", '{"a":}'])
def test_text_that_is_not_json_is_corrupt_data_and_is_not_shown(text: str) -> None:
    with pytest.raises(DBOSStoredDataError, match="output of step 1 of workflow w") as caught:
        CODEC.load(text, "json", WHERE)

    assert caught.value.__cause__ is None
    assert "nope" not in str(caught.value)


def test_text_nested_beyond_all_bounds_is_an_error_of_ours() -> None:
    for text in ("[" * 100_000 + "]" * 100_000, '{"$tuple":[' * 900 + "]}" * 900):
        with pytest.raises(DBOSSerializationError, match="nested too deeply"):
            CODEC.load(text, "json", WHERE)
