"""Datasources: transactions on any database, each one step of the workflow that runs it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from dbos import DBOS, AsyncSQLAlchemyDatasource, SetWorkflowID, SQLAlchemyDatasource
from dbos.error import (
    DBOSDatabaseError,
    DBOSException,
    DBOSInitializationError,
    DBOSInvalidInputError,
    DBOSUsageError,
)
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.stores import (
    KINDS,
    AsyncStore,
    BlockingStore,
    Store,
    add,
    drop_all,
    make_lines,
    numbers,
)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """The history is on SQLite in all of these tests: what differs is the datasource."""
    return f"sqlite:///{tmp_path / 'system.sqlite'}"


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def unopened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A datasource of each kind on a database without any table."""
    _, scheme, kind = request.param
    if scheme == "sqlite":
        yield kind(f"sqlite:///{tmp_path / 'store.sqlite'}")
        return
    url: str = request.getfixturevalue("store_database")
    yield kind(url.replace("postgresql", scheme, 1))
    drop_all(url)


@pytest.fixture
def store(unopened: Store) -> Iterator[Store]:
    async def prepare() -> None:
        await unopened.open()
        await make_lines(unopened)

    unopened.api.run(prepare)
    yield unopened
    unopened.api.run(unopened.close)


def test_in_a_workflow_it_is_one_recorded_step_and_elsewhere_nothing_is_recorded(
    app: Application, store: Store
) -> None:
    @store.transaction(name="decorated")
    async def decorated(number: int) -> int:
        return await add(store, number)

    @store.bare_transaction
    async def bare(number: int) -> int:
        return await add(store, number)

    @store.api.workflow(name="work")
    async def work() -> list[int]:
        return [await decorated(1), await store.run({"name": "called"}, add, store, 2)]

    async def scenario() -> None:
        with SetWorkflowID("run"):
            assert await work() == [1, 2]
        assert await bare(3) == 3

    store.api.run(scenario)

    assert app.steps("run") == [(1, "decorated"), (2, "called")]
    assert numbers(store) == [1, 2, 3]


def test_the_loss_of_the_record_after_the_commit_is_healed_from_the_datasource(
    app: Application, store: Store
) -> None:
    is_first = app.once()

    @store.transaction(name="add")
    async def insert() -> str:
        await add(store, 1)
        return "added"

    @store.api.workflow(name="work")
    async def work() -> str:
        answer: str = await insert()
        if is_first():
            app.kill()
            app.change("DELETE FROM {operation_outputs}")
            raise PowerCut
        return answer

    with SetWorkflowID("run"), pytest.raises(PowerCut):
        store.api.run(work)
    app.launch()

    # The async workflow is recovered on another loop than the one it was started on.
    assert DBOS.retrieve_workflow("run").get_result() == "added"
    assert numbers(store) == [1]


def test_it_works_without_any_application(store: Store) -> None:
    DBOS.destroy()

    async def add_and_raise() -> None:
        await add(store, 6)
        raise LookupError("no")

    assert store.api.run(store.run, None, add, store, 5) == 5
    with pytest.raises(LookupError):
        store.api.run(store.run, None, add_and_raise)

    assert numbers(store) == [5]


def test_an_error_rolls_back_and_is_recorded_and_replayed_without_row_values(
    app: Application, store: Store
) -> None:
    is_first = app.once()

    @store.transaction(name="twice")
    async def twice() -> None:
        await add(store, 71993)
        await add(store, 71993)

    @store.api.workflow(name="work")
    async def work() -> list[str]:
        with pytest.raises(IntegrityError) as caught:
            await twice()
        if is_first():
            app.cut_power()
        return [type(caught.value).__name__, str(caught.value)]

    with SetWorkflowID("run"), pytest.raises(PowerCut):
        store.api.run(work)
    app.launch()

    kind, text = DBOS.retrieve_workflow("run").get_result()
    assert kind == "IntegrityError"
    assert "71993" not in text
    assert numbers(store) == []


def test_a_plain_transaction_raises_its_error_without_row_values(store: Store) -> None:
    async def twice() -> None:
        await add(store, 71993)
        await add(store, 71993)

    with pytest.raises(IntegrityError) as caught:
        store.api.run(store.run, None, twice)

    assert "71993" not in str(caught.value)


