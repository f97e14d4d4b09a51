"""Datasources: transactions on any database, each one step of the workflow that runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from dbos import DBOS, SetWorkflowID, SQLAlchemyDatasource
from dbos.error import DBOSException, DBOSInitializationError, DBOSUsageError
from tests.behaviour.application import Application, PowerCut
from tests.support.postgres import PostgresAddress


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.sqlite'}"
        return
    server: PostgresAddress = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def store(store_url: str) -> Iterator[SQLAlchemyDatasource]:
    store = SQLAlchemyDatasource.create(store_url)
    store.run_tx_step(None, lambda: store.sql_session().execute(text("CREATE TABLE lines (n INT)")))
    yield store
    store.destroy()


def numbers(store: SQLAlchemyDatasource) -> list[int]:
    def read() -> list[int]:
        rows: Any = store.sql_session().execute(text("SELECT n FROM lines ORDER BY n")).fetchall()
        return [dict(row)["n"] for row in rows]

    return store.run_tx_step({"name": "read"}, read)


def add(store: SQLAlchemyDatasource, number: int) -> int:
    store.sql_session().execute(text("INSERT INTO lines VALUES (:n)"), {"n": number})
    return number


def test_in_a_workflow_it_is_one_recorded_step_and_elsewhere_nothing_is_recorded(
    app: Application, store: SQLAlchemyDatasource
) -> None:
    @store.transaction(name="decorated")
    def decorated(number: int) -> int:
        return add(store, number)

    @store.transaction
    def bare(number: int) -> int:
        return add(store, number)

    @DBOS.workflow()
    def work() -> list[int]:
        return [decorated(1), store.run_tx_step({"name": "called"}, add, store, 2)]

    with SetWorkflowID("run"):
        assert work() == [1, 2]
    assert bare(3) == 3

    assert app.steps("run") == [(1, "decorated"), (2, "called")]
    assert numbers(store) == [1, 2, 3]


def test_the_loss_of_the_record_after_the_commit_is_healed_from_the_datasource(
    app: Application, store: SQLAlchemyDatasource
) -> None:
    is_first = app.once()

    @store.transaction(name="add")
    def insert() -> str:
        add(store, 1)
        return "added"

    @DBOS.workflow(name="work")
    def work() -> str:
        answer = insert()
        if is_first():
            app.kill()
            app.change("DELETE FROM {operation_outputs}")
            raise PowerCut
        return answer

    with SetWorkflowID("run"), pytest.raises(PowerCut):
        work()
    app.launch()

    assert DBOS.retrieve_workflow("run").get_result() == "added"
    assert numbers(store) == [1]


def test_it_works_without_any_application(store: SQLAlchemyDatasource) -> None:
    DBOS.destroy()

    assert store.run_tx_step(None, add, store, 5) == 5
    with pytest.raises(LookupError):
        store.run_tx_step(None, _add_and_raise, store)

    assert numbers(store) == [5]


def _add_and_raise(store: SQLAlchemyDatasource) -> None:
    add(store, 6)
    raise LookupError("no")


def test_misuse_is_refused(store: SQLAlchemyDatasource) -> None:
    async def coroutine() -> None: ...

    with pytest.raises(DBOSUsageError, match="outside of a transaction"):
        store.sql_session()
    with pytest.raises(DBOSException, match="coroutine"):
        _ = store.run_tx_step(None, coroutine)
    with pytest.raises(DBOSException, match="coroutine"):
        store.transaction(coroutine)


def test_a_missing_table_is_refused_where_it_may_not_be_made(store_url: str) -> None:
    engine = create_engine(store_url.replace("postgresql://", "postgresql+psycopg://"))

    with pytest.raises(DBOSInitializationError, match="datasource_outputs"):
        SQLAlchemyDatasource.create(store_url, engine=engine, run_migrations=False)
    SQLAlchemyDatasource.migrate(store_url)
    store = SQLAlchemyDatasource.create(store_url, engine=engine, run_migrations=False)

    assert store.run_tx_step(None, lambda: 1) == 1
    engine.dispose()
