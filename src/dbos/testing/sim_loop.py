"""One simulated process: its tasks take turns in order, and it can stall or die between two turns.

Theory of operation. A task is a coroutine that yields an `Effect` whenever it waits for the world.
The effect is begun with a `Wake`, which puts the task at the end of the process's queue once it is
called. As in asyncio, the tasks of one process run first come, first served; what differs from
seed to seed is when the world answers, and how long each turn takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from dbos.testing.sim_clock import SimClock


@dataclass(frozen=True, slots=True)
class Effect:
    """Something a task waits for: begun with what wakes the task."""

    begin: Callable[[Wake], None]

    def __await__(self) -> Generator[Effect, Any, Any]:
        return (yield self)


@dataclass(slots=True, eq=False)
class SimTask:
    """A coroutine of a process, its context, and what it came to."""

    coroutine: Coroutine[Effect, Any, Any]
    context: Context
    is_done: bool = False
    value: Any = None
    error: BaseException | None = None
    on_done: list[Callable[[SimTask], None]] = field(
        default_factory=list["Callable[[SimTask], None]"]
    )


@dataclass(slots=True, eq=False)
class Wake:
    """Wakes one task, once: of several answers the first counts."""

    loop: SimLoop
    task: SimTask
    is_used: bool = False

    def __call__(self, value: Any = None) -> None:
        self._use(value, None)

    def fail(self, error: BaseException) -> None:
        self._use(None, error)

    def _use(self, value: Any, error: BaseException | None) -> None:
        if not self.is_used:
            self.is_used = True
            self.loop.make_ready(self.task, value, error)


class SimLoop:
    """The tasks of one process, first come, first served."""

    def __init__(self, clock: SimClock, turn_s: Callable[[], float]) -> None:
        self.is_alive: bool = True
        self._clock = clock
        self._turn_s = turn_s
        self._ready: deque[tuple[SimTask, Any, BaseException | None]] = deque()
        self._tasks: dict[SimTask, None] = {}
        self._has_turn_coming = False
        self._stalled_until_s = 0.0

    def spawn(self, coroutine: Coroutine[Any, Any, Any], context: Context | None = None) -> SimTask:
        """Start a task; it begins when its turn comes."""
        task = SimTask(coroutine, copy_context() if context is None else context)
        self._tasks[task] = None
        self.make_ready(task, None, None)
        return task

    def make_ready(self, task: SimTask, value: Any, error: BaseException | None) -> None:
        if self.is_alive and not task.is_done:
            self._ready.append((task, value, error))
            self._plan_turn()

    def stall(self, seconds: float) -> None:
        """Do nothing for a while, as a stopped process does: the world goes on without it."""
        self._stalled_until_s = self._clock.now_s + seconds

    def kill(self) -> None:
        """End every task where it stands; none runs any further."""
        self.is_alive = False
        self._ready.clear()
        for task in self._tasks:
            if not task.is_done:
                task.is_done = True
                # User code that awaits while it is closed is ended all the same.
                with suppress(Exception):
                    task.context.run(task.coroutine.close)
        self._tasks.clear()

    def _plan_turn(self) -> None:
        if not self._has_turn_coming:
            self._has_turn_coming = True
            self._clock.after(self._turn_s(), self._turn)

    def _turn(self) -> None:
        self._has_turn_coming = False
        if not self.is_alive:
            return
        if self._clock.now_s < self._stalled_until_s:
            self._has_turn_coming = True
            self._clock.after(self._stalled_until_s - self._clock.now_s, self._turn)
            return
        task, value, error = self._ready.popleft()
        if self._ready:
            self._plan_turn()
        self._advance(task, value, error)

    def _advance(self, task: SimTask, value: Any, error: BaseException | None) -> None:
        """Run a task until it waits or ends. Whatever it raises is its outcome."""
        try:
            if error is None:
                effect = task.context.run(task.coroutine.send, value)
            else:
                effect = task.context.run(task.coroutine.throw, error)
        except StopIteration as done:
            task.value = done.value
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            task.error = raised
        else:
            effect.begin(Wake(self, task))
            return
        task.is_done = True
        self._tasks.pop(task, None)
        for tell in task.on_done:
            tell(task)


async def gather(*coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run coroutines as tasks of this process and collect their values, as `asyncio.gather` does.

    The first error is raised at once; the other tasks go on.
    """

    def begin(wake: Wake) -> None:
        tasks = [wake.loop.spawn(coroutine, wake.task.context.copy()) for coroutine in coroutines]

        def tell(task: SimTask) -> None:
            if task.error is not None:
                wake.fail(task.error)
            elif all(one.is_done for one in tasks):
                wake([one.value for one in tasks])

        for task in tasks:
            task.on_done.append(tell)

    return list(await Effect(begin))
