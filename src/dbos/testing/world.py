"""One simulated process: an engine, the thread that plays the scenario in it, and how it dies."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any

from dbos.api.assembly import LaunchedEngine
from dbos.api.slot import SLOT
from dbos.config import Settings
from dbos.engine.io import Io
from dbos.testing.databases import POLL_S, WorkDatabase
from dbos.testing.ledger import Ledger, StepKey
from dbos.testing.report import Ending
from dbos.testing.seam import WatchedIo
from dbos.testing.timeline import Crash, Plan, Timeline

Scenario = Callable[[], Any] | Callable[[], Awaitable[Any]]

IDLE_LIMIT_S = 20.0
"""How long work in the background may go on after the scenario has returned."""
END_LIMIT_S = 30.0
"""How long a scenario may take in all."""


class World:
    """One process of the application under test."""

    def __init__(
        self,
        database: WorkDatabase,
        plan: Plan | None = None,
        *,
        held: bool = False,
        recorded: Iterable[StepKey] = (),
    ) -> None:
        self._database = database
        self.timeline: Timeline = Timeline(plan, held=held)
        self.ledger: Ledger = Ledger(recorded=set(recorded))
        self.ending: Ending | None = None
        """How the scenario ended; None if it did not."""
        self.engine: LaunchedEngine = LaunchedEngine(
            database.settings, SLOT.registry, through=self._watched
        )
        self.engine.launch()
        self._thread: threading.Thread | None = None

    def play(self, scenario: Scenario) -> None:
        """Begin the scenario on a thread of its own."""
        self._thread = threading.Thread(
            target=self._play, args=(scenario,), name="crash-scenario", daemon=True
        )
        self._thread.start()

    def run_until_struck(self) -> bool:
        """Wait for the planned interruption; False if the scenario and all its work ended first."""
        give_up_at = time.monotonic() + END_LIMIT_S
        while not self.timeline.struck.wait(POLL_S):
            if not self._is_playing() or time.monotonic() > give_up_at:
                return self.timeline.struck.is_set()
        return True

    def run_to_end(self, *, nudged: bool = False, beside: World | None = None) -> None:
        """Wait until the scenario and all its work ended.

        Nudged: nobody else wakes its waiters. Beside: a resumed process that goes on as well.
        """
        give_up_at = time.monotonic() + END_LIMIT_S
        while self._is_playing() and time.monotonic() < give_up_at:
            if nudged:
                self.timeline.nudge()
            if beside is not None:
                beside.engine.look_around()
            assert self._thread is not None
            self._thread.join(POLL_S)

    def catch_up(self) -> None:
        """After a thaw, wait until the scenario and all its work ended."""
        give_up_at = time.monotonic() + END_LIMIT_S
        while self._is_playing() and time.monotonic() < give_up_at:
            self.engine.look_around()
            self.timeline.nudge()
            assert self._thread is not None
            self._thread.join(POLL_S)

    def kill(self) -> None:
        """Die: no thread does anything more, and the successor sees a dead process."""
        self.timeline.die()
        self.run_to_end(nudged=True)
        self.engine.abandon()
        self._database.bury(self.incarnation_id)

    def pause(self) -> None:
        """Leave the frozen process to be replaced."""
        self.engine.suspend()
        self._database.bury(self.incarnation_id)

    def close(self) -> None:
        """Shut the process down in order, unless it hangs."""
        if self._is_playing():
            self.timeline.die()
        self.engine.close(0)

    @property
    def incarnation_id(self) -> str:
        return self.engine.engine.identity.incarnation_id

    def _watched(self, io: Io) -> Io:
        return WatchedIo(io, self.timeline, self.ledger)

    def _is_playing(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _play(self, scenario: Scenario) -> None:
        _world.set(self)
        try:
            if inspect.iscoroutinefunction(scenario):
                value = asyncio.run(self._on_a_loop(scenario))
            else:
                value = scenario()
                self._await_idleness()
        except Crash:
            return
        except BaseException as error:
            if not self.timeline.is_dead:
                self._await_idleness()
                self.ending = Ending(error=f"{type(error).__name__}: {error}")
        else:
            self.ending = Ending(value)

    async def _on_a_loop(self, scenario: Callable[[], Awaitable[Any]]) -> Any:
        """The scenario as a task. Its loop lives on while work started on it does."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_ignore)
        died: asyncio.Future[None] = loop.create_future()
        self.timeline.on_death(lambda: _tell(loop, died))
        task = asyncio.ensure_future(scenario())
        await asyncio.wait({task, died}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Crash
        await asyncio.to_thread(self._await_idleness)
        died.cancel()
        return task.result()

    def _await_idleness(self) -> None:
        give_up_at = time.monotonic() + IDLE_LIMIT_S
        while not self._database.is_idle() and time.monotonic() < give_up_at:
            if self.timeline.is_dead:
                raise Crash
            time.sleep(POLL_S)


class Stage:
    """Stands in for the facade's instance: each thread's calls go to the process it belongs to."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.facade: object = None

    @property
    def engine(self) -> LaunchedEngine | None:
        world = _world.get()
        return None if world is None else world.engine


_world: ContextVar[World | None] = ContextVar("dbos_crash_world", default=None)


def _ignore(_: asyncio.AbstractEventLoop, __: dict[str, Any]) -> None:
    """What tasks of a dying process complain about is of no interest."""


def _tell(loop: asyncio.AbstractEventLoop, died: asyncio.Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(_set, died)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
