"""Roles on transactions: who may call one, and in which role its body works."""

from __future__ import annotations

import pytest

from dbos import DBOS, DBOSContextSetAuth
from dbos.error import DBOSNotAuthorizedError
from tests.behaviour.application import Application


@pytest.mark.parametrize("is_above", [True, False])
def test_a_transaction_works_in_the_required_role_and_refuses_all_others(
    app: Application, is_above: bool
) -> None:
    ran: list[str | None] = []

    def plain() -> None:
        ran.append(DBOS.assumed_role)

    require = DBOS.required_roles(["boss"])
    pay = DBOS.transaction(name="pay")(plain if is_above else require(plain))
    if is_above:
        pay = require(pay)

    @DBOS.workflow(name="work")
    def work() -> None:
        pay()

    with DBOSContextSetAuth("Ada", ["boss"]):
        pay()
        work()
    with DBOSContextSetAuth("Bob", ["guest"]):
        with pytest.raises(DBOSNotAuthorizedError):
            pay()
        with pytest.raises(DBOSNotAuthorizedError):
            work()

    assert ran == ["boss", "boss"]
    assert app.rows("SELECT COUNT(*) FROM {workflow_status}") == [(3,)]


@pytest.mark.parametrize("kind", ["instance", "class", "static"])
def test_the_default_roles_of_a_class_guard_its_transactions(app: Application, kind: str) -> None:
    ran: list[str | None] = []

    @DBOS.dbos_class()
    @DBOS.default_required_roles(["boss"])
    class Till:
        @DBOS.transaction()
        def instance(self) -> None:
            ran.append(DBOS.assumed_role)

        @classmethod
        @DBOS.transaction()
        def class_(cls) -> None:
            ran.append(DBOS.assumed_role)

        @staticmethod
        @DBOS.transaction()
        def static() -> None:
            ran.append(DBOS.assumed_role)

    till = Till()
    pay = {"instance": till.instance, "class": Till.class_, "static": Till.static}[kind]

    @DBOS.workflow(name="work")
    def work() -> None:
        pay()

    with DBOSContextSetAuth("Ada", ["boss"]):
        work()
    with DBOSContextSetAuth("Bob", ["guest"]), pytest.raises(DBOSNotAuthorizedError):
        work()

    assert ran == ["boss"]
