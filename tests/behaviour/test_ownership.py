"""Who owns a run: claims that are handed back, leases that lapse, and rows that went wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import psycopg
import pytest

from dbos import DBOS, SetWorkflowID
from dbos.api.assembly import LaunchedEngine
from dbos.api.ground import Ground
from dbos.api.slot import SLOT
from dbos.config import settings_from
from dbos.error import DBOSNonExistentWorkflowError, DBOSUnexpectedStepError
from dbos.runtime.drive import drive
from dbos.runtime.wakeups import WakeupHub
from dbos.services.leases import REGAINED, LeaseKeeper
from dbos.services.orphans import Orphans
from dbos.storage.open import open_database
from dbos.storage.protocol import Statement, Tx, Write
from dbos.storage.rows import RecordedStep
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Flavour, registered
from tests.support.postgres import wait_until

WITHIN_S = 30.0
OBSTACLE = 2026
WAIT = Statement(f"SELECT pg_advisory_xact_lock_shared({OBSTACLE})")
ELSE = RecordedStep("parent", 2, "something else", None, None, None, None, 2, 0, 0)
SHORT_LEASE = {"failover": {"lease_seconds": 1.0}}


def launched() -> LaunchedEngine:
    assert SLOT.instance is not None
    assert SLOT.instance.engine is not None
    return SLOT.instance.engine


def lease() -> LeaseKeeper:
    return cast("LeaseKeeper", launched().engine.lease)


@contextmanager
def lanes_held_up() -> Generator[None]:
    """Have all writes but those of the lease wait behind one that is stuck.

    On PostgreSQL the connections of both lanes are amid a statement.
    """
    released, stuck = threading.Event(), threading.Semaphore(0)
    io = launched().engine.blocking_io
    is_sqlite = launched().settings.system_database.kind == "sqlite"

    def be_stuck(tx: Tx, args: Sequence[int]) -> list[None]:
        stuck.release()
        if is_sqlite:
            released.wait(WITHIN_S)
        else:
            tx.one(WAIT)
        return [None] * len(args)

    # On SQLite it must not hold the lock of the file, which everybody needs.
    write: Write[int, None] = Write("stuck", be_stuck, single=is_sqlite)

    def hold_up(key: str) -> None:
        drive(cast("Any", io.commit(write, 0, key)))

    obstacle = ExitStack()
    if not is_sqlite:
        conninfo = launched().settings.system_database.conninfo
        outsider = obstacle.enter_context(psycopg.connect(conninfo, autocommit=True))
        outsider.execute(f"SELECT pg_advisory_lock({OBSTACLE})".encode())
    # These two keys are of different lanes.
    threads = [threading.Thread(target=hold_up, args=(key,)) for key in ("a", "d")]
    for thread in threads:
        thread.start()
        assert stuck.acquire(timeout=WITHIN_S)
        if is_sqlite:
            break
    try:
        yield
    finally:
        released.set()
        obstacle.close()
        for thread in threads:
            if thread.is_alive():
                thread.join(WITHIN_S)


def is_handed_back(app: Application, workflow_id: str) -> bool:
    rows = app.rows(
        "SELECT status, not_before_epoch_ms FROM {workflow_status} WHERE workflow_uuid = ?",
        workflow_id,
    )
    return [(status, due is not None) for status, due in rows] == [("PENDING", True)]


@pytest.fixture
def go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


class TestHandedBack:
    """What somebody began and left goes back, for others to run."""

    def test_an_admission_whose_caller_went_away(self, app: Application) -> None:
        ran: list[int] = []

        @DBOS.workflow()
        async def job() -> None:
            ran.append(1)

        async def scenario() -> None:
            with lanes_held_up():
                with SetWorkflowID("job"):
                    task = asyncio.create_task(cast("Any", job()))
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(scenario())
        wait_until(lambda: is_handed_back(app, "job"), WITHIN_S)

        assert ran == []

    def test_a_child_launch_whose_parent_went_away(self, app: Application) -> None:
        ran: list[int] = []
        held = lanes_held_up()

        @DBOS.workflow()
        async def child() -> None:
            ran.append(1)

        @DBOS.workflow()
        async def parent() -> None:
            held.__enter__()
            await child()

        async def scenario() -> None:
            with SetWorkflowID("parent"):
                task = asyncio.create_task(cast("Any", parent()))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            held.__exit__(None, None, None)

        asyncio.run(scenario())
        wait_until(lambda: is_handed_back(app, "parent"), WITHIN_S)
        wait_until(lambda: is_handed_back(app, "parent-1"), WITHIN_S)

        assert ran == []

    def test_a_child_whose_parent_failed_before_its_first_turn(self, app: Application) -> None:
        ran: list[int] = []

        @DBOS.workflow()
        def child() -> None:
            ran.append(1)

        @DBOS.workflow()
        def parent() -> None:
            # The second step id, that of the result, is taken: the history is of other code.
            launched().engine.running["parent"].replay.steps[2] = ELSE
            child()

        with SetWorkflowID("parent"), pytest.raises(DBOSUnexpectedStepError):
            parent()
        wait_until(lambda: is_handed_back(app, "parent-1"), WITHIN_S)

        assert ran == []

    def test_a_background_run_that_was_cancelled_before_its_first_turn(
        self, app: Application
    ) -> None:
        ran: list[int] = []

        @DBOS.workflow()
        async def job() -> None:
            ran.append(1)

        async def scenario() -> None:
            before = asyncio.all_tasks()
            with SetWorkflowID("job"):
                await DBOS.start_workflow_async(job)
            for task in asyncio.all_tasks() - before:
                task.cancel()
            await asyncio.sleep(0)

        asyncio.run(scenario())
        wait_until(lambda: is_handed_back(app, "job"), WITHIN_S)

        assert ran == []
        assert launched().engine.running == {}


class TestOrphans:
    """What this process owns and does not run is not kept from others."""

    def test_a_run_that_could_not_be_handed_back_is_handed_back_later_and_finished(
        self, shop: Application, go: threading.Event
    ) -> None:
        shop.launch(**SHORT_LEASE)
        ran: list[str] = []
        begun = threading.Event()

        @DBOS.workflow()
        def job(name: str) -> str:
            ran.append(name)
            if name == "goes on":
                begun.set()
                go.wait(WITHIN_S)
            return name

        for name in ("left", "goes on"):
            with SetWorkflowID(name):
                DBOS.start_workflow(job, name)
        assert begun.wait(WITHIN_S)
        wait_until(lambda: shop.column("left", "status") == "SUCCESS", WITHIN_S)
        # As if the outcome had been refused, and the handing back as well.
        shop.change(
            "UPDATE {workflow_status} SET status = 'PENDING', output = NULL, completed_at = NULL"
            " WHERE workflow_uuid = 'left'"
        )
        ground = Ground(launched().settings)
        orphans = Orphans(launched().engine, ground.reader)
        orphans.tick()
        after_one_look = is_handed_back(shop, "left")
        orphans.tick()
        wait_until(lambda: shop.column("left", "status") == "SUCCESS", WITHIN_S)
        go.set()
        result = DBOS.get_result("goes on")
        ground.reader.stop()
        ground.database.close()

        assert not after_one_look
        assert result == "goes on"
        assert sorted(ran) == ["goes on", "left", "left"]


class TestLapsedLease:
    """Without a lease nothing begins; with it again, the work goes on where it is still ours."""

    def test_a_run_goes_on_once_the_lease_is_regained(
        self, shop: Application, api: Flavour, go: threading.Event
    ) -> None:
        shop.launch(**SHORT_LEASE)
        begun, ran = threading.Event(), list[str]()

        @api.step()
        async def step() -> str:
            ran.append("step")
            return "done"

        @api.workflow()
        async def job() -> str:
            begun.set()
            await asyncio.to_thread(go.wait, WITHIN_S) if api.is_async else go.wait(WITHIN_S)
            return str(await step())

        with SetWorkflowID("job"):
            handle = DBOS.start_workflow(registered(job))
        assert begun.wait(WITHIN_S)
        launched().suspend()
        wait_until(lambda: not lease().is_trusted(), WITHIN_S)
        go.set()
        ran_without_lease = list(ran)
        lease().renew()

        assert handle.get_result() == "done"
        assert ran_without_lease == []
        assert ran == ["step"]

    def test_a_run_that_was_taken_over_meanwhile_begins_nothing_more(
        self, shop: Application, go: threading.Event
    ) -> None:
        shop.launch(**SHORT_LEASE)
        begun, ended, ran = threading.Event(), threading.Event(), list[str]()

        @DBOS.step()
        def step() -> None:
            ran.append("step")

        @DBOS.workflow()
        def job() -> None:
            begun.set()
            go.wait(WITHIN_S)
            try:
                step()
            finally:
                ended.set()

        with SetWorkflowID("job"):
            DBOS.start_workflow(job)
        assert begun.wait(WITHIN_S)
        launched().suspend()
        wait_until(lambda: not lease().is_trusted(), WITHIN_S)
        shop.change("UPDATE {workflow_status} SET owner_xid = 'another'")
        go.set()
        lease().renew()

        assert ended.wait(WITHIN_S)
        assert ran == []
        assert shop.steps("job") == []

    def test_destroy_does_not_wait_for_a_lease_that_does_not_come_back(
        self, shop: Application, go: threading.Event
    ) -> None:
        shop.launch(**SHORT_LEASE)
        begun, ended = threading.Event(), threading.Event()

        @DBOS.step()
        def step() -> None:
            return None

        @DBOS.workflow()
        def job() -> None:
            begun.set()
            go.wait(WITHIN_S)
            try:
                step()
            finally:
                ended.set()

        with SetWorkflowID("job"):
            DBOS.start_workflow(job)
        assert begun.wait(WITHIN_S)
        launched().suspend()
        wait_until(lambda: not lease().is_trusted(), WITHIN_S)
        go.set()
        waiters = cast("WakeupHub", launched().engine.hub)._bells  # pyright: ignore[reportPrivateUsage]
        wait_until(lambda: REGAINED in waiters, WITHIN_S)
        DBOS.destroy()

        assert ended.wait(WITHIN_S)
        assert shop.column("job", "status") == "PENDING"

    def test_the_lease_is_renewed_while_other_writes_are_stuck(self, shop: Application) -> None:
        shop.launch(**SHORT_LEASE)

        with lanes_held_up():
            shop.change("DELETE FROM {perdure_executors}")
            wait_until(lambda: shop.count("perdure_executors") == 1, WITHIN_S)
            is_trusted = lease().is_trusted()

        assert is_trusted


class TestRelease:
    """Who goes tells the others."""

    def test_peers_hear_that_a_lease_was_given_back(self, app: Application) -> None:
        second = LaunchedEngine(settings_from(app.config()), SLOT.registry)
        second.launch()
        database = open_database(settings_from(app.config()).system_database)
        listener = database.listen()
        listener.wait(0.0)
        second.close(0)
        # An executor that ended is told as: anything may have changed.
        wait_until(lambda: listener.wait(0.1) is None, WITHIN_S)
        listener.close()
        database.close()

    def test_the_end_of_a_loop_is_no_outcome(self, app: Application, api: Flavour) -> None:
        begun = threading.Event()

        @DBOS.step(name="endless")
        async def endless() -> None:
            begun.set()
            await asyncio.sleep(3600)

        @DBOS.workflow(name="job")
        async def job() -> None:
            await endless()

        @DBOS.workflow(name="sync-job")
        def sync_job() -> None:
            cast("Any", DBOS.run_step)(None, endless)

        with SetWorkflowID("job"):
            DBOS.start_workflow(job if api.is_async else sync_job)
        assert begun.wait(WITHIN_S)
        DBOS.destroy()

        assert app.column("job", "status") == "PENDING"
        assert app.steps("job") == []


class TestBrokenRows:
    """A row that went wrong concerns its own run."""

    def test_of_a_batch_only_the_poisoned_row_ends(self, app: Application) -> None:
        is_over = threading.Event()

        @DBOS.workflow()
        def job() -> str:
            if not is_over.is_set():
                is_over.wait(WITHIN_S)
                raise PowerCut
            return "done"

        for name in ("one", "poisoned", "two"):
            with SetWorkflowID(name):
                DBOS.start_workflow(job)
        app.kill()
        is_over.set()
        app.change(
            'UPDATE {workflow_status} SET authenticated_roles = \'{"no": "list"}\''
            " WHERE workflow_uuid = 'poisoned'"
        )
        app.launch()

        assert DBOS.get_result("one") == DBOS.get_result("two") == "done"
        wait_until(lambda: app.column("poisoned", "status") == "ERROR", WITHIN_S)

    def test_the_caller_of_a_run_that_was_deleted_is_told_so(
        self, app: Application, api: Flavour
    ) -> None:
        @api.workflow()
        async def job() -> None:
            app.change("DELETE FROM {workflow_status}")

        async def call() -> None:
            with SetWorkflowID("job"):
                await job()

        with pytest.raises(DBOSNonExistentWorkflowError):
            api.run(call)
