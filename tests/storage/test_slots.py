"""Who is told that a slot is free or that a run may be due, so that it starts at once."""

from __future__ import annotations

from typing import Any

import pytest

from dbos.storage import deadlines, management, retention, versions
from dbos.storage.deadlines import Expiry
from dbos.storage.management import Command, Delay
from dbos.storage.protocol import Database, Topic, Write
from dbos.storage.retention import GlobalTimeout
from dbos.storage.versions import VersionChoice
from dbos.storage.workflows import ANY_QUEUE
from tests.storage.waiting_runs import Process, enqueue, waiting

AGES_MS = 10**13


def told(database: Database, write: Write[Any, Any], arg: object) -> set[Topic]:
    """Whom one write wakes."""
    with database.write() as tx:
        [answer] = write.apply(tx, [arg])
    assert write.topics is not None
    return set(write.topics(arg, answer))


@pytest.mark.parametrize(
    ("write", "arg"),
    [
        (management.cancel, Command(("a",))),
        (management.delete, Command(("a",))),
        (deadlines.expire, Expiry(("a",), AGES_MS)),
        (retention.cancel_old, GlobalTimeout("shop", AGES_MS, 10)),
    ],
    ids=["cancel", "delete", "deadline", "global timeout"],
)
def test_whatever_stops_a_run_tells_that_its_slot_is_free(
    database: Database, write: Write[Any, Any], arg: object
) -> None:
    enqueue(database, waiting("a", workflow_deadline_epoch_ms=1))
    Process(database).claim()

    first = told(database, write, arg)
    second = told(database, write, arg)

    assert first == {ANY_QUEUE, Topic("cancel", "a"), Topic("done", "a")}
    assert second == set()


def test_a_moved_delay_is_looked_at_at_once(database: Database) -> None:
    enqueue(database, waiting("a", status="DELAYED", delay_until_epoch_ms=AGES_MS))

    assert told(database, management.set_delay, Delay("a", 0, None)) == {ANY_QUEUE}


def test_runs_without_a_version_are_looked_at_at_once_when_another_version_is_the_latest(
    database: Database,
) -> None:
    choice = VersionChoice("id", "v2", "shop")

    assert told(database, versions.choose, choice) == {ANY_QUEUE}
