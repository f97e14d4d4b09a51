"""Our statements on a connection that belongs to somebody else, inside its open transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from dbos.storage.protocol import Row, Statement
from dbos.storage.statements import Compiler, PostgresDialect, SqliteDialect


class Adopted(Protocol):
    """A connection in a transaction that its owner began and will end."""

    def run(self, sql: str, params: Mapping[str, Any]) -> tuple[list[Row], int]:
        """Execute a text with `:name` parameters: its rows, and how many rows it changed."""
        ...


class NamedSqliteDialect(SqliteDialect):
    """SQLite on a connection that does not know our functions."""

    fragments: Mapping[str, str] = {**SqliteDialect.fragments, "now_ms": ":now_ms"}


class NamedPostgresDialect(PostgresDialect):
    """PostgreSQL with `:name` parameters, which the owner's library translates for its driver."""

    percent = "%"

    def __init__(self, schema: str) -> None:
        super().__init__(schema)
        self._schema = self._schema.replace("%%", "%")

    def parameter(self, name: str) -> str:
        return f":{name}"

    def any_of(self, name: str) -> str:
        return f"= ANY(:{name})"

    def rows(self, columns: Mapping[str, str]) -> str:
        return super().rows(columns).replace("%(rows)s::json", "CAST(:rows AS json)")


class AdoptedTx:
    """A `Tx` in somebody else's transaction: it neither begins nor ends anything."""

    __slots__ = ("_compile", "_connection", "_now_ms")

    def __init__(
        self, connection: Adopted, compile_: Compiler, now_ms: Callable[[], int] | None = None
    ) -> None:
        """`now_ms` is the database's clock, where the connection cannot tell it."""
        self._connection = connection
        self._compile = compile_
        self._now_ms = now_ms

    def one(self, statement: Statement, /, **params: object) -> Row | None:
        rows = self.all(statement, **params)
        return rows[0] if rows else None

    def all(self, statement: Statement, /, **params: object) -> list[Row]:
        return self._execute(statement, params)[0]

    def run(self, statement: Statement, /, **params: object) -> int:
        return self._execute(statement, params)[1]

    def _execute(self, statement: Statement, params: dict[str, Any]) -> tuple[list[Row], int]:
        compiled = self._compile(statement)
        bound = compiled.bind(params)
        if self._now_ms is not None and ":now_ms" in compiled.sql:
            bound["now_ms"] = self._now_ms()
        return self._connection.run(compiled.sql, bound)


def adopter(kind: Literal["sqlite", "postgres"], schema: str) -> Callable[[Adopted], AdoptedTx]:
    """How to run statements for a schema on connections to a database that is not opened by us."""
    if kind == "sqlite":
        compile_ = Compiler(NamedSqliteDialect())
        return lambda connection: AdoptedTx(connection, compile_, _host_now_ms)
    compile_ = Compiler(NamedPostgresDialect(schema))
    return lambda connection: AdoptedTx(connection, compile_)


def _host_now_ms() -> int:
    return time.time_ns() // 1_000_000
