"""The dispatcher: what waits on a queue is started, under the limits of the queue and the process.

Polling is set to a minute here: what a test waits for must be rung for.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dbos import DBOS
from dbos.api.slot import SLOT
from dbos.engine.engine import Engine
from dbos.errors import DBOSException
from dbos.runtime.drive import drive
from dbos.storage import workflows
from dbos.storage.queue_limits import QueueLimits
from dbos.storage.rows import NewRun
from tests.behaviour.application import Application

POLLING_S = 60.0
WITHIN_S = 30.0


def engine() -> Engine:
    assert SLOT.instance is not None
    assert SLOT.instance.engine is not None
    return SLOT.instance.engine.engine


def declare(name: str = "work", **limits: Any) -> None:
    SLOT.registry.declare_queue(QueueLimits(name, polling_interval_s=POLLING_S, **limits))


def enqueue(workflow_id: str, name: str, *args: Any, **fields: Any) -> None:
    """Enqueue a workflow by name, as a client does."""
    rt = engine().blocking
    codec = engine().codec
    given: dict[str, Any] = {"status": "ENQUEUED", "queue_name": "work"} | fields
    run = NewRun(
        workflow_id,
        name=name,
        inputs=codec.dump_arguments(args, {}, codec.native),
        serialization=codec.native,
        owner_xid="client",
        application_name="shop",
        application_version="v1",
        **given,
    )

    async def commit() -> None:
        await rt.io.commit(workflows.admit, run, workflow_id)

    drive(commit())


def result(workflow_id: str) -> Any:
    return DBOS.retrieve_workflow(workflow_id).get_result()


def await_row(app: Application, query: str, *values: object) -> tuple[Any, ...]:
    """The row, once there is one: what changes it rings for nobody here."""
    pause = threading.Event()
    for _ in range(600):
        if rows := app.rows(query, *values):
            return rows[0]
        pause.wait(0.05)
    raise AssertionError("the database never came to that state")


def test_a_queued_workflow_runs_once_it_is_enqueued(app: Application) -> None:
    @DBOS.workflow(name="double")
    def double(number: int) -> int:
        return 2 * number

    declare()
    enqueue("a", "double", 21)

    assert result("a") == 42
    columns = "status, queue_name, recovery_attempts FROM {workflow_status}"
    assert app.rows(f"SELECT {columns}") == [("SUCCESS", "work", 1)]


def test_the_end_of_a_workflow_starts_the_next_at_a_limit(app: Application) -> None:
    order = list[str]()

    @DBOS.workflow(name="note")
    def note(what: str) -> None:
        order.append(what)

    declare(global_concurrency=1)
    for number in range(5):
        enqueue(f"r{number}", "note", f"r{number}")
    for number in range(5):
        result(f"r{number}")

    assert order == [f"r{number}" for number in range(5)]


def test_a_cancelled_workflow_lets_the_next_start(app: Application) -> None:
    running, cancelled = threading.Event(), threading.Event()

    @DBOS.workflow(name="hold")
    def hold() -> None:
        running.set()
        assert cancelled.wait(WITHIN_S)

    @DBOS.workflow(name="follow")
    def follow() -> str:
        return "followed"

    declare(global_concurrency=1)
    enqueue("first", "hold")
    enqueue("second", "follow")
    assert running.wait(WITHIN_S)
    DBOS.cancel_workflow("first")

    assert result("second") == "followed"
    cancelled.set()


def test_sync_workflows_wait_for_a_thread_and_async_ones_do_not(shop: Application) -> None:
    shop.launch(max_executor_threads=1)
    running, go_on = threading.Event(), threading.Event()

    @DBOS.workflow(name="hold")
    def hold() -> None:
        running.set()
        assert go_on.wait(WITHIN_S)

    @DBOS.workflow(name="follow")
    def follow() -> str:
        return "followed"

    @DBOS.workflow(name="glide")
    async def glide() -> str:
        return "glided"

    declare()
    enqueue("first", "hold")
    assert running.wait(WITHIN_S)
    enqueue("sync", "follow")
    enqueue("async", "glide")

    assert result("async") == "glided"
    assert DBOS.retrieve_workflow("sync").get_status().status == "ENQUEUED"
    go_on.set()
    assert result("sync") == "followed"


def test_delays_end_even_where_no_queue_is_listened_to(app: Application) -> None:
    SLOT.registry.listened = frozenset()
    declare()

    enqueue("later", "anything", status="DELAYED", delay_until_epoch_ms=1000)

    await_row(app, "SELECT status FROM {workflow_status} WHERE status = 'ENQUEUED'")


def test_a_workflow_that_nobody_knows_is_counted_and_does_not_hold_up_the_queue(
    app: Application,
) -> None:
    @DBOS.workflow(name="known")
    def known() -> str:
        return "ran"

    declare(global_concurrency=1)
    enqueue("stranger", "unheard-of")
    enqueue("friend", "known")

    assert result("friend") == "ran"
    status, returns, reason = await_row(
        app,
        "SELECT status, claim_returns, claim_error FROM {workflow_status} "
        "WHERE workflow_uuid = 'stranger' AND claim_returns > 0",
    )
    assert (status, returns) == ("ENQUEUED", 1)
    assert reason.startswith("not_registered: ")


def test_the_hundredth_time_that_nobody_knows_a_workflow_is_the_last(app: Application) -> None:
    declare()
    enqueue("stranger", "unheard-of", deduplication_id="d")
    app.change("UPDATE {workflow_status} SET claim_returns = 99, not_before_epoch_ms = NULL")
    engine().hub.publish([workflows.SLOT_FREED])

    with pytest.raises(DBOSException):
        result("stranger")
    columns = "status, queue_name, deduplication_id, claim_returns FROM {workflow_status}"
    assert app.rows(f"SELECT {columns}") == [("MAX_RECOVERY_ATTEMPTS_EXCEEDED", None, None, 100)]


def test_a_malformed_row_ends_alone(app: Application) -> None:
    @DBOS.workflow(name="known")
    def known() -> str:
        return "ran"

    declare(global_concurrency=1)
    enqueue("malformed", "known", authenticated_roles="{no list")
    enqueue("sound", "known")

    assert result("sound") == "ran"
    with pytest.raises(DBOSException, match="authenticated_roles"):
        result("malformed")


def test_a_queue_is_declared_once(shop: Application) -> None:
    declare()

    with pytest.raises(DBOSException, match="has already been declared"):
        declare()
