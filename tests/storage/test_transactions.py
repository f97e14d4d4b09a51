"""Transactions: all or nothing, snapshots, lanes, and pools with a limit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from dbos.config import PoolSettings, parse_database_url
from dbos.errors import DBOSDatabaseError
from dbos.storage.connections import ConnectionPool, PoolExhausted
from dbos.storage.open import OpenOptions, open_database
from dbos.storage.protocol import Database, Statement, Tx
from dbos.storage.sqlite import SqliteTx
from tests.storage.conftest import AnyDatabase

ADD = Statement("INSERT INTO {workflow_status} (workflow_uuid) VALUES (:id)")
ADD_ALL = Statement(
    "INSERT INTO {workflow_status} (workflow_uuid) SELECT r.id FROM {rows} WHERE TRUE"
    " ON CONFLICT (workflow_uuid) DO NOTHING RETURNING workflow_uuid",
    {"id": "text"},
)
ADD_ALL_OR_FAIL = Statement(
    "INSERT INTO {workflow_status} (workflow_uuid) SELECT r.id FROM {rows}", {"id": "text"}
)
IDS = Statement("SELECT workflow_uuid FROM {workflow_status} ORDER BY workflow_uuid")


def ids(database: AnyDatabase) -> list[str]:
    with database.read() as tx:
        return [row[0] for row in tx.all(IDS)]


def test_both_databases_fit_the_seam(database: AnyDatabase) -> None:
    seam: Database = database

    assert seam.lanes >= 1


def test_a_finished_block_is_committed(database: AnyDatabase) -> None:
    with database.write() as tx:
        tx.run(ADD, id="a")
        tx.run(ADD, id="b")

    assert ids(database) == ["a", "b"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_nothing(
    database: AnyDatabase, error: type[BaseException]
) -> None:
    def write() -> None:
        with database.write() as tx:
            tx.run(ADD, id="a")
            raise error

    with pytest.raises(error):
        write()

    assert ids(database) == []


def test_a_failed_statement_does_not_spoil_the_next_transaction(database: AnyDatabase) -> None:
    with database.write() as tx:
        tx.run(ADD, id="a")
    with pytest.raises(Exception, match=r"(?i)unique") as raised, database.write() as tx:
        tx.run(ADD_ALL_OR_FAIL, rows=[{"id": "b"}, {"id": "a"}])

    with database.write() as tx:
        tx.run(ADD, id="c")

    assert ids(database) == ["a", "c"]
    assert not database.is_transient(raised.value)


def test_a_single_statement_commits_by_itself(database: AnyDatabase) -> None:
    with database.write(single=True) as tx:
        rows = tx.all(ADD_ALL, rows=[{"id": "a"}, {"id": "b"}])
    with database.write(single=True) as tx:
        first = tx.one(ADD_ALL, rows=[{"id": "c"}, {"id": "d"}])
    with pytest.raises(Exception, match=r"(?i)unique"), database.write(single=True) as tx:
        tx.run(ADD, id="a")

    assert sorted(rows) == [("a",), ("b",)]
    assert first is not None
    assert ids(database) == ["a", "b", "c", "d"]


def test_the_number_of_changed_rows_is_told(database: AnyDatabase) -> None:
    plain = Statement("UPDATE {workflow_status} SET status = 'x' WHERE workflow_uuid < 'c'")
    with_cte = Statement(
        "WITH picked AS (SELECT workflow_uuid FROM {workflow_status} WHERE workflow_uuid < 'c')"
        " UPDATE {workflow_status} SET status = 'y'"
        " WHERE workflow_uuid IN (SELECT workflow_uuid FROM picked)"
    )
    with database.write() as tx:
        added = tx.run(ADD_ALL, rows=[{"id": name} for name in "abcd"])
        counts = [tx.run(plain), tx.run(with_cte)]

    assert (added, counts) == (4, [2, 2])


def test_all_statements_of_a_read_see_one_snapshot(database: AnyDatabase) -> None:
    with database.read() as tx:
        before = tx.all(IDS)
        with database.write() as other:
            other.run(ADD, id="a")
        after = tx.all(IDS)

    assert before == after == []
    assert ids(database) == ["a"]


def test_a_single_read_sees_the_latest_commit(database: AnyDatabase) -> None:
    with database.read(single=True) as tx:
        before = tx.all(IDS)
    with database.write() as other:
        other.run(ADD, id="a")
    with database.read(single=True) as tx:
        after = tx.all(IDS)

    assert (before, after) == ([], [("a",)])


def test_a_read_cannot_change_anything(database: AnyDatabase) -> None:
    with pytest.raises(Exception, match=r"(?i)read-?only|readonly"), database.read() as tx:
        tx.run(ADD, id="a")

    assert ids(database) == []


def test_reads_do_not_wait_for_an_open_write(database: AnyDatabase) -> None:
    with database.write() as tx:
        tx.run(ADD, id="a")
        seen = ids(database)

    assert seen == []


def test_lanes_write_side_by_side(database: AnyDatabase) -> None:
    together = threading.Barrier(database.lanes, timeout=30)
    failures: list[BaseException] = []

    def write(lane: int) -> None:
        try:
            with database.write(lane) as tx:
                tx.run(ADD, id=f"lane {lane}")
                together.wait()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(lane,)) for lane in range(database.lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert ids(database) == [f"lane {lane}" for lane in range(database.lanes)]


def test_the_lease_has_a_connection_of_its_own(database: AnyDatabase) -> None:
    connections: set[int] = set()

    for lane in range(database.lanes + 1):
        with database.write(lane, single=True) as tx:
            connections.add(
                id(tx._connection if isinstance(tx, SqliteTx) else tx._cursor.connection)
            )  # pyright: ignore[reportPrivateUsage]

    assert len(connections) == database.lanes + 1


def test_many_threads_read_and_write_through_few_connections(database_url: str) -> None:
    pool = PoolSettings(size=4)
    database = open_database(parse_database_url(database_url), OpenOptions(pool=pool))
    database.migrate()
    lanes = [threading.Lock() for _ in range(database.lanes)]
    seen: list[Sequence[str]] = []

    def work(number: int) -> None:
        lane = number % database.lanes
        with lanes[lane], database.write(lane) as tx:
            tx.all(ADD_ALL, rows=[{"id": f"{number:02}-{i}"} for i in range(5)])
        seen.append(ids(database))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 16
    assert len(ids(database)) == 80
    database.close()


def test_who_finds_all_connections_in_use_waits_and_is_told_in_the_end(database_url: str) -> None:
    pool = PoolSettings(size=1, timeout_s=0.05)
    database = open_database(parse_database_url(database_url), OpenOptions(pool=pool))
    database.migrate()

    with database.read(), pytest.raises(PoolExhausted) as raised, database.read():
        pass

    told = database.translate(raised.value)
    assert database.is_transient(raised.value)
    assert isinstance(told, DBOSDatabaseError)
    assert "pool size" in str(told)
    assert ids(database) == []
    database.close()


class CountingConnector:
    """Connections that are numbers; which of them live is decided by the test."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed: list[int] = []
        self.dead: set[int] = set()

    def connect(self) -> int:
        self.opened += 1
        return self.opened

    def disconnect(self, connection: int) -> None:
        self.closed.append(connection)

    def is_alive(self, connection: int) -> bool:
        return connection not in self.dead