def test_the_body_may_not_end_its_transaction_but_may_have_parts_that_fail(store: Store) -> None:
    is_async = store.api.is_async

    async def commit() -> None:
        await add(store, 1)
        ended = session_of(store).commit()
        if is_async:
            await ended

    async def with_a_part_that_fails() -> None:
        await add(store, 1)
        nested = session_of(store).begin_nested()
        if is_async:
            nested = await nested
        with pytest.raises(IntegrityError):
            await add(store, 1)
        rolled_back = nested.rollback()
        if is_async:
            await rolled_back
        await add(store, 2)

    with pytest.raises(DBOSUsageError, match=r"commit\(\)"):
        store.api.run(store.run, None, commit)
    assert numbers(store) == []
    store.api.run(store.run, None, with_a_part_that_fails)
    assert numbers(store) == [1, 2]


def session_of(store: Any) -> Any:
    return store.source.sql_session()


def test_the_step_has_the_isolation_level_that_was_asked_for(store: Any) -> None:
    is_sqlite = store.url.startswith("sqlite")
    question = "PRAGMA read_uncommitted" if is_sqlite else "SHOW transaction_isolation"

    async def level() -> Any:
        return (await store.execute(question)).scalar_one()

    async def levels() -> list[Any]:
        asked = ("REPEATABLE READ", "READ COMMITTED")
        found = [await store.run({"isolation_level": name}, level) for name in asked]
        return [*found, await store.run(None, level)]

    # SQLite has one level: whatever is asked for, nothing uncommitted is read.
    expected = [0, 0, 0] if is_sqlite else ["repeatable read", "read committed", "serializable"]
    assert store.api.run(levels) == expected


def test_misuse_is_refused(store: Any) -> None:
    async def coroutine() -> None: ...

    def plain() -> None: ...

    wrong: Any = plain if store.api.is_async else coroutine
    call = store.source.run_tx_step_async if store.api.is_async else store.source.run_tx_step

    async def nested() -> None:
        await store.run(None, coroutine)

    with pytest.raises(DBOSUsageError, match="outside of a transaction"):
        store.source.sql_session()
    with pytest.raises(DBOSException, match="coroutine"):
        _ = call(None, wrong)
    with pytest.raises(DBOSException, match="coroutine"):
        store.source.transaction(wrong)
    with pytest.raises(DBOSUsageError, match="from within a transaction"):
        store.api.run(store.run, None, nested)


def test_a_missing_table_is_refused_where_it_may_not_be_made(unopened: Store) -> None:
    async def refused() -> None:
        with pytest.raises(DBOSInitializationError, match="datasource_outputs"):
            await unopened.open(run_migrations=False)

    async def accepted() -> int:
        await unopened.migrate()
        await unopened.open(run_migrations=False)

        async def one() -> int:
            return 1

        number: int = await unopened.run(None, one)
        await unopened.close()
        return number

    unopened.api.run(refused)
    assert unopened.api.run(accepted) == 1


# The thread of aiosqlite answers a loop that may be closed by then, after a file was not opened.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_unreachable_database_is_refused_without_its_password(unopened: Any) -> None:
    if unopened.url.startswith("sqlite"):
        store = type(unopened)("sqlite:////nowhere/at/all.sqlite")
    else:
        scheme = unopened.url.partition("://")[0]
        store = type(unopened)(f"{scheme}://someone:hush@127.0.0.1:1/nothing")

    with pytest.raises(DBOSDatabaseError, match="cannot be used") as caught:
        store.api.run(store.open)

    assert "hush" not in str(caught.value)


def test_an_engine_and_a_session_class_of_the_user_are_used_and_the_engine_is_left_open(
    unopened: Any,
) -> None:
    class AsyncOwn(AsyncSession):
        pass

    class Own(Session):
        pass

    is_async = unopened.api.is_async
    driver = "postgresql+asyncpg" if "asyncpg" in unopened.url else "postgresql+psycopg"
    url = unopened.url.replace("postgresql+asyncpg", "postgresql").replace("postgresql", driver)
    if is_async:
        url = url.replace("sqlite", "sqlite+aiosqlite")
        engine: Any = create_async_engine(url)
        maker: Any = async_sessionmaker(class_=AsyncOwn)
    else:
        engine, maker = create_engine(url), sessionmaker(class_=Own)
    used: list[object] = []

    async def note() -> None:
        session = session_of(unopened)
        used.append(isinstance(session, AsyncOwn if is_async else Own))
        connection = session.connection()
        used.append((await connection if is_async else connection).engine is engine)

    async def scenario() -> None:
        await unopened.open(engine=engine, sessionmaker=maker)
        await unopened.run(None, note)
        await unopened.close()
        used.append(engine.pool.checkedin())
        if is_async:
            await engine.dispose()
        else:
            engine.dispose()

    unopened.api.run(scenario)

    assert used == [True, True, 1]


