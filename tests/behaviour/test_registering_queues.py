"""Registered queues: who owns a name, what a second registration does, and what is listed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos import DBOS, Queue, error
from dbos.api.slot import SLOT
from tests.behaviour.application import Application
from tests.behaviour.enqueues import call
from tests.behaviour.flavours import Flavour


def test_a_second_registration_overwrites_every_setting_or_none(
    app: Application, api: Flavour
) -> None:
    async def scenario() -> list[Any]:
        read: list[Any] = []
        for options in (
            {"global_concurrency": 5, "limiter": {"limit": 1, "period": 2.0}},
            {"worker_concurrency": 2, "on_conflict": "never_update"},
            {"worker_concurrency": 3},
            {"worker_concurrency": 4, "on_conflict": "always_update"},
        ):
            await call(api, "register_queue", "tasks", **options)
            [(row)] = app.rows(
                "SELECT concurrency, worker_concurrency, rate_limit_max FROM {queues}"
            )
            read.append(tuple(row))
        return read

    assert api.run(scenario) == [(5, None, 1), (5, None, 1), (None, 3, None), (None, 4, None)]


def test_an_older_version_does_not_overwrite_unless_asked_to(shop: Application) -> None:
    shop.launch(application_version="v1")
    DBOS.register_queue("tasks", worker_concurrency=1)
    shop.relaunch(application_version="v2")
    newer = DBOS.register_queue("tasks", worker_concurrency=2)
    shop.relaunch(application_version="v1")

    kept = DBOS.register_queue("tasks", worker_concurrency=1)

    assert newer.worker_concurrency == 2
    assert kept.worker_concurrency == 2
    DBOS.register_queue("tasks", worker_concurrency=1, on_conflict="always_update")
    assert kept.worker_concurrency == 1


def test_a_name_belongs_to_the_application_that_registered_it(shop: Application) -> None:
    shop.launch(name="other", application_version="o1")
    DBOS.register_queue("theirs")
    shop.relaunch(name="shop", application_version="v1")
    shop.change("UPDATE {queues} SET application_name = NULL WHERE name = ?", "nobodys")
    DBOS.register_queue("ours")

    with pytest.raises(error.DBOSException, match="already registered by application other"):
        DBOS.register_queue("theirs", worker_concurrency=1, on_conflict="always_update")

    found = DBOS.retrieve_queue("theirs")
    assert found is not None
    assert (found.application_name, found.worker_concurrency) == ("other", None)
    assert [queue.name for queue in DBOS.list_queues()] == ["ours"]
    assert [queue.name for queue in DBOS.list_queues(application_name="other")] == ["theirs"]
    assert [queue.name for queue in DBOS.list_queues(application_name=["other", "shop"])] == [
        "ours",
        "theirs",
    ]


def test_an_unclaimed_queue_is_in_scope_and_claimed_by_an_overwrite(app: Application) -> None:
    DBOS.register_queue("tasks")
    app.change("UPDATE {queues} SET application_name = NULL")

    [unclaimed] = DBOS.list_queues()
    again = DBOS.register_queue("tasks", worker_concurrency=1)

    assert unclaimed.application_name is None
    assert again.application_name == "shop"


def test_a_fresh_application_lists_no_queue_and_declared_ones_are_not_listed(
    app: Application, api: Flavour
) -> None:
    Queue("declared")

    async def scenario() -> Any:
        return await call(api, "list_queues"), await call(api, "retrieve_queue", "declared")

    assert api.run(scenario) == ([], None)


def test_queue_calls_in_a_workflow_are_no_steps(app: Application, api: Flavour) -> None:
    @api.workflow()
    async def registering() -> list[str]:
        await call(api, "register_queue", "tasks")
        queues = await call(api, "list_queues")
        await call(api, "delete_queue", "tasks")
        return [queue.name for queue in queues]

    async def scenario() -> Any:
        return await registering()

    assert api.run(scenario) == ["tasks"]
    assert app.count("operation_outputs") == 0


def test_a_registration_that_cannot_be_writes_nothing(app: Application, api: Flavour) -> None:
    async def scenario() -> None:
        for options, fragment in (
            ({"on_conflict": "merge"}, "Invalid on_conflict"),
            ({"on_conflict": None}, "Invalid on_conflict"),
            ({"limiter": {"limit": 1}}, "both 'limit' and 'period'"),
        ):
            with pytest.raises(error.DBOSInvalidInputError, match=fragment):
                await call(api, "register_queue", "tasks", **options)
        with pytest.raises(error.DBOSInvalidInputError, match="_dbos_"):
            await call(api, "register_queue", "_dbos_tasks")

    api.run(scenario)

    assert app.count("queues") == 0


def test_queue_calls_are_refused_under_a_running_loop(app: Application) -> None:
    async def scenario() -> None:
        for name, args in (
            ("register_queue", ("tasks",)),
            ("retrieve_queue", ("tasks",)),
            ("list_queues", ()),
            ("delete_queue", ("tasks",)),
        ):
            with pytest.raises(error.DBOSEventLoopError, match=f"{name}_async"):
                getattr(DBOS, name)(*args)

    asyncio.run(scenario())

    assert app.count("queues") == 0


def test_what_a_process_listens_to_is_said_once_and_before_launch(shop: Application) -> None:
    queue = Queue("tasks")

    DBOS.listen_queues([queue, "later"])

    assert SLOT.registry.listened == frozenset({"tasks", "later"})
    with pytest.raises(error.DBOSException, match="more than once"):
        DBOS.listen_queues([])
    shop.launch()
    with pytest.raises(error.DBOSException, match="called after DBOS is launched"):
        DBOS.listen_queues([])
    DBOS.destroy()
    DBOS.listen_queues([])
    assert SLOT.registry.listened == frozenset()


def test_what_is_listened_to_must_be_a_list_of_queues_or_names(shop: Application) -> None:
    queue = Queue("tasks")
    wrong: list[Any] = [None, 5, "tasks", queue, [5], [""], [None]]

    for given in wrong:
        with pytest.raises(error.DBOSInvalidInputError):
            DBOS.listen_queues(given)

    assert SLOT.registry.listened is None


def test_queue_calls_in_a_transaction_are_made_or_undone_with_it(app: Application) -> None:
    """On SQLite a write beside the open transaction could never come through."""

    class Undone(Exception):
        pass

    @DBOS.transaction()
    def register(name: str, is_undone: bool) -> list[str]:
        queue = DBOS.register_queue(name)
        queue.set_worker_concurrency(3)
        assert DBOS.retrieve_queue(name) is not None
        DBOS.register_queue("brief")
        DBOS.delete_queue("brief")
        if is_undone:
            raise Undone
        return [queue.name for queue in DBOS.list_queues()]

    listed = register("kept", False)
    with pytest.raises(Undone):
        register("undone", True)

    assert listed == ["kept"]
    assert [(queue.name, queue.worker_concurrency) for queue in DBOS.list_queues()] == [("kept", 3)]
