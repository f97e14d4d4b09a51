"""Claims that are given back: what the attempt that did not take place leaves on the run."""

from __future__ import annotations

import pytest

from dbos.storage import recovery, returns
from dbos.storage.protocol import Database
from dbos.storage.recovery import TakeOver
from tests.storage.waiting_runs import Process, change, enqueue, find, waiting

TIMEOUT_MS = 60_000


@pytest.fixture
def process(database: Database) -> Process:
    return Process(database)


def give_back(database: Database, workflow_id: str) -> None:
    claim = find(database, workflow_id, "owner_xid")[0]
    given_back = returns.GivenBack(workflow_id, claim, "internal: x", 1, delay_ms=0)
    with database.write() as tx:
        returns.give_back_rows(tx, [given_back])


def deadline(database: Database, workflow_id: str) -> int | None:
    found = find(database, workflow_id, "workflow_deadline_epoch_ms")[0]
    assert found is None or isinstance(found, int)
    return found


def test_the_time_of_a_run_does_not_pass_in_a_back_off(
    database: Database, process: Process
) -> None:
    enqueue(database, waiting("a", workflow_timeout_ms=TIMEOUT_MS))
    process.claim()
    claimed = find(database, "a", "workflow_deadline_epoch_ms - started_at_epoch_ms")

    give_back(database, "a")

    assert claimed == (TIMEOUT_MS,)
    assert deadline(database, "a") is None


def test_a_deadline_that_the_claim_did_not_set_stays(database: Database, process: Process) -> None:
    enqueue(
        database,
        waiting("inherited", workflow_deadline_epoch_ms=10**13),
        waiting("both", workflow_timeout_ms=TIMEOUT_MS, workflow_deadline_epoch_ms=10**13),
        waiting("begun", workflow_timeout_ms=TIMEOUT_MS),
    )
    process.claim()
    begun = deadline(database, "begun")
    with database.write() as tx:
        recovery.take_over_all(tx, [TakeOver("shop", "token", 10)])
    change(database, "inherited", "recovery_attempts = 0")
    change(database, "both", "recovery_attempts = 0")
    process.claim()

    for workflow_id in ("inherited", "both", "begun"):
        give_back(database, workflow_id)

    assert deadline(database, "inherited") == deadline(database, "both") == 10**13
    assert deadline(database, "begun") == begun is not None


def test_a_run_without_a_count_of_attempts_is_claimed_as_one_without_attempts(
    database: Database, process: Process
) -> None:
    enqueue(database, waiting("a"))
    change(database, "a", "recovery_attempts = NULL")

    [run] = process.claimed().runs

    assert run.recovery_attempts == 1
