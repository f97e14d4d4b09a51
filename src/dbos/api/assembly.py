"""The composition root: builds an engine from its settings, launches it and takes it down again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from dbos.api.ground import Ground, serializer_of
from dbos.api.transactors import prepare_application_database, transactor_for
from dbos.clock import HostIdentity, new_id, new_token
from dbos.config import Settings
from dbos.engine.engine import Engine, Identity, Runtime
from dbos.engine.execution import Execution, execute, forgo, hand_back
from dbos.engine.io import Closed, Io
from dbos.engine.registry import Registry
from dbos.errors import DBOSException
from dbos.models import Health, ServiceHealth
from dbos.runtime.aio import AsyncIo, settle_all
from dbos.runtime.blocking import BlockingIo
from dbos.runtime.committer import Committer
from dbos.runtime.drive import drive, drive_parking
from dbos.runtime.loops import LoopHouse
from dbos.runtime.service import Service
from dbos.runtime.threads import WorkerThreads
from dbos.serialization.codec import Codec
from dbos.services.claimants import capabilities
from dbos.services.deadlines import Deadlines
from dbos.services.dispatcher import Dispatcher
from dbos.services.failover import BATCH as TAKEOVER_BATCH
from dbos.services.failover import Failover
from dbos.services.leases import LeaseKeeper
from dbos.services.listener import ListenerService
from dbos.services.lookout import Lookout
from dbos.services.orphans import Orphans
from dbos.services.scheduler import Scheduler
from dbos.services.strandings import Strandings
from dbos.storage import executors, versions
from dbos.storage.protocol import Topic
from dbos.storage.recovery import TakeOver
from dbos.storage.rows import ExecutorRow
from dbos.storage.versions import VersionRegistration
from dbos.telemetry import log
from dbos.version import PACKAGE_VERSION


class Instance:
    """What the facade holds from construction to `destroy`: settings, and an engine if launched."""

    def __init__(self, settings: Settings, facade: object) -> None:
        self.settings = settings
        self.facade = facade
        self.engine: LaunchedEngine | None = None


class RunLauncher:
    """Gives each background run its thread or its loop."""

    def __init__(self, threads: WorkerThreads, loops: LoopHouse) -> None:
        self._threads = threads
        self._loops = loops

    def start(self, run: Execution, *, on_callers_loop: bool = False) -> None:
        run.engine.enter(run)
        if not run.call.is_async:
            self._threads.submit(_job(run))
        elif on_callers_loop:
            self._loops.spawn_here(_background(run.engine.aio, run), lambda: _make_sure(run))
        else:
            self._spawn(run)

    def start_all(
        self, runs: Sequence[Execution], group: str
    ) -> list[tuple[Execution, BaseException]]:
        refused: list[tuple[Execution, BaseException]] = []
        blocking = [run for run in runs if not run.call.is_async]
        for run in runs:
            run.engine.enter(run)
        try:
            # Together, so that threads which begin do not hold up the start of the others.
            self._threads.submit_all([_job(run) for run in blocking], group)
        except BaseException as error:
            refused += [(run, error) for run in blocking]
        for run in runs:
            try:
                if run.call.is_async:
                    self._spawn(run)
            except BaseException as error:
                refused.append((run, error))
        return refused

    def _spawn(self, run: Execution) -> None:
        self._loops.spawn(lambda: _background(run.engine.aio, run), lambda: _make_sure(run))


def _job(run: Execution) -> Callable[[], None]:
    """What a thread does for a run of a sync function."""
    return lambda: drive_parking(_background(run.engine.blocking, run))


def _make_sure(run: Execution) -> None:
    """Give a run back whose task ended before its first turn."""
    if not run.is_over:
        forgo(run.engine.aio, run)


async def _background(rt: Runtime, run: Execution) -> None:
    """A background run. Its outcome is in the database; what else goes wrong is reported here."""
    try:
        await execute(rt, run)
    except Closed:
        return
    except Exception as error:
        log.background_run_failed(run.workflow_id, error)
        hand_back(rt, run)


def _unchanged(io: Io) -> Io:
    return io


class LaunchedEngine:
    """An engine and everything that runs for it.

    `through` may put a layer between the engine and each of its drivers: that is where crashes are
    explored (see `dbos.testing`).
    """

    def __init__(
        self, settings: Settings, registry: Registry, through: Callable[[Io], Io] = _unchanged
    ) -> None:
        self.settings = settings
        self._registry = registry
        self._host = HostIdentity.current()
        ground = Ground(settings)
        self._database, self._hub, self._reader = ground.database, ground.hub, ground.reader
        self._notifier, self._committer = ground.notifier, ground.committer
        self._loops = LoopHouse()
        self._threads = WorkerThreads(settings.max_executor_threads, self._thread_freed)
        self._lease_committer = Committer(
            self._database, ground.publish, settle_all, (self._database.lanes,)
        )
        self._lease = LeaseKeeper(
            self._lease_committer, self._hub, self._executor_row, self._database.refresh_clock
        )
        self._transactor = transactor_for(settings, self._database)
        self.engine: Engine = Engine(
            settings=settings,
            identity=Identity(
                new_id(), settings.executor_id, application_version(settings, registry)
            ),
            registry=registry,
            codec=Codec(serializer_of(settings)),
            hub=self._hub,
            lease=self._lease,
            launcher=RunLauncher(self._threads, self._loops),
            new_id=new_id,
            new_token=new_token,
            transactor=self._transactor,
            blocking_io=through(
                BlockingIo(self._reader, self._committer, self._loops, self._threads)
            ),
            async_io=through(AsyncIo(self._reader, self._committer, self._threads)),
        )
        self._failover = Failover(self._committer, self._reader, self._host, self._take_over)
        self._dispatcher = Dispatcher(
            self.engine, self._committer, self._reader, self._hub, self._threads
        )
        self._lookout = Lookout(self.engine, self._reader, self._hub, settings.notification_poll_s)
        self._deadlines = Deadlines(self.engine, self._committer, self._reader, self._hub)
        self._scheduler = Scheduler(self.engine, self._committer, self._reader, self._hub)
        self._orphans = Orphans(self.engine, self._reader)
        self._strandings = Strandings(self.engine, self._reader)
        self._listener = ListenerService(self._database, self._hub)
        self._started: list[Service] = []
        self.engine.check_up = self._check_up

    def launch(self) -> None:
        """Prepare the database, take the lease, start the services; undone if it fails."""
        try:
            self._prepare_database()
            self._loops.adopt_running_loop()
            self._committer.start()
            self._register_version()
            self._lease.renew()
            self._start(self._lease)
            self._failover.recover_all()
            if self._notifier is not None:
                self._start(self._notifier)
            if self._database.can_listen:
                self._start(self._listener)
            self._start(self._lookout)
            self._start(self._deadlines)
            self._start(self._dispatcher)
            self._start(self._scheduler)
            self._start(self._orphans)
            self._start(self._strandings)
            if self.settings.failover_enabled:
                self._hub.attach(executors.EXECUTORS, self._failover.bell)
                self._start(self._failover)
        except BaseException:
            self.close(0)
            raise

    def adopt_running_loop(self) -> None:
        """Make the loop that runs in this thread the main loop."""
        self._loops.adopt_running_loop()

    def close(self, wait_s: float) -> None:
        """Stop claiming, wait for background runs, give everything back."""
        give_up_at = time.monotonic() + wait_s
        # A service that waits for a database that is away does so no longer than the runs may.
        patience = threading.Timer(max(0.0, wait_s), self._hurry)
        patience.name, patience.daemon = "dbos-patience", True
        if wait_s > 0:
            patience.start()
        else:
            self._hurry()
        self._scheduler.stop()
        self._dispatcher.stop()
        self._failover.stop()
        self._await_background_runs(give_up_at)
        self._hurry()
        patience.cancel()
        if patience.is_alive():
            patience.join()
        self._stop_runs()
        for service in reversed(self._started):
            service.stop()
        if self._started:
            with suppress(DBOSException):
                self._lease.release()
            if self._notifier is not None:
                # It has stopped; this sends what the release itself has to tell.
                self._notifier.stop()
        self._close_connections()

    def _hurry(self) -> None:
        """An outage is not waited out by an engine that is going."""
        self._committer.hurry()
        self._lease_committer.hurry()
        self._reader.hurry()

    def abandon(self) -> None:
        """Stop as a killed process does: keep the lease, and record nothing more."""
        self.suspend()
        self._stop_runs()
        self._close_connections()

    def suspend(self) -> None:
        """Stop claiming, taking over and renewing the lease, as a paused process does."""
        for service in reversed(self._started):
            service.stop()

    def look_around(self) -> None:
        """Notice at once what changed without a bell, as a resumed process does within a second."""
        self._lookout.tick()

    def _stop_runs(self) -> None:
        for run in list(self.engine.running.values()):
            run.stop = "lost"
        self._hub.publish_all()
        self._threads.stop()
        self._loops.stop()

    def _close_connections(self) -> None:
        self._committer.stop()
        self._lease_committer.stop()
        self._reader.stop()
        self._hub.publish_all()
        if self._transactor is not None:
            self._transactor.close()
        self._database.close()

    def _start(self, service: Service) -> None:
        self._started.append(service)
        service.start()

    def _prepare_database(self) -> None:
        if self.settings.run_migrations:
            self._database.migrate(goes_on=True)
        else:
            self._database.verify(goes_on=True)
        prepare_application_database(self.settings)

    def _register_version(self) -> None:
        name, identity = self.settings.name, self.engine.identity
        registration = VersionRegistration(new_id(), identity.application_version, name)
        owner = self._committer.run(versions.register, registration, "")
        if owner != name:
            raise DBOSException(
                f"Application version {identity.application_version} is already registered by "
                f"application {owner}: give this application a version of its own."
            )
        latest = self._reader.run(versions.latest, name)
        identity.is_latest_version = latest == identity.application_version
        if not identity.is_latest_version:
            log.not_the_latest_version(identity.application_version, latest)

    def _await_background_runs(self, give_up_at: float) -> None:
        while (left_s := give_up_at - time.monotonic()) > 0:
            background = [run for run in list(self.engine.running.values()) if run.is_background]
            if not background:
                return
            with self._hub.watch(Topic("done", background[0].workflow_id)) as bell:
                if not background[0].is_over:
                    drive(self.engine.blocking.io.wait(bell, left_s))

    def _check_up(self) -> Health:
        now_ms, now_s = self._reader.now_ms(), time.monotonic()
        services = tuple(
            ServiceHealth(
                service.name,
                service.is_running,
                None
                if service.ticked_at is None
                else now_ms - round((now_s - service.ticked_at) * 1000),
                service.failures,
                service.restarts,
            )
            for service in self._started
        )
        return Health(self._reader.is_reachable(), self._lease.is_trusted(), services)

    def _executor_row(self) -> ExecutorRow:
        settings, identity = self.settings, self.engine.identity
        return ExecutorRow(
            incarnation_id=identity.incarnation_id,
            executor_id=identity.executor_id,
            application_name=settings.name,
            application_version=identity.application_version,
            version_policy=settings.version_policy,
            host=self._host.host,
            pid=self._host.pid,
            process_started=self._host.process_started,
            lease_ms=round(settings.lease_s * 1000),
            capabilities=capabilities(self.engine, self._dispatcher.queues),
        )

    def _thread_freed(self) -> None:
        self._dispatcher.thread_freed()

    def _take_over(self) -> TakeOver:
        return TakeOver(self.settings.name, new_token(), TAKEOVER_BATCH)


def application_version(settings: Settings, registry: Registry) -> str:
    """The version of this build (contract, core 1.5)."""
    if settings.explicit_version:
        return settings.explicit_version
    computed = registry.computed_version(settings.name, PACKAGE_VERSION)
    if computed is None:
        log.source_not_readable()
        return f"DEFAULT_VERSION-{settings.name}"
    return computed
