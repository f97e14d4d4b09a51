"""The engine of a client: it reads, writes and waits, but runs nothing and knows no function."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from dbos.api.ground import Ground, serializer_of
from dbos.api.transactors import transactor_for
from dbos.clock import new_id, new_token
from dbos.config import Settings
from dbos.engine.engine import Engine, Identity, Runtime
from dbos.engine.execution import Execution
from dbos.engine.io import Call, ClientClosed, Io
from dbos.engine.registry import Registry
from dbos.errors import DBOSDatabaseError
from dbos.runtime.aio import AsyncIo
from dbos.runtime.blocking import BlockingIo
from dbos.runtime.drive import drive
from dbos.runtime.loops import LoopHouse, running_loop
from dbos.runtime.opening import Opening
from dbos.runtime.service import Service
from dbos.runtime.threads import WorkerThreads
from dbos.serialization.codec import Codec
from dbos.services.listener import ListenerService
from dbos.services.lookout import Lookout
from dbos.storage import executors
from dbos.telemetry import log

R = TypeVar("R")
Operation = Callable[[Runtime], Coroutine[Any, Any, R]]


class _NoLease:
    """A client claims nothing."""

    term = 0

    def is_trusted(self) -> bool:
        return True

    async def regain(self, io: Io) -> None:
        return None


class _NoLauncher:
    """A client runs nothing."""

    def start(self, run: Execution, *, on_callers_loop: bool = False) -> None:
        raise AssertionError("a client starts no run")

    def start_all(
        self, runs: Sequence[Execution], group: str
    ) -> list[tuple[Execution, BaseException]]:
        raise AssertionError("a client starts no run")


class OutsideCaller:
    """Who calls operations from outside of any application, through an engine of its own.

    The database is checked once, at construction or before the first operation.
    """

    def __init__(
        self, settings: Settings, *, listens: bool, is_patient: bool = True, lazy: bool = False
    ) -> None:
        self._ground = Ground(settings, is_patient=is_patient, closed=ClientClosed)
        self._threads = WorkerThreads(settings.max_executor_threads)
        self._loops = LoopHouse()
        reader, committer = self._ground.reader, self._ground.committer
        self._engine = Engine(
            settings=settings,
            identity=Identity(new_id(), settings.executor_id, ""),
            registry=Registry(),
            codec=Codec(serializer_of(settings)),
            hub=self._ground.hub,
            lease=_NoLease(),
            launcher=_NoLauncher(),
            new_id=new_id,
            new_token=new_token,
            blocking_io=BlockingIo(reader, committer, self._loops, self._threads),
            async_io=AsyncIo(reader, committer, self._threads),
            transactor=transactor_for(settings, self._ground.database),
        )
        self._listens = listens or settings.system_database.kind == "sqlite"
        self._opening = Opening()
        self._services: list[Service] = []
        if not lazy:
            try:
                self._open()
            except BaseException:
                self.close()
                raise

    def now(self, name: str, operation: Operation[R]) -> R:
        """Run an operation, blocking; `name` is what the user called."""
        __tracebackhide__ = True
        if running_loop() is not None:
            log.blocking_under_a_loop(f"DBOSClient.{name}", f"DBOSClient.{name}_async")
        return drive(self._opened(self._engine.blocking, operation))

    def later(self, operation: Operation[R]) -> Coroutine[Any, Any, R]:
        """Run an operation once awaited."""
        return self._opened(self._engine.aio, operation)

    def close(self) -> None:
        """End all waits, commit what was handed over, close what was opened. Twice is fine."""
        if not self._opening.close():
            return
        self._ground.committer.hurry()
        self._ground.reader.hurry()
        for service in reversed(self._services):
            service.stop()
        self._ground.committer.stop()
        self._ground.reader.stop()
        self._ground.hub.publish_all()
        self._threads.stop()
        self._loops.stop()
        self._ground.database.close()

    async def _opened(self, rt: Runtime, operation: Operation[R]) -> R:
        __tracebackhide__ = True
        self._refuse_if_closed()
        if not self._opening.is_open:
            await rt.io.call(Call(self._open_when_reachable, (), {}, is_async=False))
        return await operation(rt)

    def _refuse_if_closed(self) -> None:
        if self._opening.is_closed:
            raise ClientClosed

    def _open_when_reachable(self) -> None:
        """As the first operation: wait for the database, unless the client has no patience."""
        if self._engine.settings.system_database.kind == "postgres":
            # A database that is missing, or refuses us, is told of in better words by the check.
            with suppress(DBOSDatabaseError):
                self._ground.reader.run(executors.ping)
        self._open()

    def _open(self) -> None:
        self._opening.open(self._check_and_start)

    def _check_and_start(self) -> None:
        ground, hub = self._ground, self._ground.hub
        ground.database.verify()
        ground.committer.start()
        if ground.notifier is not None:
            self._start(ground.notifier)
        if self._listens:
            self._start(ListenerService(ground.database, hub))
        poll_s = self._engine.settings.notification_poll_s
        self._start(Lookout(self._engine, ground.reader, hub, poll_s))

    def _start(self, service: Service) -> None:
        self._services.append(service)
        service.start()