def test_a_cancelled_task_rolls_its_transaction_back(tmp_path: Path) -> None:
    store = AsyncStore(f"sqlite:///{tmp_path / 'store.sqlite'}")

    async def scenario() -> None:
        await store.open()
        await make_lines(store)
        reached = asyncio.Event()

        async def add_and_wait() -> None:
            await add(store, 1)
            reached.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(store.run(None, add_and_wait))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())

    assert numbers(store) == []


def test_step_ids_are_taken_when_the_call_is_made(app: Application, tmp_path: Path) -> None:
    store = AsyncStore(f"sqlite:///{tmp_path / 'store.sqlite'}")

    @DBOS.workflow(name="work")
    async def work() -> None:
        first = store.source.run_tx_step_async({"name": "first"}, add, store, 1)
        second = store.source.run_tx_step_async({"name": "second"}, add, store, 2)
        await second
        await first

    async def scenario() -> None:
        await store.open()
        await make_lines(store)
        with SetWorkflowID("run"):
            await work()

    asyncio.run(scenario())

    assert app.steps("run") == [(1, "first"), (2, "second")]


def test_a_run_whose_loop_closed_inside_of_its_transaction_goes_on_elsewhere_and_applies_it_once(
    app: Application, tmp_path: Path
) -> None:
    store = AsyncStore(f"sqlite:///{tmp_path / 'store.sqlite'}")
    is_first = app.once()

    @DBOS.workflow(name="work")
    async def work() -> int:
        answer: int = await store.run({"name": "insert"}, insert)
        return answer

    async def insert() -> int:
        await add(store, 1)
        if is_first():
            reached.set()
            await asyncio.Event().wait()
        return 1

    async def scenario() -> None:
        await store.open()
        await make_lines(store)
        with SetWorkflowID("run"):
            await DBOS.start_workflow_async(work)
        await reached.wait()

    reached = asyncio.Event()
    asyncio.run(scenario())
    app.relaunch()

    assert DBOS.retrieve_workflow("run").get_result() == 1
    assert numbers(store) == [1]


def test_an_engine_that_does_not_suit_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    plain: Any = create_engine(url)
    on_a_loop: Any = create_async_engine(url.replace("sqlite", "sqlite+aiosqlite"))

    async def misfits() -> None:
        with pytest.raises(DBOSInvalidInputError, match="AsyncEngine"):
            await AsyncSQLAlchemyDatasource.create(url, engine=plain)
        with pytest.raises(DBOSInvalidInputError, match="engine is for sqlite"):
            await AsyncSQLAlchemyDatasource.create("postgresql://h/d", engine=on_a_loop)

    with pytest.raises(DBOSInvalidInputError, match="AsyncEngine"):
        SQLAlchemyDatasource.create(url, engine=on_a_loop)
    with pytest.raises(DBOSInvalidInputError, match="engine is for sqlite"):
        SQLAlchemyDatasource.create("postgresql://h/d", engine=plain)
    asyncio.run(misfits())


@pytest.mark.parametrize(
    ("package", "url"),
    [
        ("aiosqlite", "sqlite:///store.sqlite"),
        ("asyncpg", "postgresql+asyncpg://h/d"),
        ("greenlet", "postgresql://h/d"),
    ],
)
def test_a_missing_package_is_named_together_with_what_installs_it(
    package: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(
        DBOSInitializationError, match=rf"{package}.*pip install 'perdure\[async\]'"
    ):
        asyncio.run(AsyncSQLAlchemyDatasource.create(url))


def test_both_kinds_share_one_bookkeeping_table(app: Application, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    blocking, on_a_loop = BlockingStore(url), AsyncStore(url)
    blocking.api.run(blocking.open)
    blocking.api.run(make_lines, blocking)
    on_a_loop.api.run(
        on_a_loop.open,
    )

    @DBOS.workflow(name="work")
    async def work() -> list[int]:
        first: int = await on_a_loop.run({"name": "first"}, add, on_a_loop, 1)
        second: int = await blocking.run({"name": "second"}, add, blocking, 2)
        return [first, second]

    async def scenario() -> list[int]:
        with SetWorkflowID("run"):
            return await work()

    assert asyncio.run(scenario()) == [1, 2]

    assert app.steps("run") == [(1, "first"), (2, "second")]
    assert numbers(blocking) == [1, 2]
    blocking.api.run(blocking.close)