@pytest.mark.parametrize(
    ("settings", "closed"),
    [
        (PoolSettings(size=1), []),
        (PoolSettings(size=1, null_pool=True), [1, 2]),
        (PoolSettings(size=1, recycle_s=0.0), [1]),
    ],
)
def test_a_pool_keeps_drops_or_replaces_connections_as_configured(
    settings: PoolSettings, closed: list[int]
) -> None:
    connector = CountingConnector()
    pool = ConnectionPool(connector, settings, reserved=0)

    for _ in range(2):
        pool.release(pool.acquire())

    assert connector.closed == closed


def test_a_connection_released_after_the_end_is_closed() -> None:
    connector = CountingConnector()
    pool = ConnectionPool(connector, PoolSettings(size=2), reserved=0)
    in_use = pool.acquire()
    pool.release(pool.acquire())

    pool.close()
    closed_at_once = list(connector.closed)
    pool.release(in_use)

    assert closed_at_once == [2]
    assert connector.closed == [2, 1]


@pytest.mark.parametrize(("settings", "opened"), [({}, 1), ({"null_pool": True}, 2)])
def test_a_pool_uses_a_connection_that_it_is_handed(settings: Any, opened: int) -> None:
    connector = CountingConnector()
    pool = ConnectionPool(connector, PoolSettings(**settings), reserved=0)

    pool.adopt(connector.connect())
    pool.release(pool.acquire())
    pool.close()

    assert connector.opened == opened
    assert sorted(connector.closed) == list(range(1, opened + 1))


def test_a_pool_that_is_closed_closes_what_it_is_handed() -> None:
    connector = CountingConnector()
    pool = ConnectionPool(connector, PoolSettings(), reserved=0)
    pool.close()

    pool.adopt(connector.connect())

    assert connector.closed == [1]


def test_the_transactions_of_both_databases_fit_the_seam(database: AnyDatabase) -> None:
    with database.read() as reading:
        seam: Tx = reading

        assert seam.one(IDS) is None
