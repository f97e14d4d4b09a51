"""FastAPI and Flask: launch and shutdown, ids from headers, errors, and routes that are workflows.

The handlers' annotations are texts here, as `from __future__ import annotations` makes them: the
frameworks must find what they mean.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from flask import Flask

from dbos import DBOS
from dbos.api.slot import SLOT
from dbos.error import DBOSException, DBOSInitializationError
from tests.behaviour.application import Application

with warnings.catch_warnings():
    # The test client warns of the release of the HTTP library that it finds.
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

KEY = "dbos-idempotency-key"


def status_of(workflow_id: str) -> Any:
    status = DBOS.get_workflow_status(workflow_id)
    assert status is not None
    return status


def test_an_application_is_launched_and_destroyed_with_its_server(shop: Application) -> None:
    seen: list[Any] = []

    @asynccontextmanager
    async def own_lifespan(_: FastAPI) -> AsyncIterator[None]:
        seen.append(await count(1))
        yield
        seen.append(await count(2))

    @DBOS.workflow()
    async def count(number: int) -> int:
        return number

    web = FastAPI(lifespan=own_lifespan)

    @web.get("/")
    def root() -> str | None:
        return DBOS.incarnation_id

    DBOS(config=shop.config(), fastapi=web)
    with TestClient(web) as client:
        assert client.get("/").json() is not None

    assert seen == [1, 2]
    assert SLOT.instance is None
    assert shop.count("perdure_executors") == 0


def test_routes_are_workflows_and_steps(shop: Application) -> None:
    web = FastAPI()
    DBOS(config=shop.config(), fastapi=web)

    @DBOS.step()
    def price(order_id: int) -> int:
        return order_id * 10

    @web.post("/sync/{order_id}")
    @DBOS.workflow(name="sync")
    def sync(order_id: int, note: str = "none") -> dict[str, Any]:
        return {"price": price(order_id), "note": note, "id": DBOS.workflow_id}

    @web.post("/async/{order_id}")
    @DBOS.workflow(name="async")
    async def by_loop(order_id: int) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"price": price(order_id), "id": DBOS.workflow_id}

    @web.get("/step/{order_id}")
    @DBOS.step()
    async def step(order_id: int) -> int:
        return order_id

    with TestClient(web) as client:
        first = client.post("/sync/7?note=soon", headers={KEY: "one"}).json()
        again = client.post("/sync/8", headers={KEY: "one"}).json()
        second = client.post("/async/2", headers={KEY: "two"}).json()
        blank = client.post("/sync/3", headers={KEY: " "}).json()
        refused = client.post("/sync/word")
        step_result = client.get("/step/5").json()
        inputs = [status_of(name).input for name in ("one", "two")]

    assert first == again == {"price": 70, "note": "soon", "id": "one"}
    assert second == {"price": 20, "id": "two"}
    assert blank["price"] == 30
    assert refused.status_code == 422
    assert step_result == 5
    assert inputs == [
        {"args": (), "kwargs": {"order_id": 7, "note": "soon"}},
        {"args": (), "kwargs": {"order_id": 2}},
    ]


def test_the_key_is_for_the_first_workflow_of_a_handler(
    shop: Application, log: pytest.LogCaptureFixture
) -> None:
    web = FastAPI()
    DBOS(config=shop.config(), fastapi=web)

    @DBOS.workflow()
    def work() -> str | None:
        return DBOS.workflow_id

    @web.post("/two")
    def two() -> list[Any]:
        assert DBOS.workflow_id is None
        assert DBOS.authenticated_user is None
        return [work(), work()]

    @DBOS.workflow()
    async def work_async() -> None: ...

    @web.post("/started")
    async def started() -> str:
        return (await DBOS.start_workflow_async(work_async)).workflow_id

    with TestClient(web) as client:
        first, second = client.post("/two", headers={KEY: "k"}).json()
        assert client.post("/started", headers={KEY: "s"}).json() == "s"
        assert client.post("/two", headers={KEY: "x" * 1400}).status_code == 500

    assert first == "k"
    assert second not in ("k", None)


def test_errors_are_answered_as_json(shop: Application) -> None:
    web = FastAPI()
    DBOS(config=shop.config(), fastapi=web)

    @web.get("/admin")
    @DBOS.required_roles(["admin"])
    @DBOS.workflow()
    def admin() -> None: ...

    @web.get("/plain")
    def plain() -> None:
        raise DBOSException("something of ours")

    @web.get("/teapot")
    @DBOS.workflow()
    def teapot() -> None:
        raise HTTPException(418, "short and stout")

    with TestClient(web, raise_server_exceptions=False) as client:
        forbidden = client.get("/admin")
        failed = client.get("/plain")
        passed = client.get("/teapot")

    assert forbidden.status_code == 403
    assert list(forbidden.json()) == ["message", "dbos_error_code", "dbos_error"]
    assert forbidden.json()["dbos_error_code"] == "8"
    assert forbidden.json()["dbos_error"] == "DBOSNotAuthorizedError"
    assert failed.status_code == 500
    assert failed.json() == {
        "message": "something of ours",
        "dbos_error_code": None,
        "dbos_error": "DBOSException",
    }
    assert (passed.status_code, passed.json()) == (418, {"detail": "short and stout"})


def test_a_dependency_says_whom_a_request_is_for(shop: Application) -> None:
    web = FastAPI()
    DBOS(config=shop.config(), fastapi=web)

    def login(user: str) -> None:
        DBOS.set_authentication(user, ["clerk"])

    @web.get("/file", dependencies=[Depends(login)])
    @DBOS.required_roles(["clerk"])
    @DBOS.workflow()
    def file() -> list[Any]:
        return [DBOS.authenticated_user, DBOS.assumed_role]

    @web.get("/nobody")
    def nobody() -> str | None:
        return DBOS.authenticated_user

    with TestClient(web) as client:
        assert client.get("/file?user=Ada").json() == ["Ada", "clerk"]
        assert client.get("/file?user=Bob").json() == ["Bob", "clerk"]
        assert client.get("/nobody").json() is None


def test_background_workflows_live_on_the_loop_of_the_server(shop: Application) -> None:
    web = FastAPI()

    @DBOS.workflow()
    async def loop_of_work() -> int:
        return id(asyncio.get_running_loop())

    @web.get("/loops")
    async def loops() -> list[int]:
        handle = await asyncio.to_thread(DBOS.start_workflow, loop_of_work)
        return [id(asyncio.get_running_loop()), await asyncio.to_thread(handle.get_result)]

    DBOS(config=shop.config(), fastapi=web)
    DBOS.launch()
    with TestClient(web) as client:
        here, there = client.get("/loops").json()

    assert here == there


def test_a_launch_that_fails_stops_the_server(shop: Application) -> None:
    web = FastAPI()
    DBOS.reset_system_database(system_database_url=shop.database_url)
    DBOS(config=shop.config(run_migrations=False), fastapi=web)

    with pytest.raises(DBOSInitializationError), TestClient(web):
        pass


def test_an_application_that_has_started_is_refused(shop: Application) -> None:
    web = FastAPI()
    with TestClient(web), pytest.raises(DBOSException, match="has started already"):
        DBOS(config=shop.config(), fastapi=web)

    assert SLOT.instance is None


def test_routes_run_as_workflows_without_the_integration(app: Application) -> None:
    web = FastAPI()

    @web.post("/orders/{order_id}")
    @DBOS.workflow()
    def create(order_id: str) -> str | None:
        return DBOS.workflow_id

    with TestClient(web) as client:
        workflow_id = client.post("/orders/7", headers={KEY: "ignored"}).json()

    assert status_of(workflow_id).input == {"args": (), "kwargs": {"order_id": "7"}}
    assert workflow_id != "ignored"


def test_flask_takes_ids_from_headers(shop: Application) -> None:
    web = Flask("shop")
    DBOS(config=shop.config(), flask=web)
    DBOS.launch()

    @web.before_request
    def login() -> None:
        DBOS.set_authentication("Ada", ["clerk"])

    @web.post("/orders/<order_id>")
    @DBOS.required_roles(["clerk"])
    @DBOS.workflow(name="create")
    def create(order_id: str) -> dict[str, Any]:
        return {"order": order_id, "id": DBOS.workflow_id, "user": DBOS.authenticated_user}

    client = web.test_client()
    first = client.post("/orders/7", headers={KEY: "one"}).json
    again = client.post("/orders/8", headers={KEY: "one"}).json
    other = client.post("/orders/9").json

    assert first == again == {"order": "7", "id": "one", "user": "Ada"}
    assert other is not None
    assert other["order"] == "9"
    assert client.post("/orders/7", headers={KEY: "x" * 1400}).status_code == 500
    assert status_of("one").input == {"args": (), "kwargs": {"order_id": "7"}}
