"""What a transaction on a database of its own leaves there goes with its run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from dbos import DBOS, SetWorkflowID
from tests.behaviour.application import Application


@pytest.fixture
def counter(request: pytest.FixtureRequest, shop: Application, tmp_path: Path) -> Callable[[], int]:
    """A workflow that counts in a separate database; its value is the count."""
    application_url = (
        f"sqlite:///{tmp_path / 'counts.sqlite'}"
        if shop.is_sqlite
        else request.getfixturevalue("application_postgres")
    )

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


def test_a_deleted_run_leaves_no_outcome_that_a_later_one_of_its_id_would_find(
    counter: Callable[[], int],
) -> None:
    with SetWorkflowID("first"):
        counter()
    DBOS.delete_workflow("first")

    with SetWorkflowID("first"):
        again = counter()

    assert again == 2


def test_a_collected_run_leaves_no_outcome(counter: Callable[[], int]) -> None:
    with SetWorkflowID("first"):
        counter()
    DBOS.garbage_collect(rows_threshold=0)

    with SetWorkflowID("first"):
        again = counter()

    assert again == 2


def test_a_transaction_that_is_rewound_runs_again(counter: Callable[[], int]) -> None:
    with SetWorkflowID("first"):
        counter()

    again = DBOS.rewind_workflow("first", start_step=1).get_result()

    assert again == 2


def test_a_rewind_to_a_later_step_leaves_the_outcomes_before_it(
    counter: Callable[[], int],
) -> None:
    with SetWorkflowID("first"):
        counter()

    again = DBOS.rewind_workflow("first", start_step=2).get_result()

    assert again == 1
