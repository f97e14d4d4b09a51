"""Transactions whose connection is lost: with their commit, before it, or after it was sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from dbos import SetWorkflowID
from tests.behaviour.application import Application
from tests.behaviour.stores import KINDS, Store, add, drop_all, make_lines, numbers
from tests.support.relay import Cut, Relay

OVER_A_NETWORK = tuple(kind for kind in KINDS if kind[1] != "sqlite")
"""SQLite has no connection to lose."""


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """The history is out of danger: what is cut off is the datasource."""
    return f"sqlite:///{tmp_path / 'system.sqlite'}"


@pytest.fixture
def relay(store_database: str) -> Iterator[Relay]:
    relay = Relay(store_database)
    yield relay
    relay.close()
    drop_all(store_database)


@pytest.fixture(params=OVER_A_NETWORK, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def store(request: pytest.FixtureRequest, relay: Relay) -> Iterator[Any]:
    _, scheme, kind = request.param
    store = kind(relay.url.replace("postgresql", scheme, 1))

    async def prepare() -> None:
        await store.open()
        await make_lines(store)
        await store.run(None, make_totals)

    async def make_totals() -> None:
        await store.execute("CREATE TABLE totals (n INT)")

    store.api.run(prepare)
    yield store
    store.api.run(store.close)


@pytest.mark.parametrize(
    ("cut", "isolation"),
    [
        ("before", "SERIALIZABLE"),
        ("after", "SERIALIZABLE"),
        ("late", "SERIALIZABLE"),
        ("late", "READ COMMITTED"),
    ],
)
def test_a_commit_that_is_cut_off_is_looked_for_and_the_effects_are_there_once(
    app: Application, relay: Relay, store: Store, cut: Cut, isolation: str
) -> None:
    attempts: list[int] = []

    @store.transaction(name="insert", isolation_level=isolation)
    async def insert() -> int:
        attempts.append(1)
        if len(attempts) == 1:
            relay.cut_next(cut)
        else:
            relay.release()
        await store.execute("INSERT INTO totals VALUES (7)")
        return len(attempts)

    @store.api.workflow(name="work")
    async def work() -> int:
        answer: int = await insert()
        return answer

    async def scenario() -> int:
        with SetWorkflowID("run"):
            answer: int = await work()
            return answer

    answer = store.api.run(scenario)

    assert relay.cuts == 1
    assert len(attempts) == 1 if cut == "after" else len(attempts) >= 2
    assert answer == (len(attempts) if cut == "before" else 1)
    assert app.steps("run") == [(1, "insert")]
    assert totals(store) == [7]


def totals(store: Store) -> list[int]:
    async def read() -> list[int]:
        return list((await store.execute("SELECT n FROM totals")).scalars())

    found: list[int] = store.api.run(store.run, {"name": "read"}, read)
    return found


def test_a_plain_transaction_whose_commit_is_in_doubt_is_an_error_and_no_second_run(
    relay: Relay, store: Store
) -> None:
    attempts: list[int] = []

    async def insert() -> None:
        attempts.append(1)
        relay.cut_next("after")
        await add(store, 1)

    with pytest.raises((DBAPIError, OSError)):
        store.api.run(store.run, None, insert)

    assert len(attempts) == 1
    assert numbers(store) == [1]


@pytest.mark.parametrize("fault", ["40001", "40P01", "lost"])
def test_a_collision_or_a_lost_connection_runs_the_whole_body_again(
    app: Application, store: Store, fault: str
) -> None:
    attempts: list[int] = []

    async def insert() -> int:
        attempts.append(1)
        await add(store, len(attempts))
        if len(attempts) < 3:
            await store.execute(
                "SELECT pg_terminate_backend(pg_backend_pid())"
                if fault == "lost"
                else f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{fault}'; END $$"
            )
        return len(attempts)

    @store.api.workflow(name="work")
    async def work() -> int:
        answer: int = await store.run({"name": "insert"}, insert)
        return answer

    async def scenario() -> list[int]:
        with SetWorkflowID("run"):
            recorded: int = await work()
        attempts.clear()
        await store.run(None, clear)
        return [recorded, await store.run(None, insert)]

    async def clear() -> None:
        await store.execute("DELETE FROM lines")

    assert store.api.run(scenario) == [3, 3]

    assert app.steps("run") == [(1, "insert")]
    assert numbers(store) == [3]
