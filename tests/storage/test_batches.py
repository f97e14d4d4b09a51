"""Writes in batches: rows that contradict each other, and commits whose answer was lost."""

from __future__ import annotations

from typing import Any

import pytest

from dbos.storage import messages, steps, workflows
from dbos.storage.messages import Message, Sending
from dbos.storage.protocol import Statement
from dbos.storage.receiving import Receiving, receive
from dbos.storage.rows import FinishRow, StepRow
from dbos.storage.waits import Look
from tests.storage.conftest import AnyDatabase
from tests.storage.test_committer import new_run

LEFT = Statement("SELECT message FROM {notifications} WHERE consumed = FALSE ORDER BY message")
RUN = Statement("SELECT status, output FROM {workflow_status}")
TAKE = Statement("UPDATE {workflow_status} SET owner_xid = 'new'")


@pytest.fixture(autouse=True)
def run(database: AnyDatabase) -> None:
    """A run that was taken over: its claim is `new`."""
    with database.write() as tx:
        workflows.admit_rows(tx, [new_run("run", "old")])
        tx.run(TAKE)


def row(claim: str, *, output: str | None = None, step_id: int = 1) -> StepRow:
    return StepRow("run", step_id, "step", output, None, "json", 0, 0, 1, claim)


@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
def test_of_two_attempts_in_one_batch_the_owner_records(
    database: AnyDatabase, order: tuple[str, str]
) -> None:
    with database.write() as tx:
        answers = steps.record.apply(tx, [row(claim, output=f'"{claim}"') for claim in order])
    with database.read() as tx:
        stored = steps.load_one(tx, "run", 1)

    verdicts = dict(zip(order, [answer.verdict for answer in answers], strict=True))
    assert verdicts == {"old": "lost", "new": "kept"}
    assert stored.output == '"new"'


@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
def test_of_two_attempts_in_one_batch_the_owner_ends_the_run(
    database: AnyDatabase, order: tuple[str, str]
) -> None:
    rows = [FinishRow("run", "SUCCESS", f'"{claim}"', None, claim) for claim in order]
    with database.write() as tx:
        answers = workflows.finish.apply(tx, rows)
    with database.read() as tx:
        stored = tx.one(RUN)

    assert dict(zip(order, answers, strict=True)) == {"old": False, "new": True}
    assert stored == ("SUCCESS", '"new"')


def send(database: AnyDatabase, *texts: str) -> None:
    sent = [Message(f"id-{text}", "run", "topic", text, "json", None) for text in texts]
    with database.write() as tx:
        messages.send.apply(tx, [Sending(tuple(sent))])


def left(database: AnyDatabase) -> list[Any]:
    with database.read() as tx:
        return [found[0] for found in tx.all(LEFT)]


def test_a_receive_in_doubt_that_was_committed_consumes_nothing_more(
    database: AnyDatabase,
) -> None:
    assert receive.again is not None
    send(database, "1", "2")
    receiving = Receiving("topic", Look(row("new")))

    with database.write() as tx:
        first = receive.apply(tx, [receiving])
    with database.write() as tx:
        second = receive.again(tx, [receiving])

    assert [seen.output for seen in (*first, *second)] == ["1", "1"]
    assert left(database) == ["2"]


def test_a_receive_in_doubt_that_was_not_committed_consumes_one(database: AnyDatabase) -> None:
    assert receive.again is not None
    send(database, "1", "2")

    with database.write() as tx:
        [seen] = receive.again(tx, [Receiving("topic", Look(row("new")))])

    assert seen.output == "1"
    assert seen.is_fresh
    assert left(database) == ["2"]
