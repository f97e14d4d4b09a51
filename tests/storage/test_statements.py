"""One SQL text becomes right in both dialects, and batches arrive as they were."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from dbos.storage.protocol import Statement
from dbos.storage.statements import (
    REMEMBERED_STATEMENTS,
    Compiler,
    PostgresDialect,
    SqliteDialect,
    compile_statement,
)
from tests.storage.conftest import AnyDatabase

COLUMNS = {"name": "text", "size": "integer", "weight": "real", "is_red": "boolean"}
ECHO = Statement("SELECT r.name, r.size, r.weight, r.is_red FROM {rows} ORDER BY r.size", COLUMNS)


@dataclass(frozen=True, slots=True)
class Thing:
    name: str | None
    size: int
    weight: float | None
    is_red: bool


@dataclass(frozen=True, slots=True)
class LabelledThing:
    label: object
    is_red: bool
    weight: float
    size: int
    name: str


def one_line(sql: str) -> str:
    return " ".join(sql.split())


def test_parameters_fragments_and_literals_become_postgres_sql() -> None:
    text = """
        SELECT '{"a": ":b {queues} 5%"}'::json, x % 2, "a:b" FROM {queues} -- :not {a} parameter
        WHERE name {any_of(names)} AND at < {now_ms} AND id = :id::text {skip_locked(queues)}
    """

    compiled = compile_statement(Statement(text), PostgresDialect('my "schema" 100%'))

    assert one_line(compiled.sql) == one_line(
        """SELECT '{"a": ":b {queues} 5%%"}'::json, x %% 2, "a:b" FROM
        "my ""schema"" 100%%".queues WHERE name = ANY(%(names)s) AND
        at < (EXTRACT(epoch FROM clock_timestamp()) * 1000.0)::bigint AND id = %(id)s::text
        FOR UPDATE OF queues SKIP LOCKED"""
    )


def test_parameters_fragments_and_literals_become_sqlite_sql() -> None:
    text = """SELECT ':a {queues} 5%' FROM {queues} WHERE name {any_of(names)} AND at < {now_ms}
        AND id = :id {skip_locked} {lock_share}"""

    compiled = compile_statement(Statement(text), SqliteDialect())

    assert one_line(compiled.sql) == one_line(
        """SELECT ':a {queues} 5%' FROM queues WHERE name IN (SELECT value FROM json_each(:names))
        AND at < perdure_now_ms() AND id = :id"""
    )


def test_a_statement_is_compiled_once_and_the_memory_for_them_is_bounded() -> None:
    compiler = Compiler(SqliteDialect())
    statement = Statement("SELECT 1")

    first, second = compiler(statement), compiler(statement)
    for _ in range(REMEMBERED_STATEMENTS):
        compiler(Statement("SELECT 1"))

    assert first is second
    assert compiler(statement) is not first


def test_a_batch_of_dataclasses_arrives_with_types_and_nulls(database: AnyDatabase) -> None:
    things = [Thing("a'\"\\\n{é😀}", -(2**62), 0.1, True), Thing(None, 2**62, None, False)]

    with database.read() as tx:
        rows = tx.all(ECHO, rows=things)

    assert [Thing(*row) for row in rows] == things


@pytest.mark.parametrize("shape", ["mapping", "wider dataclass", "tuple of rows"])
def test_a_batch_is_cut_to_the_columns(database: AnyDatabase, shape: str) -> None:
    mapping = {"size": 1, "name": "a", "is_red": True, "weight": 2.0, "label": object()}
    shapes: dict[str, list[object] | tuple[object, ...]] = {
        "mapping": [mapping],
        "wider dataclass": [LabelledThing(object(), True, 2.0, 1, "a")],
        "tuple of rows": (Thing("a", 1, 2.0, True),),
    }

    with database.read() as tx:
        rows = tx.all(ECHO, rows=shapes[shape])

    assert rows == [("a", 1, 2.0, True)]


def test_an_empty_batch_has_no_rows(database: AnyDatabase) -> None:
    with database.read() as tx:
        assert tx.all(ECHO, rows=[]) == []


def test_one_column_is_a_batch_too(database: AnyDatabase) -> None:
    statement = Statement("SELECT r.name FROM {rows}", {"name": "text"})

    with database.read() as tx:
        assert tx.all(statement, rows=[{"name": "a"}, Thing("b", 1, 2.0, True)]) == [("a",), ("b",)]


@pytest.mark.parametrize("megabytes", [1, 8])
def test_a_large_text_passes_whole(database: AnyDatabase, megabytes: int) -> None:
    text = "ü\\\"x'" * (megabytes * 2**18)

    with database.read() as tx:
        (row,) = tx.all(ECHO, rows=[Thing(text, 1, None, False)])

    assert row[0] == text


def test_lists_are_matched_by_any_of(database: AnyDatabase) -> None:
    statement = Statement(
        "SELECT r.size FROM {rows} WHERE r.name {any_of(names)} AND r.size {any_of(sizes)}", COLUMNS
    )
    things = [Thing("a", 1, None, True), Thing("b", 2, None, True), Thing("a", 3, None, True)]

    with database.read() as tx:
        rows = tx.all(statement, rows=things, names=["a", "c"], sizes=[1, 2])
        none = tx.all(statement, rows=things, names=[], sizes=[1])

    assert rows == [(1,)]
    assert none == []


def test_a_json_column_is_stored_as_json_and_read_as_text(database: AnyDatabase) -> None:
    insert = Statement(
        "INSERT INTO {workflow_status} (workflow_uuid, attributes)"
        " SELECT r.id, r.attributes FROM {rows}",
        {"id": "text", "attributes": "json"},
    )
    read = Statement("SELECT attributes FROM {workflow_status} ORDER BY workflow_uuid")
    single = Statement(
        "UPDATE {workflow_status} SET attributes = :value{as_json} WHERE workflow_uuid = 'b'"
    )

    with database.write() as tx:
        tx.run(
            insert, rows=[{"id": "a", "attributes": '{"k": 1}'}, {"id": "b", "attributes": None}]
        )
        tx.run(single, value='{"z": [true]}')
        rows = tx.all(read)

    assert rows == [('{"k": 1}',), ('{"z": [true]}',)]


def test_the_database_clock_in_sql_and_in_python_agree(database: AnyDatabase) -> None:
    before = database.now_ms()
    with database.read() as tx:
        row = tx.one(Statement("SELECT {now_ms}"))

    assert row is not None
    assert before - 50 <= row[0] <= database.now_ms() + 50
