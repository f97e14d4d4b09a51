"""Transactions: effects and outcome in one commit, on the system database and on one of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dbos import DBOS, SetWorkflowID
from dbos.error import (
    DBOSException,
    DBOSInvalidInputError,
    DBOSStreamTimeoutError,
    DBOSUsageError,
)
from tests.behaviour.application import Application, PowerCut

metadata = MetaData()
goods = Table("goods", metadata, Column("id", String, primary_key=True), Column("amount", Integer))


@pytest.fixture(params=["system", "separate"])
def shop_with_goods(
    request: pytest.FixtureRequest, shop: Application, tmp_path: Path
) -> Iterator[Application]:
    """A launched application with a table, on the system database or on one of its own."""
    changes: dict[str, Any] = {}
    if request.param == "separate":
        changes["application_database_url"] = (
            f"sqlite:///{tmp_path / 'goods.sqlite'}"
            if shop.is_sqlite
            else request.getfixturevalue("application_postgres")
        )

    @DBOS.transaction(name="create_goods")
    def create_goods() -> None:
        metadata.drop_all(DBOS.sql_session.connection())
        metadata.create_all(DBOS.sql_session.connection())

    @DBOS.transaction(name="drop_goods")
    def drop_goods() -> None:
        metadata.drop_all(DBOS.sql_session.connection())

    shop.launch(**changes)
    create_goods()
    yield shop
    DBOS.destroy()
    shop.launch()
    drop_goods()


def add_to_goods(name: str, amount: int = 1) -> None:
    DBOS.sql_session.execute(goods.insert().values(id=name, amount=amount))


@DBOS.transaction(name="stock")
def stock() -> dict[str, int]:
    rows: Any = DBOS.sql_session.execute(goods.select().order_by(goods.c.id)).fetchall()
    return {row["id"]: row.amount for row in rows}


def test_effects_and_outcome_of_a_transaction_are_there_when_it_returns(
    shop_with_goods: Application,
) -> None:
    @DBOS.transaction()
    def add(name: str) -> str:
        add_to_goods(name)
        return name

    @DBOS.workflow()
    def fill() -> Any:
        return add("lamp"), stock(), shop_with_goods.records("run")

    with SetWorkflowID("run"):
        added, stocked, records = fill()

    assert (added, stocked) == ("lamp", {"lamp": 1})
    assert [(number, name.split(".")[-1], out) for number, name, out, *_ in records] == [
        (1, "add", '"lamp"'),
        (2, "stock", '{"lamp":1}'),
    ]


def test_a_transaction_that_raises_leaves_nothing_but_its_error(
    shop_with_goods: Application,
) -> None:
    refused = LookupError("no room")

    @DBOS.transaction(name="add")
    def add(name: str) -> None:
        add_to_goods(name)
        raise refused

    @DBOS.workflow()
    def fill() -> bool:
        try:
            add("lamp")
        except LookupError as error:
            return error is refused
        return False

    with SetWorkflowID("run"):
        assert fill() is True

    assert stock() == {}
    [(_, _, output, error, _)] = shop_with_goods.records("run")
    assert output is None
    assert "LookupError" in error


def test_a_committed_transaction_is_not_run_again_by_a_recovery(
    shop_with_goods: Application,
) -> None:
    is_first = shop_with_goods.once()

    @DBOS.transaction(name="add")
    def add() -> str:
        DBOS.sql_session.execute(goods.insert().values(id="lamp", amount=1))
        return "added"

    @DBOS.workflow(name="fill")
    def fill() -> str:
        answer = add()
        if is_first():
            shop_with_goods.cut_power()
        return answer

    with SetWorkflowID("run"), pytest.raises(PowerCut):
        fill()
    shop_with_goods.launch()

    assert DBOS.retrieve_workflow("run").get_result() == "added"
    assert stock() == {"lamp": 1}


def test_a_transaction_whose_record_was_lost_after_its_commit_elsewhere_is_not_run_again(
    shop_with_goods: Application,
) -> None:
    is_first = shop_with_goods.once()

    @DBOS.transaction(name="add")
    def add() -> str:
        add_to_goods("lamp")
        return "added"

    @DBOS.workflow(name="fill")
    def fill() -> str:
        answer = add()
        if is_first():
            shop_with_goods.kill()
            if shop_with_goods.has_own_goods():
                shop_with_goods.change("DELETE FROM {operation_outputs}")
            raise PowerCut
        return answer

    with SetWorkflowID("run"), pytest.raises(PowerCut):
        fill()
    shop_with_goods.launch()

    assert DBOS.retrieve_workflow("run").get_result() == "added"
    assert stock() == {"lamp": 1}


def test_the_effects_of_a_crash_before_the_commit_are_gone(shop_with_goods: Application) -> None:
    is_first = shop_with_goods.once()

    @DBOS.transaction(name="add")
    def add() -> str:
        add_to_goods("lamp")
        if is_first():
            raise PowerCut
        return "added"

    @DBOS.workflow(name="fill")
    def fill() -> str:
        return add()

    with SetWorkflowID("run"), pytest.raises(PowerCut):
        fill()
    before = stock()
    shop_with_goods.kill()
    shop_with_goods.launch()

    assert before == {}
    assert DBOS.retrieve_workflow("run").get_result() == "added"
    assert stock() == {"lamp": 1}


def test_a_database_error_of_the_user_keeps_its_class_and_shows_no_values(
    shop_with_goods: Application,
) -> None:
    @DBOS.transaction(name="add")
    def add(name: str) -> None:
        add_to_goods(name)

    @DBOS.workflow()
    def fill() -> None:
        add("secret-lamp")
        add("secret-lamp")

    with SetWorkflowID("run"), pytest.raises(IntegrityError) as raised:
        fill()

    assert "secret-lamp" not in str(raised.value)
    with pytest.raises(IntegrityError):
        DBOS.retrieve_workflow("run").get_result()
    assert stock() == {"secret-lamp": 1}


def test_concurrent_serializable_increments_all_commit(shop_with_goods: Application) -> None:
    @DBOS.transaction(name="add")
    def add() -> None:
        add_to_goods("lamp", 0)

    @DBOS.transaction(name="increment")
    def increment() -> int:
        amount: int = DBOS.sql_session.execute(
            text("SELECT amount FROM goods WHERE id = 'lamp'")
        ).scalar_one()
        DBOS.sql_session.execute(
            text("UPDATE goods SET amount = :amount WHERE id = 'lamp'"), {"amount": amount + 1}
        )
        return amount

    @DBOS.workflow(name="worker")
    def worker(count: int) -> list[int]:
        return [increment() for _ in range(count)]

    add()
    handles = [DBOS.start_workflow(worker, 5) for _ in range(6)]
    seen = [amount for handle in handles for amount in handle.get_result()]

    assert sorted(seen) == list(range(30))
    assert stock() == {"lamp": 30}


def test_a_result_that_cannot_be_stored_rolls_the_effects_back(
    shop_with_goods: Application,
) -> None:
    @DBOS.transaction(name="add")
    def add() -> Any:
        add_to_goods("lamp")
        return threading.Lock()

    @DBOS.workflow()
    def fill() -> None:
        add()

    with pytest.raises(DBOSException, match="result"):
        fill()

    assert stock() == {}


@pytest.mark.parametrize("call", ["commit", "rollback", "close"])
def test_a_body_that_ends_its_transaction_fails_with_a_hint(
    shop_with_goods: Application, call: str
) -> None:
    @DBOS.transaction(name="add")
    def add() -> None:
        add_to_goods("lamp")
        try:
            getattr(DBOS.sql_session, call)()
        except DBOSUsageError:
            add_to_goods("desk")

    with pytest.raises(DBOSUsageError, match="begin_nested"):
        add()

    assert stock() == {}


def test_a_savepoint_keeps_what_was_done_before_it(shop_with_goods: Application) -> None:
    @DBOS.transaction(name="add")
    def add() -> None:
        add_to_goods("lamp")
        try:
            with DBOS.sql_session.begin_nested():
                add_to_goods("lamp")
        except IntegrityError:
            add_to_goods("desk")

    add()

    assert stock() == {"lamp": 1, "desk": 1}


def test_a_transaction_outside_a_workflow_runs_as_one_of_its_own(
    shop_with_goods: Application,
) -> None:
    @DBOS.transaction(name="add")
    def add(name: str) -> str:
        add_to_goods(name)
        return name

    with SetWorkflowID("own"):
        assert add("lamp") == "lamp"
    with SetWorkflowID("own"):
        assert add("lamp") == "lamp"
    started = DBOS.start_workflow(add, "desk")

    assert started.get_result() == "desk"
    assert shop_with_goods.column("own", "name") == "<temp>.add"
    assert shop_with_goods.steps("own") == [(1, "add")]
    assert stock() == {"lamp": 1, "desk": 1}


def test_a_transaction_runs_in_an_async_workflow_on_a_thread(shop_with_goods: Application) -> None:
    @DBOS.transaction(name="add")
    def add(name: str) -> str:
        add_to_goods(name)
        return name

    @DBOS.workflow()
    async def fill() -> str:
        return await asyncio.to_thread(add, "lamp")

    async def scenario() -> str:
        with SetWorkflowID("run"):
            return await fill()

    assert asyncio.run(scenario()) == "lamp"
    assert shop_with_goods.steps("run") == [(1, "add")]


def test_a_message_sent_in_a_transaction_on_the_system_database_goes_with_it(
    app: Application,
) -> None:
    @DBOS.workflow(name="wait")
    def wait() -> Any:
        return DBOS.recv(timeout_seconds=60), DBOS.recv(timeout_seconds=0)

    @DBOS.transaction(name="tell")
    def tell(word: str, *, fail: bool) -> Any:
        DBOS.send("waiting", word)
        if fail:
            raise LookupError("no")
        return DBOS.get_event("waiting", "none", 60)

    with SetWorkflowID("waiting"):
        handle = DBOS.start_workflow(wait)
    with pytest.raises(LookupError):
        tell("lost", fail=True)

    assert tell("kept", fail=False) is None
    assert handle.get_result() == ["kept", None] or handle.get_result() == ("kept", None)


def test_a_stream_is_read_in_a_transaction_on_the_system_database_without_waiting(
    app: Application,
) -> None:
    @DBOS.workflow(name="writer")
    def writer() -> None:
        DBOS.write_stream("log", "first")
        DBOS.recv(timeout_seconds=60)

    @DBOS.transaction(name="read")
    def read() -> list[Any]:
        seen: list[Any] = []
        with pytest.raises(DBOSStreamTimeoutError):
            seen.extend(DBOS.read_stream("writer", "log"))
        with pytest.raises(DBOSStreamTimeoutError):
            DBOS.read_stream_offset("writer", "log", 1)
        return seen

    with SetWorkflowID("writer"):
        handle = DBOS.start_workflow(writer)
    assert next(DBOS.read_stream("writer", "log")) == "first"

    assert read() == ["first"]
    DBOS.send("writer", "end")
    handle.get_result()


def test_what_may_not_be_called_in_a_transaction_says_so(app: Application) -> None:
    said: list[str] = []

    @DBOS.transaction(name="other")
    def other() -> None: ...

    @DBOS.workflow(name="child")
    def child() -> None: ...

    @DBOS.step()
    def note() -> str:
        return "plain"

    @DBOS.transaction(name="tries")
    def tries() -> str:
        for call in (
            other,
            child,
            lambda: DBOS.sleep(1),
            lambda: DBOS.recv(),
            lambda: DBOS.set_event("key", 1),
            lambda: DBOS.get_workflow_status("x"),
            lambda: DBOS.cancel_workflow("x"),
        ):
            with pytest.raises(DBOSUsageError) as raised:
                call()
            said.append(str(raised.value))
        return note()

    assert tries() == "plain"
    assert "Transactions must be called from within workflows" in said[0]
    assert "must be called from within a workflow" in said[2]
    assert "recv() must be called from within a workflow" in said[3]
    assert "set_event() must be called from within a workflow" in said[4]
    assert "Invalid call to `DBOS.getStatus` inside a transaction" in said[5]
    assert "Invalid call to `DBOS.cancelWorkflow` inside a transaction" in said[6]


def test_a_transaction_in_a_step_is_refused(app: Application) -> None:
    @DBOS.transaction(name="add")
    def add() -> None: ...

    @DBOS.step()
    def misuse() -> None:
        add()

    @DBOS.workflow()
    def work() -> None:
        misuse()

    with pytest.raises(DBOSUsageError, match="Transactions must be called from within workflows"):
        work()


def test_the_session_exists_in_transactions_only(app: Application) -> None:
    with pytest.raises(DBOSUsageError, match="sql_session"):
        _ = DBOS.sql_session


def test_without_an_application_database_transactions_are_refused(shop: Application) -> None:
    @DBOS.transaction(name="add")
    def add() -> None: ...

    @DBOS.workflow()
    def work() -> str:
        return "works"

    shop.launch(application_database_url=None)

    with pytest.raises(DBOSUsageError, match="configured with an application_database_url"):
        add()
    assert work() == "works"
    assert shop.count("workflow_status") == 1


def test_decorating_what_cannot_be_a_transaction_is_refused() -> None:
    async def coroutine() -> None: ...

    with pytest.raises(DBOSException, match="is a coroutine function"):
        DBOS.transaction()(coroutine)
    with pytest.raises(DBOSInvalidInputError, match="isolation_level"):
        DBOS.transaction("CHAOS")  # type: ignore[arg-type]
    with pytest.raises(DBOSInvalidInputError, match="Parentheses"):
        DBOS.transaction(print)  # type: ignore[arg-type]


def test_an_application_without_transactions_does_not_load_sqlalchemy(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from dbos import DBOS\n"
        f"DBOS(config={{'name': 'shop', 'system_database_url': 'sqlite:///{tmp_path}/a.sqlite',"
        f" 'application_database_url': 'sqlite:///{tmp_path}/b.sqlite'}})\n"
        "@DBOS.workflow()\n"
        "def work(): return 1\n"
        "DBOS.launch()\n"
        "assert work() == 1\n"
        "DBOS.destroy()\n"
        "assert 'sqlalchemy' not in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_a_passing_fault_runs_the_whole_body_again(app: Application) -> None:
    ran: list[int] = []

    @DBOS.transaction(name="flaky")
    def flaky() -> int:
        ran.append(1)
        if len(ran) < 3:
            fault = sqlite3.OperationalError("locked")
            fault.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise OperationalError("", None, fault)
        return len(ran)

    assert flaky() == 3


class Tables(DeclarativeBase):
    pass


class Tool(Tables):
    __tablename__ = "tools"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def test_objects_are_written_out_with_the_commit(app: Application) -> None:
    @DBOS.transaction(name="make")
    def make() -> None:
        session: Session = DBOS.sql_session
        Tables.metadata.create_all(session.connection())
        session.add(Tool(id=1, name="saw"))

    @DBOS.transaction(name="read")
    def read() -> dict[str, Any]:
        row = DBOS.sql_session.query(Tool.id, Tool.name).one()
        return dict(row)

    @DBOS.transaction(name="drop")
    def drop() -> None:
        Tables.metadata.drop_all(DBOS.sql_session.connection())

    make()
    assert read() == {"id": 1, "name": "saw"}
    drop()


def test_an_engine_of_the_user_serves_the_system_database_and_is_left_open(
    shop: Application,
) -> None:
    url = shop.database_url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)

    @DBOS.transaction(name="answer")
    def answer() -> dict[str, int]:
        return dict(DBOS.sql_session.execute(text("SELECT 42 AS answer")).one())

    shop.launch(system_database_url=None, system_database_engine=engine)
    answered = answer()
    DBOS.destroy()

    assert answered == {"answer": 42}
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()
