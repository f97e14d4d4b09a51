"""Takeover beside a process that was frozen amid a transaction and keeps its locks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbos.storage import executors, recovery, workflows
from dbos.storage.postgres import PostgresDatabase
from dbos.storage.protocol import Statement
from dbos.storage.recovery import TakeOver
from dbos.storage.rows import ExecutorRow
from tests.storage.conftest import Outsider
from tests.storage.test_committer import new_run
from tests.storage.test_postgres import opened

IN_NO_TIME = Statement("SET LOCAL lock_timeout = '2s'")
EXPIRE = Statement("UPDATE {perdure_executors} SET lease_until_epoch_ms = 0")
STATUSES = Statement("SELECT workflow_uuid, status FROM {workflow_status} ORDER BY workflow_uuid")


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresDatabase]:
    made = opened(postgres_url)
    made.migrate()
    yield made
    made.close()


def test_the_runs_that_are_not_locked_are_taken_over_at_once(
    database: PostgresDatabase, outsider: Outsider
) -> None:
    with database.write() as tx:
        workflows.admit_rows(tx, [new_run(name, incarnation_id="frozen") for name in "abc"])

    with outsider.transaction():
        outsider.execute("SELECT * FROM dbos.workflow_status WHERE workflow_uuid = 'a' FOR UPDATE")
        with database.write() as tx:
            tx.run(IN_NO_TIME)
            recovery.take_over_all(tx, [TakeOver("shop", "fresh", 100)])
        with database.read() as tx:
            during = tx.all(STATUSES)
    with database.write() as tx:
        recovery.take_over_all(tx, [TakeOver("shop", "fresh", 100)])
        after = tx.all(STATUSES)

    assert during == [("a", "PENDING"), ("b", "ENQUEUED"), ("c", "ENQUEUED")]
    assert [status for _, status in after] == ["ENQUEUED"] * 3


def test_an_executor_whose_row_is_locked_is_swept_later(
    database: PostgresDatabase, outsider: Outsider
) -> None:
    rows = [
        ExecutorRow(name, "local", "shop", "v1", "compatible", "h", 1, "", 1000, "{}")
        for name in ("frozen", "gone")
    ]
    with database.write() as tx:
        executors.renew_rows(tx, rows)
        tx.run(EXPIRE)

    with outsider.transaction():
        outsider.execute(
            "SELECT * FROM dbos.perdure_executors WHERE incarnation_id = 'frozen' FOR UPDATE"
        )
        with database.write() as tx:
            tx.run(IN_NO_TIME)
            executors.sweep_all(tx, [1000])
        with database.read() as tx:
            left = [peer.incarnation_id for peer in recovery.look(tx, "shop").peers]

    assert left == ["frozen"]
