"""Fixtures of the model tests: an application, or a bare database, on each database."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dbos.config import parse_database_url
from dbos.storage.open import open_database
from dbos.storage.protocol import Database
from tests.behaviour.conftest import app, shop
from tests.support.postgres import PostgresAddress

__all__ = ["app", "database", "shop"]


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """One database for all examples of a module: each begins by emptying it."""
    with _url(request) as url:
        opened = open_database(parse_database_url(url))
        opened.migrate()
        yield opened
        opened.close()


@contextmanager
def _url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        with tempfile.TemporaryDirectory() as directory:
            yield f"sqlite:///{Path(directory) / 'model.sqlite'}"
        return
    server: PostgresAddress = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)
