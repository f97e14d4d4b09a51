"""Runs that contend for a deduplication id, on both databases: exactly one has it."""

from __future__ import annotations

import threading
from dataclasses import replace

from dbos.storage.deduplication import Contender, Contest, contend_again, contend_all
from dbos.storage.protocol import Database
from dbos.storage.rows import NewRun, StepRow
from dbos.storage.steps import find_one
from dbos.storage.workflows import admit_rows
from tests.storage.waiting_runs import change, find, waiting


def contender(workflow_id: str, key: str | None = "k", queue: str = "work") -> Contender:
    run = waiting(workflow_id, deduplication_id=key, queue_name=queue, owner_xid=workflow_id)
    return Contender(run)


def contend(database: Database, *contenders: Contender) -> list[Contest]:
    with database.write() as tx:
        return contend_all(tx, contenders)


def places(contests: list[Contest]) -> list[str]:
    return [contest.admitted.workflow_id for contest in contests if contest.admitted]


def parent(database: Database) -> NewRun:
    """A running parent, claimed under the token `mine`."""
    run = replace(waiting("parent"), status="PENDING", owner_xid="mine", queue_name=None)
    with database.write() as tx:
        admit_rows(tx, [run])
    return run


def launch(step_id: int, child: str, claim: str = "mine") -> StepRow:
    return StepRow("parent", step_id, "ship", None, None, "json", 1, 2, step_id, claim, child)


def test_in_one_batch_the_first_wins_and_the_others_meet_it(database: Database) -> None:
    contests = contend(
        database,
        contender("b"),
        contender("a"),
        contender("other-key", "l"),
        contender("other-queue", "k", "elsewhere"),
        contender("c"),
        contender("no-key", None),
    )

    assert places(contests) == ["b", "b", "other-key", "other-queue", "b", "no-key"]


def test_an_id_that_exists_is_found_before_the_holder_of_its_key(database: Database) -> None:
    contend(database, contender("old", None), contender("holder"))

    assert places(contend(database, contender("old"), contender("holder"))) == ["old", "holder"]


def test_two_of_one_id_in_one_batch_are_one_run(database: Database) -> None:
    contests = contend(database, contender("a"), contender("a"))

    assert places(contests) == ["a", "a"]


def test_a_key_that_was_given_back_is_free(database: Database) -> None:
    contend(database, contender("a"))
    change(database, "a", "deduplication_id = NULL, status = 'SUCCESS'")

    assert places(contend(database, contender("b"))) == ["b"]


def test_of_many_transactions_at_once_one_wins_each_key(database: Database) -> None:
    barrier, answers = threading.Barrier(2), dict[str, list[str]]()
    # A lane is used by one thread at a time: on SQLite, which has one, the threads take turns.
    gates = [threading.Lock() for _ in range(database.lanes)]

    def work(lane: int) -> None:
        barrier.wait()
        for number in range(15):
            made = [
                contender(f"{lane}-{number}-{key}", f"{number}-{key}")
                for key in (range(3) if lane else reversed(range(3)))
            ]
            with gates[lane % database.lanes], database.write(lane % database.lanes) as tx:
                answers[f"{lane}-{number}"] = sorted(places(contend_all(tx, made)))

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [answers[f"0-{number}"] for number in range(15)] == [
        answers[f"1-{number}"] for number in range(15)
    ]


def test_the_records_of_parents_tell_what_was_decided(database: Database) -> None:
    parent(database)
    won = replace(contender("won"), record=launch(1, "won"), refusal="refused")
    lost = replace(contender("lost"), record=launch(2, "lost"), refusal="refused")
    followed = replace(contender("late"), on_held="follow", record=launch(3, "late"))

    contests = contend(database, won, lost, followed)

    assert places(contests) == ["won", "won", "won"]
    with database.read() as tx:
        records = [find_one(tx, "parent", step_id) for step_id in (1, 2, 3)]
    assert [(step.child_workflow_id, step.error) for step in records if step] == [
        ("won", None),
        (None, "refused"),
        ("won", None),
    ]


def test_a_parent_that_lost_its_claim_launches_nothing(database: Database) -> None:
    parent(database)
    late = replace(contender("late"), record=launch(1, "late", claim="stale"))

    [contest] = contend(database, late)

    assert contest.recorded is not None
    assert (contest.recorded.verdict, contest.admitted) == ("lost", None)
    assert places(contend(database, contender("other"))) == ["other"]


def test_a_known_id_is_refused_without_a_record_if_it_must_be_new(database: Database) -> None:
    parent(database)
    contend(database, contender("known", None))
    again = replace(
        contender("known", None), must_be_new=True, record=launch(1, "known"), refusal="refused"
    )
    again = replace(again, run=replace(again.run, owner_xid="another token"))

    contend(database, again)

    with database.read() as tx:
        assert find_one(tx, "parent", 1) is None


def test_after_a_commit_in_doubt_the_record_decides_and_not_the_key(database: Database) -> None:
    parent(database)
    holder = contender("holder")
    refused = replace(contender("refused"), record=launch(1, "refused"), refusal="refused")
    won = replace(contender("won", "other"), record=launch(2, "won"), refusal="refused")
    contend(database, holder, refused, won)
    change(database, "holder", "deduplication_id = NULL, status = 'SUCCESS'")

    with database.write() as tx:
        contests = contend_again(tx, [refused, won])

    assert [contest.admitted and contest.admitted.workflow_id for contest in contests] == [
        None,
        "won",
    ]
    assert [contest.recorded and contest.recorded.verdict for contest in contests] == ["kept"] * 2
    assert find(database, "won", "status") == ("ENQUEUED",)
