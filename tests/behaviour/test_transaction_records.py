"""What a transaction on a database of its own leaves there goes with its run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from dbos import DBOS, DBOSClient, SetWorkflowID
from tests.behaviour.application import Application

Caller = type[DBOS] | DBOSClient


@pytest.fixture
def application_url(request: pytest.FixtureRequest, shop: Application, tmp_path: Path) -> str:
    """The address of a database for transactions alone."""
    if shop.is_sqlite:
        return f"sqlite:///{tmp_path / 'counts.sqlite'}"
    url: str = request.getfixturevalue("application_postgres")
    return url


@pytest.fixture
def counter(shop: Application, application_url: str) -> Callable[[], int]:
    """A workflow that counts in a separate database; its value is the count."""

    @DBOS.transaction()
    def count() -> int:
        session = DBOS.sql_session
        session.execute(text("CREATE TABLE IF NOT EXISTS counts (one INTEGER)"))
        session.execute(text("INSERT INTO counts VALUES (1)"))
        return int(session.execute(text("SELECT COUNT(*) FROM counts")).scalar_one())

    @DBOS.transaction()
    def reset() -> None:
        DBOS.sql_session.execute(text("DROP TABLE IF EXISTS counts"))

    @DBOS.workflow()
    def counting() -> int:
        return count()

    shop.launch(application_database_url=application_url)
    reset()
    return counting


@pytest.fixture(params=["application", "client"])
def caller(
    request: pytest.FixtureRequest,
    shop: Application,
    application_url: str,
    counter: Callable[[], int],
) -> Iterator[Caller]:
    """The application itself, and a client that was told of both databases."""
    if request.param == "application":
        yield DBOS
        return
    client = DBOSClient(
        system_database_url=shop.database_url,
        application_database_url=application_url,
        application_name="shop",
    )
    yield client
    client.destroy()


def test_a_deleted_run_leaves_no_outcome_that_a_later_one_of_its_id_would_find(
    counter: Callable[[], int], caller: Caller
) -> None:
    with SetWorkflowID("first"):
        counter()
    caller.delete_workflow("first")

    with SetWorkflowID("first"):
        again = counter()

    assert again == 2


def test_a_collected_run_leaves_no_outcome(counter: Callable[[], int], caller: Caller) -> None:
    with SetWorkflowID("first"):
        counter()
    caller.garbage_collect(rows_threshold=0)

    with SetWorkflowID("first"):
        again = counter()

    assert again == 2


def test_a_transaction_that_is_rewound_runs_again(
    counter: Callable[[], int], caller: Caller
) -> None:
    with SetWorkflowID("first"):
        counter()

    again = caller.rewind_workflow("first", start_step=1).get_result()

    assert again == 2


def test_a_rewind_to_a_later_step_leaves_the_outcomes_before_it(
    counter: Callable[[], int], caller: Caller
) -> None:
    with SetWorkflowID("first"):
        counter()

    again = caller.rewind_workflow("first", start_step=2).get_result()

    assert again == 1


@pytest.mark.parametrize("exists", [False, True], ids=["is not there", "has no such table"])
def test_a_client_deletes_where_the_application_database(
    shop: Application, application_url: str, tmp_path: Path, exists: bool
) -> None:
    @DBOS.workflow()
    def nothing() -> None: ...

    shop.launch()
    with SetWorkflowID("first"):
        nothing()
    client = DBOSClient(
        system_database_url=shop.database_url,
        application_database_url=application_url if exists else f"{application_url}_absent",
    )

    client.delete_workflow("first")
    client.destroy()

    assert shop.count("workflow_status") == 0
    assert not list(tmp_path.glob("*_absent*"))
