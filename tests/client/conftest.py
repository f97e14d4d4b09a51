"""Fixtures of the client's tests: those of the behaviour tests, and a client on the database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbos import DBOSClient
from tests.behaviour.application import Application
from tests.behaviour.conftest import (
    api,
    app,
    database_url,
    empty_database,
    log,
    second_postgres,
    shared_database,
    shop,
)

__all__ = [
    "api",
    "app",
    "database_url",
    "empty_database",
    "log",
    "second_postgres",
    "shared_database",
    "shop",
]


@pytest.fixture
def client(app: Application, database_url: str) -> Iterator[DBOSClient]:
    """A nameless client beside a launched application; its waits are pushed."""
    made = DBOSClient(system_database_url=database_url, use_listen_notify=True)
    yield made
    made.destroy()
