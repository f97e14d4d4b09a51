"""Datasources of both kinds, and what the tests keep in them: one table of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import psycopg
from sqlalchemy import text

from dbos import AsyncSQLAlchemyDatasource, SQLAlchemyDatasource
from tests.behaviour.flavours import Asyncio, Blocking, Body, Decorate, Flavour, blocking


class Store(Protocol):
    """A datasource with the table `lines`. Bodies are coroutines, whatever its kind."""

    api: Flavour

    async def open(self, **options: Any) -> None: ...
    async def close(self) -> None: ...
    async def migrate(self) -> None: ...
    async def run(self, options: Any, body: Body, *args: Any) -> Any: ...
    def transaction(self, **options: Any) -> Decorate: ...
    def bare_transaction(self, body: Body) -> Body: ...
    async def execute(self, statement: str, **params: Any) -> Any: ...


class BlockingStore:
    """Over `SQLAlchemyDatasource`."""

    api: Flavour = Blocking()

    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self, **options: Any) -> None:
        self.source = SQLAlchemyDatasource.create(self.url, **options)

    async def close(self) -> None:
        self.source.destroy()

    async def migrate(self) -> None:
        SQLAlchemyDatasource.migrate(self.url)

    async def run(self, options: Any, body: Body, *args: Any) -> Any:
        return self.source.run_tx_step(options, blocking(body), *args)

    def transaction(self, **options: Any) -> Decorate:
        decorate: Callable[..., Any] = self.source.transaction
        return lambda body: _awaited(decorate(**options)(blocking(body)))

    def bare_transaction(self, body: Body) -> Body:
        return _awaited(self.source.transaction(blocking(body)))

    async def execute(self, statement: str, **params: Any) -> Any:
        return self.source.sql_session().execute(text(statement), params)


def _awaited(sync: Callable[..., Any]) -> Body:
    async def call(*args: Any) -> Any:
        return sync(*args)

    return call


class AsyncStore:
    """Over `AsyncSQLAlchemyDatasource`."""

    api: Flavour = Asyncio()

    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self, **options: Any) -> None:
        self.source = await AsyncSQLAlchemyDatasource.create(self.url, **options)

    async def close(self) -> None:
        await self.source.destroy()

    async def migrate(self) -> None:
        await AsyncSQLAlchemyDatasource.migrate(self.url)

    async def run(self, options: Any, body: Body, *args: Any) -> Any:
        return await self.source.run_tx_step_async(options, body, *args)

    def transaction(self, **options: Any) -> Decorate:
        decorate: Callable[..., Decorate] = self.source.transaction
        return decorate(**options)

    def bare_transaction(self, body: Body) -> Body:
        return self.source.transaction(body)

    async def execute(self, statement: str, **params: Any) -> Any:
        return await self.source.sql_session().execute(text(statement), params)


KINDS: tuple[tuple[str, str, type[Any]], ...] = (
    ("blocking", "sqlite", BlockingStore),
    ("blocking", "postgresql", BlockingStore),
    ("asyncio", "sqlite", AsyncStore),
    ("asyncio", "postgresql", AsyncStore),
    ("asyncio", "postgresql+asyncpg", AsyncStore),
)
"""Each way to a database: the kind of the datasource and the scheme of its URL."""


async def make_lines(store: Store) -> None:
    async def make() -> None:
        await store.execute("CREATE TABLE lines (n INT PRIMARY KEY)")

    await store.run(None, make)


def drop_all(url: str) -> None:
    """Leave nothing in a PostgreSQL database: far cheaper than making another."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS dbos CASCADE")
        connection.execute("DROP TABLE IF EXISTS lines, totals")


async def add(store: Store, number: int) -> int:
    """In a transaction: one more line."""
    await store.execute("INSERT INTO lines VALUES (:n)", n=number)
    return number


def numbers(store: Store) -> list[int]:
    """The lines that are there, read on a loop of its own."""

    async def read() -> list[int]:
        rows = (await store.execute("SELECT n FROM lines ORDER BY n")).fetchall()
        return [dict(row)["n"] for row in rows]

    found: list[int] = store.api.run(store.run, {"name": "read"}, read)
    return found
