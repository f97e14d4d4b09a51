"""Queues as values: what may be declared, how settings read, and how registered ones change."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos import DBOS, Queue, error
from tests.behaviour.application import Application
from tests.behaviour.enqueues import call
from tests.behaviour.flavours import Flavour

SETTINGS = (
    "concurrency",
    "global_concurrency",
    "worker_concurrency",
    "limiter",
    "partition_concurrency",
    "partition_worker_concurrency",
    "partition_limiter",
    "polling_interval_sec",
    "priority_enabled",
    "partition_queue",
)
SHADOWED = SETTINGS[1:7]
RATE = {"limit": 3, "period": 1.5}


def settings_of(queue: Queue) -> dict[str, Any]:
    """The settings that are not at their default."""
    plain = dict.fromkeys(SETTINGS) | {
        "polling_interval_sec": 1.0,
        "priority_enabled": False,
        "partition_queue": False,
    }
    read = {name: getattr(queue, name) for name in SETTINGS}
    return {name: value for name, value in read.items() if value != plain[name]}


async def change(api: Flavour, queue: Queue, setting: str, value: object) -> None:
    if api.is_async:
        await getattr(queue, f"set_{setting}_async")(value)
    else:
        getattr(queue, f"set_{setting}")(value)


@pytest.fixture(autouse=True)
def nothing_declared() -> None:
    """No queue, and no instance."""
    DBOS.destroy(destroy_registry=True)


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        ({"concurrency": 1, "global_concurrency": 1}, "only one of them"),
        ({"partition_queue": True, "partition_concurrency": 1}, "only one of them"),
        ({"partition_queue": True, "partition_limiter": RATE}, "only one of them"),
        (
            {"partition_queue": True, "global_concurrency": 1},
            "cannot be combined with global_concurrency",
        ),
        ({"partition_concurrency": 0}, "at least 1"),
        ({"partition_worker_concurrency": 0}, "at least 1"),
        ({"limiter": {"limit": 1}}, "both 'limit' and 'period'"),
        ({"partition_limiter": {"period": 1}}, "both 'limit' and 'period'"),
        ({"worker_concurrency": 3, "global_concurrency": 2}, "greater than or equal"),
        ({"worker_concurrency": 3, "concurrency": 2}, "greater than or equal"),
        ({"partition_concurrency": 3, "global_concurrency": 2}, "greater than or equal"),
        (
            {"partition_worker_concurrency": 3, "partition_concurrency": 2},
            "greater than or equal",
        ),
        ({"partition_worker_concurrency": 3, "worker_concurrency": 2}, "greater than or equal"),
        ({"partition_worker_concurrency": 3, "global_concurrency": 2}, "greater than or equal"),
        ({"polling_interval_sec": 0}, "must be positive"),
        ({"polling_interval_sec": 0.0001}, "must be at least"),
        ({"polling_interval_sec": float("nan")}, "polling_interval_sec must"),
        ({"concurrency": -1}, "concurrency must"),
        ({"worker_concurrency": True}, "worker_concurrency must"),
        ({"limiter": {"limit": -1, "period": 1}}, "limit' must"),
        ({"limiter": {"limit": 1, "period": 0}}, "period' must"),
        ({"limiter": {"limit": 1, "period": float("inf")}}, "period' must"),
        ({"limiter": 5}, "limiter must"),
        ({"name": "_dbos_mine"}, "must not start with _dbos_"),
        ({"name": ""}, "queue name must not be empty"),
    ],
)
def test_settings_that_cannot_be_declare_nothing(settings: dict[str, Any], fragment: str) -> None:
    with pytest.raises(error.DBOSInvalidInputError, match=fragment):
        Queue(**({"name": "tasks"} | settings))

    assert Queue("tasks").name == "tasks"


def test_a_name_is_declared_once() -> None:
    Queue("tasks")

    with pytest.raises(error.DBOSException, match="has already been declared"):
        Queue("tasks")

    DBOS.destroy(destroy_registry=True)
    assert Queue("tasks").name == "tasks"


def test_a_declared_queue_reads_as_declared_in_either_spelling() -> None:
    older = Queue("older", 5, RATE, worker_concurrency=2)  # type: ignore[arg-type]
    newer = Queue("newer", global_concurrency=5, partition_limiter=RATE)  # type: ignore[arg-type]
    per_key = Queue("per-key", 3, RATE, worker_concurrency=2, partition_queue=True)  # type: ignore[arg-type]

    assert settings_of(older) == {
        "concurrency": 5,
        "global_concurrency": 5,
        "worker_concurrency": 2,
        "limiter": RATE,
    }
    assert settings_of(newer) == {
        "concurrency": 5,
        "global_concurrency": 5,
        "partition_limiter": RATE,
    }
    assert settings_of(per_key) == {
        "concurrency": 3,
        "partition_concurrency": 3,
        "partition_worker_concurrency": 2,
        "partition_limiter": RATE,
        "partition_queue": True,
    }


def test_a_declared_queue_cannot_be_changed() -> None:
    queue = Queue("tasks", worker_concurrency=1)

    for name in SETTINGS:
        with pytest.raises(error.DBOSException, match=r"registered via DBOS\.register_queue"):
            getattr(queue, f"set_{name}")(None)

    assert asyncio.run(queue.get_worker_concurrency_async()) == 1


def test_a_registered_queue_reads_what_is_stored_and_writes_through(
    shop: Application, api: Flavour
) -> None:
    shop.launch()

    async def scenario() -> Any:
        queue = await call(
            api,
            "register_queue",
            "tasks",
            global_concurrency=9,
            worker_concurrency=4,
            limiter=RATE,
        )
        for name, value in (
            ("concurrency", 8),
            ("global_concurrency", 7),
            ("worker_concurrency", 2),
            ("limiter", None),
            ("partition_concurrency", 2),
            ("partition_worker_concurrency", 1),
            ("partition_limiter", RATE),
            ("polling_interval_sec", 0.5),
            ("priority_enabled", True),
        ):
            await change(api, queue, name, value)
        return await call(api, "retrieve_queue", "tasks")

    queue = api.run(scenario)

    assert settings_of(queue) == {
        "concurrency": 7,
        "global_concurrency": 7,
        "worker_concurrency": 2,
        "partition_concurrency": 2,
        "partition_worker_concurrency": 1,
        "partition_limiter": RATE,
        "polling_interval_sec": 0.5,
        "priority_enabled": True,
    }
    assert queue.application_name == "shop"
    assert asyncio.run(queue.get_partition_limiter_async()) == RATE


def test_a_setter_judges_a_value_by_the_other_stored_settings(
    shop: Application, api: Flavour
) -> None:
    shop.launch()

    async def scenario() -> Any:
        queue = await call(
            api, "register_queue", "tasks", global_concurrency=5, worker_concurrency=3
        )
        for name, value, fragment in (
            ("worker_concurrency", 6, "greater than or equal"),
            ("global_concurrency", 2, "greater than or equal"),
            ("partition_concurrency", 0, "at least 1"),
            ("partition_queue", None, "must be a bool"),
            ("polling_interval_sec", 0, "must be positive"),
        ):
            with pytest.raises(error.DBOSInvalidInputError, match=fragment):
                await change(api, queue, name, value)
        return queue

    queue = api.run(scenario)

    assert settings_of(queue) == {
        "concurrency": 5,
        "global_concurrency": 5,
        "worker_concurrency": 3,
    }


def test_the_older_spelling_of_a_partitioned_queue_shadows_the_newer_one(
    shop: Application, api: Flavour
) -> None:
    shop.launch()

    async def scenario() -> Any:
        queue = await call(
            api, "register_queue", "tasks", partition_queue=True, concurrency=3, limiter=RATE
        )
        for name in SHADOWED:
            with pytest.raises(error.DBOSException, match="partition_queue"):
                await change(api, queue, name, None)
        await change(api, queue, "concurrency", 2)
        shadowed = settings_of(queue)
        await change(api, queue, "partition_queue", False)
        await change(api, queue, "partition_concurrency", 1)
        with pytest.raises(error.DBOSException, match=r"partition_\* limits"):
            await change(api, queue, "partition_queue", True)
        await change(api, queue, "partition_concurrency", None)
        return shadowed, settings_of(queue)

    # The attributes read the database, which is no fault here: the loop has nothing else to do.
    shadowed, plain = api.run(scenario)

    assert shadowed == {
        "concurrency": 2,
        "partition_concurrency": 2,
        "partition_limiter": RATE,
        "partition_queue": True,
    }
    assert plain == {"concurrency": 2, "global_concurrency": 2, "limiter": RATE}


def test_a_deleted_queue_has_no_settings_any_more(shop: Application, api: Flavour) -> None:
    shop.launch()

    async def scenario() -> Any:
        queue = await call(api, "register_queue", "tasks")
        await call(api, "delete_queue", "tasks")
        await call(api, "delete_queue", "tasks")
        with pytest.raises(error.DBOSException, match="not found in the database"):
            await change(api, queue, "concurrency", 1)
        return queue, await call(api, "retrieve_queue", "tasks")

    queue, found = api.run(scenario)

    assert found is None
    with pytest.raises(error.DBOSException, match="not found in the database"):
        _ = queue.limiter


def test_reading_a_setting_in_a_coroutine_warns_of_the_blocked_loop(
    shop: Application, log: pytest.LogCaptureFixture
) -> None:
    shop.launch()
    queue = DBOS.register_queue("tasks", worker_concurrency=2)

    async def read() -> int | None:
        return queue.worker_concurrency

    assert asyncio.run(read()) == 2
    assert "Queue.worker_concurrency blocks the event loop" in log.text


def test_a_setting_cannot_be_assigned(shop: Application) -> None:
    shop.launch()

    for queue in (Queue("declared"), DBOS.register_queue("registered")):
        for name in SETTINGS:
            with pytest.raises(AttributeError, match=f"call set_{name}"):
                setattr(queue, name, None)
        assert settings_of(queue) == {}
