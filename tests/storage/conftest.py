"""Fixtures of the storage tests: open databases, empty or migrated, of both kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dbos.config import parse_database_url
from dbos.storage.open import open_database
from dbos.storage.postgres import PostgresDatabase
from dbos.storage.sqlite import SqliteDatabase
from tests.support.postgres import PostgresAddress

AnyDatabase = SqliteDatabase | PostgresDatabase
Outsider = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def empty_database(database_url: str) -> Iterator[AnyDatabase]:
    """A database of each kind, in which nothing has been created."""
    opened = open_database(parse_database_url(database_url))
    yield opened
    opened.close()


@pytest.fixture
def database(empty_database: AnyDatabase) -> AnyDatabase:
    """A migrated database of each kind."""
    empty_database.migrate()
    return empty_database


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    return tmp_path / "system.sqlite"


@pytest.fixture
def postgres_url(postgres_server: PostgresAddress) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def outsider(postgres_url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection of somebody else's to that database."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection
