"""Statements compiled: one SQL text with named parameters and fragments, turned into each dialect.

A statement is compiled once per database and remembered by identity; from then on a call costs the
encoding of its lists and batches only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any, Protocol, cast

import msgspec

from dbos.storage.protocol import Statement

REMEMBERED_STATEMENTS = 512
"""Statements are module constants; a caller that builds them anew must not make us grow."""

_POSTGRES_TYPES = {
    "text": "text",
    "integer": "bigint",
    "real": "double precision",
    "boolean": "boolean",
    "json": "text",
}
_TOKEN = re.compile(
    r"""
    (?P<literal>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<comment>--[^\n]*)
    | (?P<cast>::)
    | :(?P<parameter>[A-Za-z_]\w*)
    | \{(?P<fragment>[a-z_]\w*)(?:\((?P<argument>[A-Za-z_]\w*)\))?\}
    | (?P<percent>%)
    """,
    re.VERBOSE,
)

_json = msgspec.json.Encoder()


class Dialect(Protocol):
    """What one database spells in its own way."""

    fragments: Mapping[str, str]
    percent: str

    def table(self, name: str) -> str: ...

    def parameter(self, name: str) -> str: ...

    def any_of(self, name: str) -> str: ...

    def time_limit(self, name: str) -> str: ...

    def id_begins(self, name: str) -> str: ...

    def lock(self, name: str, table: str | None) -> str: ...

    def arrival(self, name: str, table: str) -> str: ...

    def address(self, table: str) -> str: ...

    def try_lock(self, name: str) -> str: ...

    def rows(self, columns: Mapping[str, str]) -> str: ...

    def batch_encoder(self, columns: Mapping[str, str]) -> BatchEncoder: ...

    def encode_list(self, value: Sequence[object]) -> object: ...


BatchEncoder = Callable[[Sequence[object]], str]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement in one dialect, with the way to encode its batch."""

    sql: str
    encoded: bytes
    encode_batch: BatchEncoder | None
    encode_list: Callable[[Sequence[object]], object]

    def bind(self, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters as the driver takes them; the dict is ours to change."""
        for name, value in params.items():
            if isinstance(value, (list, tuple)):
                items = cast("Sequence[object]", value)
                if name == "rows" and self.encode_batch is not None:
                    params[name] = self.encode_batch(items)
                else:
                    params[name] = self.encode_list(items)
        return params


class Compiler:
    """The compiled statements of one open database.

    Shared by all of its threads without a lock: two threads may compile the same statement once
    each, and either result serves.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._compiled: dict[Statement, Compiled] = {}

    def __call__(self, statement: Statement) -> Compiled:
        found = self._compiled.get(statement)
        if found is None:
            if len(self._compiled) >= REMEMBERED_STATEMENTS:
                self._compiled.clear()
            found = self._compiled[statement] = compile_statement(statement, self._dialect)
        return found


def compile_statement(statement: Statement, dialect: Dialect) -> Compiled:
    """Turn fragments and parameters into the dialect; literals and comments stay as they are."""

    def replace(match: re.Match[str]) -> str:
        if parameter := match["parameter"]:
            return dialect.parameter(parameter)
        if fragment := match["fragment"]:
            return _fragment(fragment, match["argument"], statement, dialect)
        if match["comment"]:
            return ""
        if match["percent"]:
            return dialect.percent
        return match[0].replace("%", dialect.percent)

    columns = statement.columns
    sql = _TOKEN.sub(replace, statement.text).strip()
    return Compiled(
        sql,
        sql.encode(),
        None if columns is None else dialect.batch_encoder(columns),
        dialect.encode_list,
    )


def _fragment(name: str, argument: str | None, statement: Statement, dialect: Dialect) -> str:
    if name == "any_of":
        assert argument is not None, "any_of needs the name of a list parameter"
        return dialect.any_of(argument)
    if name == "rows":
        assert statement.columns is not None, "a statement with {rows} needs columns"
        return dialect.rows(statement.columns)
    if name == "time_limit":
        assert argument is not None, "a time limit needs the name of a parameter"
        return dialect.time_limit(argument)
    if name == "id_begins":
        assert argument is not None, "a prefix needs the name of a text parameter"
        return dialect.id_begins(argument)
    if name in ("skip_locked", "lock_share", "lock"):
        return dialect.lock(name, argument)
    if name in ("message_order", "enqueue_order", "enqueue_number"):
        assert argument is not None, "an order of arrival needs the name of a table"
        return dialect.arrival(name, argument)
    if name == "address":
        assert argument is not None, "an address needs the name of a table"
        return dialect.address(argument)
    if name == "try_lock":
        assert argument is not None, "a lock needs the name of a text parameter"
        return dialect.try_lock(argument)
    return dialect.fragments[name] if name in dialect.fragments else dialect.table(name)


class SqliteDialect:
    """SQLite: named parameters as they are, lists and batches as JSON text."""

    percent = "%"
    fragments: Mapping[str, str] = {
        "now_ms": "perdure_now_ms()",
        "as_json": "",
        "json_list": "json_group_array",
        "json_row": "json_array",
        "quietly": "",
        "by_code_point": "COLLATE BINARY",
    }

    def table(self, name: str) -> str:
        return name

    def parameter(self, name: str) -> str:
        return f":{name}"

    def any_of(self, name: str) -> str:
        return f"IN (SELECT value FROM json_each(:{name}))"

    def time_limit(self, name: str) -> str:
        return f":{name}"

    def id_begins(self, name: str) -> str:
        """A range that the primary key serves, which `name_end` closes, and then the exact text."""
        range_ = f"run.workflow_uuid >= :{name} AND run.workflow_uuid < :{name}_end"
        return f"({range_} AND substr(run.workflow_uuid, 1, length(:{name})) = :{name})"

    def lock(self, name: str, table: str | None) -> str:
        return ""

    def arrival(self, name: str, table: str) -> str:
        return f"{table}.rowid"

    def address(self, table: str) -> str:
        return f"{table}.rowid"

    def try_lock(self, name: str) -> str:
        """A write transaction has the whole file for itself."""
        return f":{name} IS NOT NULL"

    def rows(self, columns: Mapping[str, str]) -> str:
        """Rows arrive as arrays: reading by index is twice as fast as by key in SQLite 3.40."""
        picked = ", ".join(
            f"json_extract(value, '$[{index}]') AS {column}" for index, column in enumerate(columns)
        )
        return f"(SELECT {picked} FROM json_each(:rows)) AS r"

    def batch_encoder(self, columns: Mapping[str, str]) -> BatchEncoder:
        pick = _picker(tuple(columns))

        def encode(rows: Sequence[object]) -> str:
            return _json.encode(pick(rows)).decode()

        return encode

    def encode_list(self, value: Sequence[object]) -> object:
        return _json.encode(value).decode()


class PostgresDialect:
    """PostgreSQL: psycopg's named parameters, native lists, batches as one JSON parameter."""

    percent = "%%"
    fragments: Mapping[str, str] = {
        "now_ms": "(EXTRACT(epoch FROM clock_timestamp()) * 1000.0)::bigint",
        "as_json": "::jsonb",
        "json_list": "json_agg",
        "json_row": "json_build_array",
        "quietly": "CROSS JOIN (SELECT set_config('perdure.quiet', 'on', true)) AS quiet",
        "by_code_point": 'COLLATE "C"',
    }

    def __init__(self, schema: str) -> None:
        self._schema = quote_identifier(schema).replace("%", "%%")

    def table(self, name: str) -> str:
        return f"{self._schema}.{name}"

    def parameter(self, name: str) -> str:
        return f"%({name})s"

    def any_of(self, name: str) -> str:
        return f"= ANY(%({name})s)"

    def time_limit(self, name: str) -> str:
        return f"set_config('statement_timeout', %({name})s, true)"

    def id_begins(self, name: str) -> str:
        """Byte by byte in any locale; by the primary key where that is in the order of bytes."""
        return f"run.workflow_uuid ^@ %({name})s"

    def lock(self, name: str, table: str | None) -> str:
        of = "" if table is None else f" OF {table}"
        kind = "SHARE" if name == "lock_share" else "UPDATE"
        return f"FOR {kind}{of}{' SKIP LOCKED' if name == 'skip_locked' else ''}"

    def arrival(self, name: str, table: str) -> str:
        """Rows that are older than the sequence have no number, and come first."""
        if name == "enqueue_number":
            return f"COALESCE({table}.enqueue_seq, 0)"
        column = "message_seq" if name == "message_order" else "enqueue_seq"
        return f"{table}.{column} NULLS FIRST"

    def address(self, table: str) -> str:
        return f"{table}.ctid"

    def try_lock(self, name: str) -> str:
        """A lock of the schema's own, held until the transaction ends."""
        schema = self._schema.replace("'", "''")
        return f"pg_try_advisory_xact_lock(hashtextextended('{schema}:' || %({name})s, 0))"

    def rows(self, columns: Mapping[str, str]) -> str:
        typed = ", ".join(f"{name} {_POSTGRES_TYPES[kind]}" for name, kind in columns.items())
        if "json" not in columns.values():
            return f"json_to_recordset(%(rows)s::json) AS r({typed})"
        # A JSON column arrives as a string that holds JSON, and only a cast from text parses that.
        picked = ", ".join(
            f"{name}::jsonb AS {name}" if kind == "json" else name for name, kind in columns.items()
        )
        return f"(SELECT {picked} FROM json_to_recordset(%(rows)s::json) AS raw({typed})) AS r"

    def batch_encoder(self, columns: Mapping[str, str]) -> BatchEncoder:
        names = tuple(columns)
        pick = _picker(names)
        exact = frozenset(names)

        def encode(rows: Sequence[object]) -> str:
            # The encoder walks a dataclass faster than we can; other shapes are cut to columns.
            if rows and _has_exactly(rows[0], exact):
                return _json.encode(rows).decode()
            return _json.encode([dict(zip(names, row, strict=True)) for row in pick(rows)]).decode()

        return encode

    def encode_list(self, value: Sequence[object]) -> object:
        return list(value)


def quote_identifier(name: str) -> str:
    """The name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _has_exactly(row: object, names: frozenset[str]) -> bool:
    kind = type(row)
    fields: Mapping[str, object] = getattr(kind, "__dataclass_fields__", {})
    struct_fields: tuple[str, ...] = getattr(kind, "__struct_fields__", ())
    return (frozenset(fields) or frozenset(struct_fields)) == names


def _picker(names: tuple[str, ...]) -> Callable[[Sequence[object]], list[tuple[object, ...]]]:
    """A function that takes the named columns, in order, from each dataclass or mapping."""
    from_mapping: Callable[[object], Any] = cast("Any", itemgetter(*names))
    from_object: Callable[[object], Any] = attrgetter(*names)

    def pick(rows: Sequence[object]) -> list[tuple[object, ...]]:
        taken = [
            from_mapping(cast("object", row)) if isinstance(row, Mapping) else from_object(row)
            for row in rows
        ]
        return [(value,) for value in taken] if len(names) == 1 else taken

    return pick
