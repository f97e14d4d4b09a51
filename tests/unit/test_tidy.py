"""The house rules: each one finds its violation, and leaves clean code alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import tidy

CLEAN = '''"""Claims runs from a queue."""

from typing import TYPE_CHECKING

from dbos.engine import io

if TYPE_CHECKING:
    import sqlalchemy

LIMIT = 3  # A comment that says why.


class Claim:
    """Who runs a workflow. SELECT nothing here."""

    def settle(self, rows: "sqlalchemy.Row") -> str:
        import pydantic

        return "Select a queue from the list"
'''


def check(root: Path, path: str, code: str) -> list[str]:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code, encoding="utf-8")
    return tidy.check_file(file, root)


def documented(code: str) -> str:
    return f'"""A module."""\n{code}\n'


@pytest.mark.parametrize("path", ["src/dbos/ops/claims.py", "tools/claims.py", "tests/test_a.py"])
def test_clean_code_passes(tmp_path: Path, path: str) -> None:
    found = check(tmp_path, path, CLEAN)

    assert found == []


def test_a_file_over_the_limit_is_found_and_one_at_the_limit_is_not(tmp_path: Path) -> None:
    longest = documented("x = 1\n" * 598)

    assert check(tmp_path, "src/dbos/cron.py", longest) == []
    assert check(tmp_path, "src/dbos/cron.py", longest + "x = 1\n") == [
        "src/dbos/cron.py:601: file of 601 lines; split it, 600 is the limit"
    ]


@pytest.mark.parametrize("tree", ["src", "tests", "tools", "bench"])
@pytest.mark.parametrize("definition", ["def", "async def"])
def test_a_function_over_the_limit_is_found_in_every_tree(
    tmp_path: Path, tree: str, definition: str
) -> None:
    longest = documented(f"{definition} fire():" + "\n    x = 1" * 69)

    assert check(tmp_path, f"{tree}/cron.py", longest) == []
    assert check(tmp_path, f"{tree}/cron.py", longest + "    x = 1\n") == [
        f"{tree}/cron.py:2: function fire of 71 lines; split it, 70 is the limit"
    ]


def test_a_module_without_a_docstring_is_found(tmp_path: Path) -> None:
    found = check(tmp_path, "src/dbos/cron.py", "x = 1\n")

    assert len(found) == 1
    assert found[0].startswith("src/dbos/cron.py:1: no module docstring")


def test_an_empty_module_needs_no_docstring(tmp_path: Path) -> None:
    assert check(tmp_path, "src/dbos/ops/__init__.py", "") == []


@pytest.mark.parametrize(
    "code",
    [
        "class QueueManager: ...",
        "class BaseQueue: ...",
        "class HTTPUtils: ...",
        "def row_data(): ...",
        "def _helper(): ...",
        "async def process_queue(): ...",
        "class Queue:\n    def process_row(self): ...",
    ],
)
def test_a_name_that_says_nothing_is_found(tmp_path: Path, code: str) -> None:
    found = check(tmp_path, "src/dbos/queues.py", documented(code))

    assert len(found) == 1
    assert "says nothing" in found[0]


@pytest.mark.parametrize("path", ["src/dbos/utils.py", "src/dbos/base/__init__.py"])
def test_a_module_name_that_says_nothing_is_found(tmp_path: Path, path: str) -> None:
    found = check(tmp_path, path, documented(""))

    assert len(found) == 1
    assert "says nothing" in found[0]


@pytest.mark.parametrize(
    "code",
    [
        "def database(metadata): ...",
        "class Datasource: ...",
        "class DBOSBaseException(BaseException): ...",
        "def test_corrupt_data_is_reported(): ...",
        "def start_process(): ...",
    ],
)
def test_a_name_that_only_resembles_a_banned_one_passes(tmp_path: Path, code: str) -> None:
    assert check(tmp_path, "src/dbos/queues.py", documented(code)) == []


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_a_banned_word_is_found_in_comments_only(tmp_path: Path, word: str) -> None:
    code = documented(f'x = "{word}"\ny = 2  # {word}: later')

    found = check(tmp_path, "tests/test_cron.py", code)

    assert found == [
        f"tests/test_cron.py:3: {word} in a comment; do it, or file it elsewhere",
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "\\n    SELECT name\\n    FROM queues",
        "select name from queues",
        "INSERT INTO queues VALUES (1)",
        "INSERT OR IGNORE INTO queues VALUES (1)",
        "insert into queues (name) values (1)",
        "UPDATE queues SET name = 1",
        "DELETE FROM queues",
        "CREATE TABLE queues (name)",
        "CREATE UNIQUE INDEX first ON queues (name)",
        "WITH due AS (SELECT 1)",
        "PRAGMA journal_mode = WAL",
        "BEGIN IMMEDIATE",
    ],
)
def test_sql_is_found_outside_storage_and_allowed_in_it(tmp_path: Path, sql: str) -> None:
    code = documented(f'x = "{sql}"')

    found = check(tmp_path, "src/dbos/ops/queues.py", code)

    assert len(found) == 1
    assert found[0].startswith("src/dbos/ops/queues.py:2: SQL outside")
    assert check(tmp_path, "src/dbos/storage/queues.py", code) == []
    assert check(tmp_path, "tests/test_queues.py", code) == []


def test_sql_is_found_in_formatted_text(tmp_path: Path) -> None:
    found = check(tmp_path, "src/dbos/api/queue.py", documented('x = f"DELETE FROM {__name__}"'))

    assert len(found) == 1
    assert "SQL outside" in found[0]


@pytest.mark.parametrize(
    "text",
    ["Select a queue", "Update the queue", "Delete from here on", "BEGINNING", "with all as it is"],
)
def test_prose_that_begins_like_sql_passes(tmp_path: Path, text: str) -> None:
    assert check(tmp_path, "src/dbos/api/queue.py", documented(f'x = "{text}"')) == []


@pytest.mark.parametrize("late", ["import json", "from dbos.storage import queues"])
def test_an_import_inside_a_function_is_found(tmp_path: Path, late: str) -> None:
    code = documented(f"class Queue:\n    def claim(self):\n        {late}")

    found = check(tmp_path, "src/dbos/runtime/loops.py", code)

    assert len(found) == 1
    assert found[0].startswith("src/dbos/runtime/loops.py:4: import of ")


@pytest.mark.parametrize("tree", ["tests", "bench"])
def test_tests_and_measurements_may_import_late(tmp_path: Path, tree: str) -> None:
    code = documented("def start():\n    import dbos")

    assert check(tmp_path, f"{tree}/launch.py", code) == []


@pytest.mark.parametrize(
    "late",
    [
        "import attrs",
        "import pydantic",
        "from dbos.storage import postgres",
        "from dbos.storage.postgres import PostgresDatabase",
        "from ..storage.postgres import PostgresDatabase",
        "from dbos.transactions.engines import create",
    ],
)
def test_an_optional_dependency_may_be_imported_late(tmp_path: Path, late: str) -> None:
    code = documented(f"def claim():\n    {late}")

    assert check(tmp_path, "src/dbos/api/assembly.py", code) == []


@pytest.mark.parametrize("layer", ["engine", "ops"])
@pytest.mark.parametrize(
    "statement",
    [
        "import asyncio",
        "import threading as t",
        "from time import monotonic",
        "import random",
        "from uuid import uuid4",
        "import socket",
        "import sqlite3",
        "import psycopg.rows",
        "try:\n    import psycopg_pool\nexcept ImportError: ...",
    ],
)
def test_a_loop_free_layer_imports_nothing_that_waits_or_draws(
    tmp_path: Path, layer: str, statement: str
) -> None:
    code = documented(statement)

    found = check(tmp_path, f"src/dbos/{layer}/steps.py", code)

    assert len(found) == 1
    assert f"in dbos.{layer}; go through Io" in found[0]
    assert check(tmp_path, "src/dbos/runtime/aio.py", code) == []


@pytest.mark.parametrize(
    ("module", "home"), [("sqlalchemy", "transactions"), ("opentelemetry", "telemetry")]
)
def test_a_dependency_with_a_home_is_found_elsewhere(
    tmp_path: Path, module: str, home: str
) -> None:
    code = documented(f"from {module} import trace")

    found = check(tmp_path, "src/dbos/config.py", code)

    assert found == [f"src/dbos/config.py:2: import of {module}.trace outside dbos.{home}"]
    assert check(tmp_path, f"src/dbos/{home}/spans.py", code) == []
    assert check(tmp_path, "tests/test_spans.py", code) == []


@pytest.mark.parametrize("guard", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_what_only_type_checkers_import_does_not_count(tmp_path: Path, guard: str) -> None:
    code = documented(f"if {guard}:\n    import asyncio\nelse:\n    import time")

    found = check(tmp_path, "src/dbos/ops/sleep.py", code)

    assert found == ["src/dbos/ops/sleep.py:5: import of time in dbos.ops; go through Io"]


@pytest.mark.parametrize(
    "code",
    ["import threading\nx = threading.Lock()", "import asyncio\nx = asyncio.Semaphore(1)"],
)
def test_a_lock_is_found_outside_runtime_and_storage(tmp_path: Path, code: str) -> None:
    found = check(tmp_path, "src/dbos/api/queue.py", documented(code))

    assert len(found) == 1
    assert found[0].startswith("src/dbos/api/queue.py:3: ")
    assert "the only places with locks" in found[0]


def test_an_imported_lock_is_found_where_it_is_imported(tmp_path: Path) -> None:
    found = check(tmp_path, "src/dbos/api/queue.py", documented("from threading import RLock"))

    assert len(found) == 1
    assert found[0].startswith("src/dbos/api/queue.py:2: threading.RLock outside")


@pytest.mark.parametrize("layer", ["runtime", "storage"])
def test_a_lock_is_allowed_where_locks_live(tmp_path: Path, layer: str) -> None:
    code = documented("import threading\nx = threading.Lock()")

    assert check(tmp_path, f"src/dbos/{layer}/lanes.py", code) == []


def test_an_event_is_no_lock(tmp_path: Path) -> None:
    code = documented("import threading\nx = threading.Event()")

    assert check(tmp_path, "src/dbos/services/leases.py", code) == []


def test_a_file_that_does_not_parse_is_reported(tmp_path: Path) -> None:
    found = check(tmp_path, "src/dbos/cron.py", "def :\n")

    assert len(found) == 1
    assert found[0].startswith("src/dbos/cron.py:1: does not parse")


def test_the_command_fails_when_any_file_of_any_tree_has_a_violation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(tmp_path, "src/dbos/cron.py", CLEAN)
    check(tmp_path, "bench/steps.py", documented("class Manager: ..."))

    status = tidy.main([str(tmp_path)])

    assert status == 1
    assert capsys.readouterr().out.startswith("bench/steps.py:2: class Manager")


def test_the_command_succeeds_on_clean_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(tmp_path, "src/dbos/cron.py", CLEAN)

    status = tidy.main([str(tmp_path)])

    assert status == 0
    assert capsys.readouterr().out == "tidy: 1 files, nothing to say\n"


def test_the_command_fails_where_there_is_nothing_to_check(tmp_path: Path) -> None:
    assert tidy.main([str(tmp_path)]) == 2
