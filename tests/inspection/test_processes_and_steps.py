"""Steps, executors, health, versions, and runs that nobody may run."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from dbos import DBOS, DBOSClient, Queue, SetWorkflowID
from dbos.error import DBOSException, DBOSInvalidInputError
from tests.behaviour.application import Application
from tests.support.postgres import wait_until

WITHIN_S = 20.0
EXPECTED = {"dispatcher", "leases", "failover", "deadlines", "orphans", "strandings"}


def test_steps_are_listed_by_id(populated: Application) -> None:
    [child_launch, child_result] = DBOS.list_workflow_steps("fails")

    assert (child_launch["function_id"], child_launch["function_name"]) == (1, "greet")
    assert child_launch["child_workflow_id"] == "fails-1"
    assert (child_result["function_name"], child_result["output"]) == ("DBOS.getResult", "CHILD")
    assert [step["function_id"] for step in DBOS.list_workflow_steps("fails", offset=1)] == [2]
    assert [step["function_id"] for step in DBOS.list_workflow_steps("fails", limit=1)] == [1]
    assert DBOS.list_workflow_steps("a_1", load_output=False)[0]["output"] is None
    assert DBOS.list_workflow_steps("unknown") == []


def test_a_corrupt_step_is_shown_as_stored_and_hides_no_other(app: Application) -> None:
    changes = {
        "output = '['": ({"output"}, "["),
        "output = NULL, error = '['": ({"error"}, None),
        "serialization = 'unheard'": ({"output"}, '"A"'),
        "serialization = NULL": ({"output"}, '"A"'),
        "started_at_epoch_ms = NULL, completed_at_epoch_ms = NULL": (set[str](), "A"),
        "function_name = ''": (set[str](), "A"),
        "child_workflow_id = 'nobody'": (set[str](), "A"),
        "output = NULL": (set[str](), None),
    }

    @DBOS.step()
    def shout(word: str) -> str:
        return word.upper()

    @DBOS.workflow()
    def call() -> None:
        for _ in changes:
            shout("a")

    with SetWorkflowID("call"):
        call()
    for step_id, change in enumerate(changes, 1):
        app.change(f"UPDATE {{operation_outputs}} SET {change} WHERE function_id = ?", step_id)

    listed = DBOS.list_workflow_steps("call")
    shown = [(set(step.get("payload_errors", {})), step["output"]) for step in listed]
    assert dict(zip(changes, shown, strict=True)) == changes
    assert "unheard" in listed[2].get("payload_errors", {})["output"]
    bare = DBOS.list_workflow_steps("call", load_output=False)
    assert not any("payload_errors" in step for step in bare)


def test_executors_are_listed_live_and_expired(app: Application) -> None:
    app.change(
        "INSERT INTO {perdure_executors} (incarnation_id, executor_id, application_name,"
        " application_version, version_policy, host, pid, process_started, lease_ms,"
        " lease_until_epoch_ms, started_at_epoch_ms) VALUES"
        " ('old', 'label', 'shop', 'v0', 'any', 'elsewhere', 7, '', 1000, ?, 4)",
        # Expired, but not so long ago that it is swept away.
        int(time.time() * 1000) - 1000,
    )

    [old, own] = DBOS.list_executors()

    assert (old.incarnation_id, old.executor_id, old.pid, old.is_live) == ("old", "label", 7, False)
    assert own.incarnation_id == DBOS.incarnation_id
    assert own.is_live
    assert own.application_version == "v1"
    assert 0 < own.lease_left_ms <= 15_000
    assert own.runs_owned == 0
    assert DBOS.list_executors(application_name="another") == []


def test_a_client_lists_the_executors_of_all_applications_or_of_one(
    app: Application, database_url: str
) -> None:
    client = DBOSClient(system_database_url=database_url)
    try:
        [listed] = client.list_executors()
        of_shop = asyncio.run(client.list_executors_async(application_name="shop"))
        of_another = client.list_executors(application_name="another")
    finally:
        client.destroy()

    assert listed.incarnation_id == DBOS.incarnation_id
    assert (listed.is_live, listed.application_name) == (True, "shop")
    assert [found.incarnation_id for found in of_shop] == [DBOS.incarnation_id]
    assert of_another == []


def test_health_tells_of_the_database_the_lease_and_each_service(app: Application) -> None:
    report = DBOS.health()

    assert report.is_database_reachable
    assert report.is_lease_held
    assert {service.name for service in report.services} >= EXPECTED
    assert all(service.is_running and not service.failures for service in report.services)
    assert asyncio.run(DBOS.health_async()).is_database_reachable


def test_the_latest_version_is_the_one_chosen_last(app: Application) -> None:
    first = DBOS.get_latest_application_version()
    DBOS.set_latest_application_version("v2")
    second = DBOS.get_latest_application_version()
    DBOS.set_latest_application_version("v1")

    assert (first["version_name"], second["version_name"]) == ("v1", "v2")
    assert [v["version_name"] for v in DBOS.list_application_versions()] == ["v1", "v2"]
    assert first["application_name"] == "shop"


def test_a_version_of_another_application_is_not_taken_over(app: Application) -> None:
    DBOS.set_latest_application_version("theirs", application_name="other")

    with pytest.raises(DBOSException, match="already registered by application"):
        DBOS.set_latest_application_version("theirs")
    with pytest.raises(DBOSInvalidInputError):
        DBOS.set_latest_application_version("")


def test_a_run_that_nobody_may_run_is_stranded_and_says_why(app: Application) -> None:
    reasons = {
        "name = 'unheard of'": "not_registered",
        "name = NULL": "not_registered",
        "class_name = 'Unheard'": "not_registered",
        "class_name = ''": "not_registered",
        "application_version = 'v9', code_hash = NULL": "version",
        "serialization = 'strange'": "format",
        "queue_name = 'nobody listens'": "no_listener",
        "application_name = 'elsewhere'": "no_process",
    }
    queue = Queue("never", worker_concurrency=0)

    @DBOS.workflow()
    def wait() -> None:
        return None

    app.relaunch()
    for workflow_id in ("fine", *reasons):
        with SetWorkflowID(workflow_id):
            queue.enqueue(wait)
    for change in reasons:
        app.change(f"UPDATE {{workflow_status}} SET {change} WHERE workflow_uuid = ?", change)

    every = ["shop", "elsewhere"]
    listed = {status.workflow_id: status for status in DBOS.list_workflows(application_name=every)}
    fine = listed.pop("fine")
    assert {one: status.stranded_reason for one, status in listed.items()} == reasons
    assert all(status.stranded for status in listed.values())
    assert (fine.stranded, fine.stranded_reason) == (False, None)
    lost = DBOS.list_workflows(stranded=True, application_name=every)
    assert {status.workflow_id for status in lost} == set(reasons)
    assert [one.workflow_id for one in DBOS.list_workflows(stranded=False)] == ["fine"]


def test_what_a_process_serves_is_told_at_once_however_long_its_lease(app: Application) -> None:
    DBOS.register_queue("orders")
    app.relaunch(failover={"lease_seconds": 3600.0})

    def told() -> list[str]:
        [(capabilities,)] = app.rows("SELECT capabilities FROM {perdure_executors}")
        queues: list[str] = json.loads(capabilities)["queues"]
        return queues

    wait_until(lambda: "orders" in told(), WITHIN_S)
