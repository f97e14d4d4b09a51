"""Fixtures of the behaviour tests: an application on each database, and the two flavours."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from dbos import DBOS
from tests.behaviour.application import Application
from tests.behaviour.flavours import Asyncio, Blocking, Flavour
from tests.support.postgres import PostgresAddress


@pytest.fixture(scope="session")
def shared_database(postgres_server: PostgresAddress) -> Iterator[str]:
    """One PostgreSQL database of these tests: emptying it is cheaper than making another."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def store_database(postgres_server: PostgresAddress) -> Iterator[str]:
    """One PostgreSQL database for datasources; a test that uses it leaves nothing in it."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any run, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'system.sqlite'}"
        return
    url: str = request.getfixturevalue("shared_database")
    yield url
    empty(url)


def empty(url: str) -> None:
    """Delete every row of ours. A handful of rows is gone far sooner than tables are truncated."""
    with psycopg.connect(url, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'dbos' AND tablename NOT LIKE %s",
            ("%migrations",),
        ).fetchall()
        for (table,) in tables:
            connection.execute(sql.SQL("DELETE FROM dbos.{}").format(sql.Identifier(table)))


@pytest.fixture
def empty_database(database_url: str) -> None:
    """Have nothing of ours in the database, not even tables."""
    DBOS.destroy()
    DBOS.reset_system_database(system_database_url=database_url)


@pytest.fixture
def shop(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    """An application that is not launched yet; what it leaves behind is destroyed."""
    for name in ("DBOS__APPVERSION", "DBOS__VMID", "DBOS__APPID"):
        monkeypatch.delenv(name, raising=False)
    DBOS.destroy(destroy_registry=True)
    yield Application(database_url)
    DBOS.destroy(destroy_registry=True)


@pytest.fixture
def app(shop: Application) -> Application:
    """A launched application."""
    shop.launch()
    return shop


@pytest.fixture(params=["blocking", "asyncio"])
def api(request: pytest.FixtureRequest) -> Flavour:
    """Each way to use the package."""
    return Blocking() if request.param == "blocking" else Asyncio()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the package logs, at any level. Its logger does not propagate, so it is listened to."""
    logger = logging.getLogger("dbos")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture(scope="session")
def second_postgres(postgres_server: PostgresAddress) -> Iterator[str]:
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def application_postgres(second_postgres: str) -> str:
    """The URL of a database without any outcome of ours."""
    with psycopg.connect(second_postgres) as connection:
        connection.execute("DROP SCHEMA IF EXISTS dbos CASCADE")
    return second_postgres
