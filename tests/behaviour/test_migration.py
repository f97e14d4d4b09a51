"""Tables made from code, ahead of the processes that use them."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from dbos import DBOS, run_dbos_database_migrations
from dbos.error import DBOSDatabaseError, DBOSInitializationError, DBOSInvalidInputError
from tests.behaviour.application import Application


@pytest.mark.parametrize("migrate", [DBOS.migrate, run_dbos_database_migrations])
def test_tables_are_made_once_and_serve_a_process_that_makes_none(
    shop: Application, empty_database: None, migrate: Any
) -> None:
    with pytest.raises(DBOSInitializationError):
        shop.launch(run_migrations=False)
    DBOS.destroy()

    for _ in range(2):
        migrate(shop.database_url)

    shop.launch(run_migrations=False)
    assert shop.count("workflow_status") == 0


def test_a_role_is_granted_what_running_needs(shop: Application, empty_database: None) -> None:
    if shop.is_sqlite:
        with pytest.raises(DBOSInvalidInputError, match="SQLite has no roles"):
            DBOS.migrate(shop.database_url, application_role="clerk")
        return
    with psycopg.connect(shop.database_url, autocommit=True) as owner:
        owner.execute("CREATE ROLE perdure_clerk")
        try:
            DBOS.migrate(shop.database_url, application_role="perdure_clerk")
            owner.execute("SET ROLE perdure_clerk")

            assert owner.execute("SELECT count(*) FROM dbos.workflow_status").fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                owner.execute("CREATE TABLE dbos.other (id int)")
        finally:
            owner.execute("RESET ROLE")
            owner.execute("DROP OWNED BY perdure_clerk")
            owner.execute("DROP ROLE perdure_clerk")


@pytest.mark.parametrize(
    "arguments",
    [
        {"system_database_url": None},
        {"system_database_url": ""},
        {"system_database_url": "mysql://somewhere/else"},
        {"schema": ""},
        {"schema": "s" * 64},
        {"application_role": ""},
    ],
)
def test_odd_arguments_are_refused(shop: Application, arguments: dict[str, Any]) -> None:
    given = {"system_database_url": shop.database_url} | arguments

    with pytest.raises((DBOSInvalidInputError, DBOSInitializationError, DBOSDatabaseError)):
        DBOS.migrate(**given)
