"""Roles and users: who may call what, and whom a run works for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos import (
    DBOS,
    DBOSConfiguredInstance,
    DBOSContextEnsure,
    DBOSContextSetAuth,
    SetWorkflowID,
)
from dbos.error import DBOSInvalidInputError, DBOSNotAuthorizedError, DBOSUsageError
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Flavour, registered

Who = tuple[str | None, list[str] | None, str | None]
NO_INFORMATION = "requires a role, but was called in a context without authentication information"
NONE_MATCHES = "has required roles, but user is not authenticated for any of them"


def who() -> Who:
    return DBOS.authenticated_user, DBOS.authenticated_roles, DBOS.assumed_role


def recorded(app: Application, workflow_id: str) -> tuple[Any, ...]:
    [row] = app.rows(
        "SELECT authenticated_user, authenticated_roles, assumed_role FROM {workflow_status}"
        " WHERE workflow_uuid = ?",
        workflow_id,
    )
    return row


@pytest.mark.parametrize("is_above", [True, False])
def test_a_required_role_is_assumed_recorded_and_passed_on(
    app: Application, api: Flavour, is_above: bool
) -> None:
    @api.step()
    async def look() -> Who:
        return who()

    @api.workflow()
    async def child() -> list[Who]:
        return [who(), await look()]

    async def plain() -> list[Any]:
        return [who(), await look(), *await child()]

    require = DBOS.required_roles(["clerk", "boss"])
    body = plain if is_above else require(plain)
    parent = api.workflow(name="parent")(body)
    if is_above:
        require(registered(parent))

    async def scenario() -> Any:
        with DBOSContextSetAuth("Ada", ["guest", "boss"]), SetWorkflowID("work"):
            return await parent()

    assert api.run(scenario) == [("Ada", ["guest", "boss"], "boss")] * 4
    assert recorded(app, "work") == ("Ada", '["guest","boss"]', "boss")
    assert recorded(app, "work-2") == ("Ada", '["guest","boss"]', "boss")


def test_a_refused_direct_call_leaves_no_run(app: Application, api: Flavour) -> None:
    @DBOS.required_roles(["boss"])
    async def body() -> None: ...

    work = api.workflow(name="work")(body)
    look = api.step(name="look")(body)

    async def scenario() -> list[str]:
        refusals = []
        for function in (work, look):
            for roles in (None, [], ["guest"]):
                with (
                    DBOSContextSetAuth("Ada", roles),
                    pytest.raises(DBOSNotAuthorizedError) as refused,
                ):
                    await function()
                assert refused.value.status_code == 403
                refusals.append(str(refused.value))
        with pytest.raises(DBOSNotAuthorizedError, match=NO_INFORMATION):
            await work()
        return refusals

    refusals = api.run(scenario)
    assert [NO_INFORMATION in text for text in refusals] == [True, False, False] * 2
    assert [NONE_MATCHES in text for text in refusals] == [False, True, True] * 2
    assert app.count("workflow_status") == 0


def test_a_refused_background_run_ends_as_an_error(app: Application, api: Flavour) -> None:
    @DBOS.required_roles(["boss"])
    async def body() -> None: ...

    work = api.workflow(name="work")(body)

    async def scenario() -> None:
        with DBOSContextSetAuth("Ada", ["guest"]), SetWorkflowID("refused"):
            handle = await api.start(work)
        with pytest.raises(DBOSNotAuthorizedError, match=NONE_MATCHES):
            await api.result(handle)

    api.run(scenario)
    assert app.column("refused", "status") == "ERROR"
    assert recorded(app, "refused") == ("Ada", '["guest"]', None)


def test_the_user_of_a_killed_workflow_is_restored(app: Application, api: Flavour) -> None:
    is_first = app.once()

    @DBOS.required_roles(["boss"])
    async def body() -> Who:
        if is_first():
            app.cut_power()
        return who()

    work = api.workflow(name="work")(body)

    async def first_life() -> None:
        with DBOSContextSetAuth("Ada", ["boss"]), SetWorkflowID("work"):
            await work()

    with pytest.raises(PowerCut):
        api.run(first_life)
    app.launch()

    assert tuple(DBOS.get_result("work")) == ("Ada", ["boss"], "boss")


def test_a_recovered_run_that_is_refused_now_ends_as_an_error(app: Application) -> None:
    is_first = app.once()

    @DBOS.workflow()
    def work() -> None:
        if is_first():
            app.cut_power()

    with SetWorkflowID("work"), pytest.raises(PowerCut):
        work()
    DBOS.required_roles(["boss"])(work)
    app.launch()

    with pytest.raises(DBOSNotAuthorizedError, match=NO_INFORMATION):
        DBOS.get_result("work")
    assert app.column("work", "status") == "ERROR"


def test_a_functions_own_list_replaces_that_of_its_class(app: Application) -> None:
    @DBOS.default_required_roles(["clerk"])
    @DBOS.dbos_class()
    class Office(DBOSConfiguredInstance):
        @DBOS.workflow()
        def file(self) -> str | None:
            return DBOS.assumed_role

        @DBOS.step()
        def stamp(self) -> str | None:
            return DBOS.assumed_role

        @staticmethod
        @DBOS.workflow()
        def archive() -> str | None:
            return DBOS.assumed_role

        @DBOS.required_roles(["boss"])
        @DBOS.workflow()
        def sign(self) -> str | None:
            return DBOS.assumed_role

        @DBOS.workflow()
        @DBOS.required_roles([])
        def wait(self) -> str | None:
            return DBOS.assumed_role

    @DBOS.default_required_roles(["boss"])
    class Board(Office): ...

    office, board = Office("main"), Board("board")
    with DBOSContextSetAuth("Ada", ["clerk"]):
        assert [office.file(), office.stamp(), Office.archive()] == ["clerk"] * 3
        with pytest.raises(DBOSNotAuthorizedError, match=NONE_MATCHES):
            office.sign()
        with pytest.raises(DBOSNotAuthorizedError, match=NONE_MATCHES):
            board.file()
    with DBOSContextSetAuth("Bob", ["boss"]):
        assert [office.sign(), board.file()] == ["boss"] * 2
        with pytest.raises(DBOSNotAuthorizedError, match=NONE_MATCHES):
            Office.archive()
        with pytest.raises(DBOSNotAuthorizedError, match=NONE_MATCHES):
            DBOS.run_step(None, office.stamp)
    with DBOSContextEnsure():
        assert office.wait() is None


def test_plain_functions_are_guarded_too(app: Application) -> None:
    @DBOS.required_roles(["clerk"])
    def show() -> str | None:
        return DBOS.assumed_role

    @DBOS.required_roles(["clerk"])
    async def show_async() -> str | None:
        await asyncio.sleep(0)
        return DBOS.assumed_role

    with DBOSContextSetAuth("Ada", ["clerk"]):
        assert (show(), asyncio.run(show_async())) == ("clerk", "clerk")
        assert DBOS.assumed_role is None
    with pytest.raises(DBOSNotAuthorizedError, match=NO_INFORMATION):
        show()


def test_what_a_workflow_says_of_its_user_counts_for_what_follows(
    app: Application, api: Flavour
) -> None:
    @api.step()
    async def look() -> Who:
        DBOS.set_authentication("nobody", None)
        return who()

    @api.workflow()
    async def child() -> Who:
        return who()

    @api.workflow()
    async def parent() -> list[Who]:
        DBOS.set_authentication("Bob", ["boss"])
        return [who(), await look(), await child()]

    async def scenario() -> Any:
        with DBOSContextSetAuth("Ada", ["clerk"]):
            with SetWorkflowID("parent"):
                answers = await parent()
            return [*answers, who()]

    bob = ("Bob", ["boss"], None)
    ada = ("Ada", ["clerk"], None)
    assert api.run(scenario) == [bob, ("nobody", None, None), bob, ada]
    assert app.steps("parent") == [(1, "look"), (2, "child"), (3, "DBOS.getResult")]


def test_a_user_is_known_within_a_context_only(app: Application) -> None:
    for read in (
        lambda: DBOS.authenticated_user,
        lambda: DBOS.authenticated_roles,
        lambda: DBOS.assumed_role,
        lambda: DBOS.set_authentication("Ada", []),
    ):
        with pytest.raises(DBOSUsageError, match="No DBOS context found"):
            read()

    with DBOSContextEnsure():
        assert who() == (None, None, None)
        DBOS.set_authentication("Ada", ["clerk"])
        with SetWorkflowID("some"):
            assert who() == ("Ada", ["clerk"], None)
        with DBOSContextSetAuth(None, None):
            assert who() == (None, None, None)
        assert who() == ("Ada", ["clerk"], None)
    with DBOSContextEnsure():
        assert who() == (None, None, None)


@pytest.mark.parametrize(("user", "roles"), [(7, None), ("a\0", None), ("a", "boss"), ("a", [1])])
def test_odd_users_and_roles_are_refused(app: Application, user: Any, roles: Any) -> None:
    with pytest.raises(DBOSInvalidInputError):
        DBOSContextSetAuth(user, roles)
    with DBOSContextEnsure(), pytest.raises(DBOSInvalidInputError):
        DBOS.set_authentication(user, roles)
    if isinstance(roles, str):
        with pytest.raises(DBOSInvalidInputError):
            DBOS.required_roles(roles)  # type: ignore[arg-type]
