"""The effects of one process in their order, and the moment at which it dies or freezes.

Theory of operation. Every effect asks `begin` before it happens and `end` after it. Each gets the
next number, whichever thread it comes from. At the planned number the process dies: from then on
`begin` and `end` raise `Crash` in every thread, and who waits is woken to meet it. Or it freezes:
`begin` and `end` block every thread until it is thawed. Counting and the tables below rely on
single operations of the interpreter that no other thread can divide.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dbos.engine.io import Signal
from dbos.testing.report import Effect, Moment

QUIET_S = 0.01
"""A process without a new effect for this long has come to rest, unless one is under way."""


class Crash(BaseException):
    """The simulated death of the process. Nothing may catch it and go on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The effect at which a process is interrupted, and how."""

    number: int
    moment: Moment


class Timeline:
    """The effects of one process."""

    def __init__(self, plan: Plan | None = None, *, held: bool = False) -> None:
        self.plan = plan
        self.log: dict[int, Effect] = {}
        self.struck: threading.Event = threading.Event()
        """Set when the planned interruption has happened."""
        self.is_dead: bool = False
        self._numbers = itertools.count(1)
        self._open = threading.Event()
        if not held:
            self._open.set()
        self._under_way: dict[int, Effect] = {}
        self._waiting: dict[int, Signal] = {}
        self._on_death: list[Callable[[], None]] = []

    def begin(self, kind: str, name: str, workflow_id: str | None, step_id: int | None) -> Effect:
        """An effect is about to happen."""
        self.pass_gate()
        effect = Effect(next(self._numbers), kind, name, workflow_id, step_id)
        self.log[effect.number] = effect
        if self._is_planned(effect, "before"):
            self._strike_dead()
        elif self._is_planned(effect, "frozen"):
            self.freeze()
            self.struck.set()
        self.pass_gate()
        self._under_way[effect.number] = effect
        return effect

    def end(self, effect: Effect) -> None:
        """An effect has happened; its caller does not know yet."""
        self._under_way.pop(effect.number, None)
        if self._is_planned(effect, "after"):
            self._strike_dead()
        self.pass_gate()

    def give_up(self, effect: Effect) -> None:
        """An effect was broken off."""
        self._under_way.pop(effect.number, None)

    def pass_gate(self) -> None:
        """Go on only while the process runs."""
        if self.is_dead:
            raise Crash
        if not self._open.is_set():
            self._open.wait()
            if self.is_dead:
                raise Crash

    def freeze(self) -> None:
        """Block every thread at its next effect."""
        self._open.clear()

    def thaw(self) -> None:
        """Let all threads go on."""
        self._open.set()

    def die(self) -> None:
        """Raise `Crash` in every thread at its next effect, and wake those that wait."""
        self.is_dead = True
        self._open.set()
        for announce in list(self._on_death):
            announce()
        self.nudge()

    def on_death(self, announce: Callable[[], None]) -> None:
        """Have something called when the process dies, or now if it is dead."""
        self._on_death.append(announce)
        if self.is_dead:
            announce()

    def waits_for(self, effect: Effect, signal: Signal) -> None:
        """Remember whom to wake; `end` or `give_up` must follow."""
        self._waiting[effect.number] = signal
        if self.is_dead:
            signal.ring()

    def waits_no_more(self, effect: Effect) -> None:
        self._waiting.pop(effect.number, None)

    def nudge(self) -> None:
        """Wake all who wait, so that they look again."""
        for signal in list(self._waiting.values()):
            signal.ring()

    def come_to_rest(self, limit_s: float) -> None:
        """Wait until nothing happens any more but waiting."""
        give_up_at = time.monotonic() + limit_s
        seen, since = -1, time.monotonic()
        while time.monotonic() < give_up_at:
            busy = any(effect.kind not in ("call", "wait") for effect in self._effects_under_way())
            if busy or len(self.log) != seen:
                seen, since = len(self.log), time.monotonic()
            elif time.monotonic() - since >= QUIET_S:
                return
            time.sleep(0.001)

    def _strike_dead(self) -> None:
        # Said first: once dead, the scenario may end before another thread looks.
        self.struck.set()
        self.die()

    def _effects_under_way(self) -> list[Effect]:
        return list(self._under_way.values())

    def _is_planned(self, effect: Effect, moment: Moment) -> bool:
        plan = self.plan
        return plan is not None and plan.number == effect.number and plan.moment == moment
