"""An application gets another name, with everything that it owns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos import DBOS, DBOSClient, EnqueueOptions, Queue, SetWorkflowID
from dbos.error import DBOSException
from dbos.errors import DBOSInvalidInputError
from tests.behaviour.application import Application

NOBODYS: EnqueueOptions = {"workflow_name": "later", "queue_name": "nowhere"}
OWNED = (
    "SELECT DISTINCT application_name FROM {workflow_status} UNION "
    "SELECT application_name FROM {operation_outputs} UNION "
    "SELECT application_name FROM {queues} UNION "
    "SELECT application_name FROM {workflow_schedules} UNION "
    "SELECT application_name FROM {application_versions}"
)


@pytest.fixture
def full(app: Application, database_url: str) -> str:
    """The name of an application that owns something of every kind."""

    @DBOS.step()
    def step() -> None:
        return None

    @DBOS.workflow()
    def worker() -> None:
        step()
        step()

    for number in range(3):
        with SetWorkflowID(f"worker-{number}"):
            worker()
    name: str = app.rows("SELECT application_name FROM {application_versions}")[0][0]
    own = DBOSClient(system_database_url=database_url, application_name=name)
    own.register_queue("till")
    own.create_schedule(schedule_name="yearly", workflow_name="add", schedule="0 0 1 1 *")
    own.enqueue(NOBODYS)
    own.destroy()
    return name


def test_everything_that_an_application_owns_moves(
    app: Application, full: str, client: DBOSClient
) -> None:
    unclaimed = client.enqueue(NOBODYS)

    moved = client.rename_application(full, "new-name", batch_size=2)

    assert moved == {"queues": 1, "schedules": 1, "versions": 1, "workflows": 4, "steps": 6}
    assert {row[0] for row in app.rows(OWNED)} == {"new-name", None}
    assert unclaimed.get_status().application_name is None
    assert set(client.rename_application(full, "new-name").values()) == {0}


def test_unclaimed_rows_are_adopted_if_that_is_asked_for(full: str, client: DBOSClient) -> None:
    unclaimed = client.enqueue(NOBODYS)

    alone = asyncio.run(client.rename_application_async(None, "adopter", adopt_unclaimed_rows=True))
    owner = unclaimed.get_status().application_name
    client.enqueue(NOBODYS)
    itself = client.rename_application(full, full)
    both = client.rename_application(full, "adopter", adopt_unclaimed_rows=True)

    assert (alone["workflows"], owner) == (1, "adopter")
    assert set(itself.values()) == {0}
    assert both["workflows"] == 5


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("names", [("old", "No"), ("x", "new"), (None, "new")])
def test_a_name_that_cannot_be_one_is_refused(client: DBOSClient, names: Any) -> None:
    with pytest.raises(DBOSException, match=r"Invalid application name|nothing to move"):
        client.rename_application(*names)


@pytest.mark.usefixtures("app")
def test_a_batch_has_a_size(client: DBOSClient) -> None:
    with pytest.raises(DBOSInvalidInputError, match="batch_size"):
        client.rename_application("old-name", "new-name", batch_size=0)


def test_a_waiting_run_is_run_by_the_application_that_it_was_given_to(
    app: Application, client: DBOSClient
) -> None:
    @DBOS.workflow(name="later")
    def later() -> str:
        return "done"

    assert callable(later)
    Queue("desk")
    name: str = app.rows("SELECT application_name FROM {application_versions}")[0][0]
    handle = client.enqueue(
        {"workflow_name": "later", "queue_name": "desk", "application_name": "former"}
    )

    client.rename_application("former", name)

    assert handle.get_result() == "done"
