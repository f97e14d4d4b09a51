"""Seeded bugs: each takes one protection away, and the simulation must notice."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from types import ModuleType
from typing import Any

import msgspec

from dbos.engine import starts, ticks
from dbos.engine import steps as step_path
from dbos.engine.replay import Replay
from dbos.ops import sleep
from dbos.storage import (
    claims,
    debouncing,
    events,
    receiving,
    recovery,
    returns,
    steps,
    streams,
    workflows,
)
from dbos.storage.protocol import Statement, Tx
from dbos.storage.rows import FinishRow, Recorded, StepRow
from dbos.storage.streams import StreamWriting, Tail
from dbos.testing import sim_io, simulation
from dbos.testing.sim_io import SimTicket

_judged = events.judged
_CLAIMS = ("CLAIM", "CLAIM_CHOSEN")
Change = tuple[ModuleType | type, str, Any]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: what is put in the place of what."""

    name: str
    changes: Callable[[], list[Change]]
    focus: str | None = None
    """The workflow that shows it soonest."""

    @contextmanager
    def at_large(self) -> Generator[None]:
        """The bug is in the engine for the length of a block."""
        changes = self.changes()
        former = [(place, name, getattr(place, name)) for place, name, _ in changes]
        for place, name, value in changes:
            setattr(place, name, value)
        try:
            yield
        finally:
            for place, name, value in former:
                setattr(place, name, value)


def _without(statement: Statement, text: str, instead: str = "") -> Statement:
    assert text in statement.text, "the statement has changed: adapt the mutant"
    return Statement(statement.text.replace(text, instead), statement.columns)


def _unfenced_records() -> list[Change]:
    fence = " AND owned.owner_xid = r.claim"
    return [(steps, "RECORD", _without(steps.RECORD, fence))]


def _unfenced_outcomes() -> list[Change]:
    fence = "AND {workflow_status}.owner_xid = r.claim"
    return [(workflows, "FINISH", _without(workflows.FINISH, fence))]


def _fresh_tokens_on_retry() -> list[Change]:
    def again(batch: list[SimTicket]) -> list[SimTicket]:
        for ticket in batch:
            if isinstance(ticket.arg, StepRow):
                ticket.arg = msgspec.structs.replace(ticket.arg, claim="fresh")
            elif isinstance(ticket.arg, FinishRow):
                ticket.arg = replace(ticket.arg, claim="fresh")
        return batch

    return [(sim_io, "handed_over_again", again)]


def _forgetful_replay() -> list[Change]:
    return [(module, "recorded_step", _nothing) for module in (step_path, starts, sleep)]


def _stale_claims() -> list[Change]:
    return [
        (recovery, "TAKE_OVER", _without(recovery.TAKE_OVER, "owner_xid = :claim,")),
        (claims, "CLAIM", _without(claims.CLAIM, "owner_xid = :claim,")),
    ]


def _lost_claims() -> list[Change]:
    return [(claims, "claim", replace(claims.claim, again=None))]


def _blind_trust() -> list[Change]:
    def always(_: object) -> bool:
        return True

    return [(simulation.SimLease, "is_trusted", always)]


def _restarted_sleep() -> list[Change]:
    return [(sleep, "recorded_step", _nothing)]


def _unordered_sleeps() -> list[Change]:
    async def wake(*_: object, **__: object) -> None:
        return None

    return [(Replay, "wake", wake)]


def _leaked_slots() -> list[Change]:
    gone = "AND {workflow_status}.owner_xid = r.claim AND {workflow_status}.status = 'PENDING'"
    return [(returns, "GIVE_BACK", _without(returns.GIVE_BACK, gone, "AND FALSE"))]


def _uncounted_attempts() -> list[Change]:
    count = "recovery_attempts = COALESCE(recovery_attempts, 0) + 1,"
    return [(claims, name, _without(getattr(claims, name), count)) for name in _CLAIMS]


def _uncounted_slots() -> list[Change]:
    return [(claims, "is_limited", _never)]


def _forgotten_arguments() -> list[Change]:
    inputs = "inputs = :inputs, serialization = :serialization,"
    return [(debouncing, "PUSH", _without(debouncing.PUSH, inputs))]


def _ticks_of_each_process() -> list[Change]:
    def run_id(name: str, tick: datetime) -> str:
        return f"sched-{name}-{tick.isoformat()}-{next(numbers)}"

    numbers = count()
    return [(ticks, "run_id", run_id)]


def _uneaten_messages() -> list[Change]:
    eaten = "consumed = TRUE,"
    return [(receiving, "CONSUME", _without(receiving.CONSUME, eaten, "consumed = FALSE,"))]


def _unfenced_events() -> list[Change]:
    return [(events, "judged", _kept_in_any_case)]


def _unfenced_streams() -> list[Change]:
    def keyed_again(writings: Iterable[StreamWriting], tails: dict[Any, Tail]) -> Any:
        # Each entry as if its operation had written none.
        blank = {key: Tail(tail.next_offset, {}) for key, tail in tails.items()}
        return placed(writings, blank)

    placed = getattr(streams, "_placed")  # noqa: B009
    return [(streams, "_placed", keyed_again), (streams, "judged", _kept_in_any_case)]


def _kept_in_any_case(tx: Tx, writes: Sequence[Any]) -> list[Recorded]:
    return [
        Recorded("kept", "PENDING") if write.record is not None else verdict
        for write, verdict in zip(writes, _judged(tx, writes), strict=True)
    ]


def _never(_: object) -> bool:
    return False


def _nothing(*_: object) -> None:
    return None


MUTANTS = (
    Mutant("records without a fence", _unfenced_records),
    Mutant("outcomes without a fence", _unfenced_outcomes, "sim.pondering"),
    Mutant("a retry under a fresh token", _fresh_tokens_on_retry),
    Mutant("a replay that ignores records", _forgetful_replay),
    Mutant("a takeover without a fresh claim", _stale_claims),
    Mutant("a claim that is not found again", _lost_claims, "sim.pondering"),
    Mutant("a lease that is always trusted", _blind_trust),
    Mutant("a sleep that forgets its deadline", _restarted_sleep),
    Mutant("sleeps that end in any order", _unordered_sleeps, "sim.parallel"),
    Mutant("a slot leaked on return", _leaked_slots),
    Mutant("a takeover without an attempt count", _uncounted_attempts),
    Mutant("a claim that counts no slots", _uncounted_slots),
    Mutant("a debouncer that keeps the first arguments", _forgotten_arguments, "sim.sum"),
    Mutant("a message that is not consumed", _uneaten_messages, "sim.talk"),
    Mutant("events without a fence", _unfenced_events, "sim.talk"),
    Mutant("streams without a fence", _unfenced_streams, "sim.talk"),
    Mutant("a tick for each process", _ticks_of_each_process, "sim.sum"),
)
