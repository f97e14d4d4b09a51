"""Transactions keep their promises wherever their process stops, in both placements."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from dbos import DBOS, AsyncSQLAlchemyDatasource
from dbos.testing import explore_crashes
from tests.crash import transactions
from tests.support.postgres import PostgresAddress

SCENARIOS = ("effects_of_a_workflow", "effects_outside_a_workflow")


@pytest.fixture(autouse=True)
def without_an_application() -> Iterator[None]:
    DBOS.destroy()
    yield
    DBOS.destroy()


@pytest.fixture
def postgres_url(postgres_server: PostgresAddress) -> Iterator[str]:
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_transaction_on_the_system_database_happens_once(name: str) -> None:
    # A process that is frozen inside of a SQLite transaction holds the file's one write lock.
    report = explore_crashes(getattr(transactions, name), moments=("before", "after"))

    report.raise_for_violations()
    assert report.points >= 8


def in_a_lasting_database(application_url: str) -> Callable[[], list[int]]:
    """The scenario where the user's tables outlive the exploration of one crash."""

    def scenario() -> list[int]:
        if DBOS.get_workflow_status("effects") is None:
            wipe(application_url)
        return transactions.effects_of_a_workflow()

    return scenario


def wipe(application_url: str) -> None:
    if application_url.startswith("sqlite"):
        with closing(sqlite3.connect(application_url.removeprefix("sqlite:///"))) as connection:
            for table in ("crash_effects", "transaction_outputs"):
                with suppress(sqlite3.OperationalError):
                    connection.execute(f"DELETE FROM {table}")
            connection.commit()
        return
    with psycopg.connect(application_url) as postgres:
        postgres.execute("CREATE TABLE IF NOT EXISTS crash_effects (amount INTEGER)")
        postgres.execute("TRUNCATE crash_effects")
        if postgres.execute("SELECT to_regclass('dbos.transaction_outputs')").fetchone() != (None,):
            postgres.execute("TRUNCATE dbos.transaction_outputs")


def test_a_transaction_on_postgresql_happens_once(postgres_url: str) -> None:
    report = explore_crashes(
        in_a_lasting_database(postgres_url),
        database_url=postgres_url,
        moments=("before", "after"),
        limit=5,
    )

    report.raise_for_violations()
    assert report.points == 5


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_transaction_on_a_database_of_its_own_happens_once(
    kind: str, postgres_url: str, tmp_path: Path
) -> None:
    application = f"sqlite:///{tmp_path / 'effects.sqlite'}" if kind == "sqlite" else postgres_url
    DBOS(
        config={
            "name": "effects",
            "system_database_url": f"sqlite:///{tmp_path / 'unused.sqlite'}",
            "application_database_url": application,
        }
    )

    report = explore_crashes(
        in_a_lasting_database(application), moments=("before", "after"), limit=12
    )

    report.raise_for_violations()
    assert report.points == 12


def test_an_async_transaction_on_a_datasource_happens_once(tmp_path: Path) -> None:
    file = tmp_path / "effects.sqlite"
    source = asyncio.run(AsyncSQLAlchemyDatasource.create(f"sqlite:///{file}"))
    scenario = transactions.effects_in_a_datasource(source)

    async def in_a_lasting_datasource() -> list[int]:
        if await DBOS.get_workflow_status_async("effects") is None:
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS crash_effects (amount INTEGER)")
                connection.execute("DELETE FROM crash_effects")
                connection.execute("DELETE FROM datasource_outputs")
                connection.commit()
        return await scenario()

    report = explore_crashes(in_a_lasting_datasource, moments=("before", "after"), limit=8)

    report.raise_for_violations()
    assert report.points == 8
