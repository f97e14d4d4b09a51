"""Commands: a family that another process is adding to, and whom they wake."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from dbos.storage import management, retention, workflows
from dbos.storage.management import Command, Commanded, Stopped
from dbos.storage.postgres import PostgresDatabase
from dbos.storage.protocol import Statement, Write
from dbos.storage.retention import GlobalTimeout
from dbos.storage.workflows import SLOT_FREED
from tests.storage.conftest import Outsider
from tests.storage.test_committer import new_run
from tests.storage.test_postgres import opened

WAITING = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
LAUNCH = """
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, parent_workflow_id)
SELECT 'child', 'ENQUEUED', 'run', workflow_uuid
FROM dbos.workflow_status WHERE workflow_uuid = 'parent' FOR SHARE
"""
ACTIVE = Statement("SELECT workflow_uuid FROM {workflow_status} WHERE status <> 'CANCELLED'")


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresDatabase]:
    made = opened(postgres_url)
    made.migrate()
    yield made
    made.close()


@pytest.mark.parametrize("write", [management.cancel, management.delete], ids=lambda it: it.name)
def test_a_child_that_is_being_launched_goes_with_its_family(
    database: PostgresDatabase, outsider: Outsider, write: Write[Command, Commanded]
) -> None:
    with database.write() as tx:
        top, parent = new_run("top"), replace(new_run("parent"), parent_workflow_id="top")
        workflows.admit_rows(tx, [top, parent])

    def steer() -> list[str]:
        with database.write() as tx:
            [answer] = write.apply(tx, [Command(("top",), with_children=True)])
        return sorted(stopped.workflow_id for stopped in answer.changed)

    with ThreadPoolExecutor(1) as thread:
        with outsider.transaction():
            outsider.execute(LAUNCH)
            steered = thread.submit(steer)
            while outsider.execute(WAITING).fetchall() != [(1,)]:
                assert not steered.done()
        changed = steered.result()
    with database.read() as tx:
        left = tx.all(ACTIVE)

    assert changed == ["child", "parent", "top"]
    assert left == []


def test_a_global_timeout_tells_that_slots_are_free_if_it_cancelled_anything() -> None:
    topics, timeout = retention.cancel_old.topics, GlobalTimeout("shop", 1, 1)
    assert topics is not None

    assert SLOT_FREED in topics(timeout, (Stopped("run", None),))
    assert list(topics(timeout, ())) == []
