"""A look of a `recv`, in several statements and in one: both answer and leave the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbos.config import parse_database_url
from dbos.storage import messages, steps, workflows
from dbos.storage.messages import Message, Sending
from dbos.storage.open import open_database
from dbos.storage.protocol import Database, Statement, Tx
from dbos.storage.receiving import Receiving, receive
from dbos.storage.rows import StepRow
from dbos.storage.waits import Look, Seen
from tests.storage.test_committer import new_run

LEFT = Statement("SELECT destination_uuid, topic, message FROM {notifications} WHERE NOT consumed")
EATEN = Statement(
    "SELECT message, consumed_function_id FROM {notifications} WHERE consumed ORDER BY message"
)
RECORDED = Statement(
    "SELECT workflow_uuid, function_id, function_name, output, serialization"
    " FROM {operation_outputs} ORDER BY workflow_uuid, function_id"
)
CANCEL = Statement("UPDATE {workflow_status} SET status = 'CANCELLED' WHERE workflow_uuid = 'run'")
NOTHING = "null"


@pytest.fixture(params=["parts", "at once"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    """Two runs with the claim `mine`, on a database that knows both ways."""
    opened = open_database(parse_database_url(postgres_url))
    opened.migrate()
    assert opened.writes_at_once
    with opened.write() as tx:
        workflows.admit_rows(tx, [new_run("run", "mine"), new_run("other", "mine")])
    yield opened
    opened.close()


def look(
    run: str = "run", claim: str = "mine", *, is_first: bool = False, is_last: bool = False
) -> Look:
    def row(step_id: int, output: str | None) -> StepRow:
        name = "DBOS.sleep" if step_id == 2 else "DBOS.recv"
        return StepRow(run, step_id, name, output, None, "json", 0, 0, 1, claim)

    return Look(
        row(1, None), row(2, "9.0") if is_first else None, row(1, NOTHING) if is_last else None
    )


def send(database: Database, *texts: str, run: str = "run", topic: str = "topic") -> None:
    sent = [Message(f"{run}-{text}", run, topic, text, "format", None) for text in texts]
    with database.write() as tx:
        messages.send.apply(tx, [Sending(tuple(sent))])


def received(database: Database, way: str, *looks: Look, topic: str = "topic") -> list[Seen]:
    apply = receive.at_once if way == "at once" else receive.apply
    assert apply is not None
    with database.write(single=way == "at once") as tx:
        return apply(tx, [Receiving(topic, each) for each in looks])


def read(database: Database, statement: Statement) -> list[tuple[object, ...]]:
    def all_rows(tx: Tx) -> list[tuple[object, ...]]:
        return tx.all(statement)

    with database.read() as tx:
        return all_rows(tx)


def test_the_oldest_message_is_consumed_with_the_record(database: Database, way: str) -> None:
    send(database, "1", "2")

    [seen] = received(database, way, look(is_first=True))

    assert (seen.is_done, seen.is_fresh, seen.output, seen.serialization) == (
        True,
        True,
        "1",
        "format",
    )
    assert read(database, EATEN) == [("1", 1)]
    assert read(database, LEFT) == [("run", "topic", "2")]
    assert read(database, RECORDED) == [
        ("run", 1, "DBOS.recv", "1", "format"),
        ("run", 2, "DBOS.sleep", "9.0", "json"),
    ]


def test_a_first_look_that_finds_nothing_records_the_deadline(database: Database, way: str) -> None:
    send(database, "1", topic="another")

    [seen] = received(database, way, look(is_first=True))

    assert (seen.is_done, seen.recorded.verdict) == (False, "kept")
    assert read(database, RECORDED) == [("run", 2, "DBOS.sleep", "9.0", "json")]
    assert len(read(database, LEFT)) == 1


def test_a_look_amid_the_wait_that_finds_nothing_records_nothing(
    database: Database, way: str
) -> None:
    [seen] = received(database, way, look())

    assert (seen.is_done, seen.recorded.verdict) == (False, "kept")
    assert read(database, RECORDED) == []


def test_the_last_look_records_that_nothing_came(database: Database, way: str) -> None:
    [seen] = received(database, way, look(is_last=True))

    assert (seen.is_done, seen.is_fresh, seen.output) == (True, True, NOTHING)
    assert read(database, RECORDED) == [("run", 1, "DBOS.recv", NOTHING, "json")]


def test_the_last_look_takes_what_came_just_in_time(database: Database, way: str) -> None:
    send(database, "1")

    [seen] = received(database, way, look(is_last=True))

    assert (seen.output, seen.serialization) == ("1", "format")
    assert read(database, RECORDED) == [("run", 1, "DBOS.recv", "1", "format")]
    assert read(database, LEFT) == []


@pytest.mark.parametrize("is_first", [True, False])
def test_who_has_lost_the_claim_consumes_nothing(
    database: Database, way: str, is_first: bool
) -> None:
    send(database, "1")

    [seen] = received(database, way, look(claim="lost", is_first=is_first))

    assert (seen.recorded.verdict, seen.is_done) == ("lost", False)
    assert read(database, RECORDED) == []
    assert len(read(database, LEFT)) == 1


def test_a_cancelled_run_consumes_nothing(database: Database, way: str) -> None:
    send(database, "1")
    with database.write() as tx:
        tx.run(CANCEL)

    [seen] = received(database, way, look(is_last=True))

    assert (seen.recorded.verdict, seen.is_done) == ("cancelled", False)
    assert read(database, RECORDED) == []
    assert len(read(database, LEFT)) == 1


def test_what_an_earlier_look_recorded_counts(database: Database, way: str) -> None:
    send(database, "1", "2")
    received(database, "parts", look())

    [seen] = received(database, way, look())

    assert (seen.is_done, seen.is_fresh, seen.output) == (True, False, "1")
    assert read(database, EATEN) == [("1", 1)]
    assert read(database, LEFT) == [("run", "topic", "2")]


@pytest.mark.parametrize("order", [("lost", "mine"), ("mine", "lost")])
def test_of_two_attempts_that_look_together_the_owner_receives(
    database: Database, way: str, order: tuple[str, str]
) -> None:
    send(database, "1")

    answers = received(database, way, *(look(claim=claim) for claim in order))

    assert dict(zip(order, [seen.is_done for seen in answers], strict=True)) == {
        "lost": False,
        "mine": True,
    }
    assert read(database, EATEN) == [("1", 1)]
    with database.read() as tx:
        assert steps.load_one(tx, "run", 1).output == "1"


def test_looks_of_a_batch_do_not_mix(database: Database, way: str) -> None:
    send(database, "1")
    send(database, "2", run="other", topic="another")

    answers = received(
        database, way, look(is_first=True), look("other", is_first=True, is_last=True)
    )

    assert [seen.output for seen in answers] == ["1", NOTHING]
    assert read(database, LEFT) == [("other", "another", "2")]
    assert [row[:2] for row in read(database, RECORDED)] == [
        ("other", 1),
        ("other", 2),
        ("run", 1),
        ("run", 2),
    ]
