"""Transactions of workflow code: effects and outcome in one commit, retried until it is known.

Theory of operation. On the system database the body and the record of its step share one
connection and one commit, under the run's claim. On another database the outcome is committed
there, beside the effects, and copied to the history afterwards; whoever runs the step looks there
first. A fault that may pass rolls everything back and runs the whole body again. If the fault came
with the commit, the record is looked for before anything is run again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.engine import Engine

from dbos.engine.context import NO_OPTIONS, Scope, Session, StepScope, entered
from dbos.engine.engine import Runtime
from dbos.engine.execution import Execution
from dbos.engine.io import Closed
from dbos.engine.outcome import Failure, Outcome, Success
from dbos.engine.steps import (
    Operation,
    confirm,
    record,
    recorded_step,
    replayed,
    step_row,
)
from dbos.engine.transactions import TransactionCall
from dbos.serialization.codec import Codec, Stored
from dbos.storage import effects, steps, workflows
from dbos.storage.effects import Effect, EffectRow, EffectTable
from dbos.storage.protocol import Database, Tx
from dbos.storage.rows import Recorded
from dbos.telemetry import log
from dbos.transactions.adopted import AdoptedConnection, AdoptedIo
from dbos.transactions.attempt import Attempt, attempt
from dbos.transactions.drivers import Driver
from dbos.transactions.faults import Passing, is_collision, without_values

FIRST_WAIT_S = 0.001
LONGEST_WAIT_S = 2.0
GROWTH = 1.5


class SystemTransactor:
    """Transactions on the system database: the record of the step is part of the commit."""

    def __init__(self, engine: Engine, database: Database, *, is_ours: bool) -> None:
        self._engine = engine
        self._database = database
        self._is_ours = is_ours

    async def run(self, rt: Runtime, placed: TransactionCall) -> Any:
        __tracebackhide__ = True
        return await performed(rt, placed, self._perform)

    def close(self) -> None:
        if self._is_ours:
            self._engine.dispose()

    async def _perform(self, rt: Runtime, placed: TransactionCall, operation: Operation) -> Outcome:
        """Run the body until it commits, or until its error is recorded."""
        wait = Wait()
        while True:
            try:
                failure = await self._attempt(rt, placed, operation)
            except Passing as passing:
                done = await self._looked_up(rt, placed) if passing.in_doubt else None
                if done is not None:
                    return done
                await wait.pass_by(rt, placed.run, passing)
                continue
            if isinstance(failure, Failure):
                return await record(rt, placed.run, operation, failure)
            return failure

    async def _attempt(self, rt: Runtime, placed: TransactionCall, operation: Operation) -> Outcome:
        """One attempt: the committed success, or an error that is yet to be recorded."""
        run = placed.run
        lane = nullcontext() if self._database.lanes > 1 else rt.io.lane(run.workflow_id)
        try:
            with lane, attempt(self._engine, placed.isolation) as opened:
                io = opened.io = AdoptedIo(self._database, opened.connection, rt.io)
                value = await in_the_body(rt, placed, opened)
                opened.settle()
                ensure_owned(run)
                codec = rt.engine.codec
                output = codec.dump(value, "result", codec.native)
                row = step_row(rt, run, operation, output=output, error=None)

                async def commit() -> Recorded:
                    answer = io.apply(steps.record, row)
                    if answer.verdict == "kept":
                        io.ring_within()
                        opened.commit()
                    return answer

                answer = await rt.io.commit_carried(steps.record, row, commit, io.topics)
        except Passing:
            raise
        except Closed:
            raise run.stop_with("lost") from None
        except Exception as error:
            return Failure(without_values(error))
        confirm(run, answer)
        return Success(value)

    async def _looked_up(self, rt: Runtime, placed: TransactionCall) -> Outcome | None:
        """After a commit in doubt: what it recorded, if it did."""
        run = placed.run
        try:
            claims = await rt.io.read(workflows.claims, [run.workflow_id])
            if claims.get(run.workflow_id, (None,))[0] != run.claim:
                raise run.stop_with("lost")
            found = await rt.io.read(steps.find_one, run.workflow_id, placed.step_id)
        except Closed:
            raise run.stop_with("lost") from None
        if found is None:
            return None
        effect = Effect(found.output, found.error, found.serialization)
        return outcome_of(rt.engine.codec, placed, effect)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A database that is not the system database, and how transactions go there."""

    driver: Driver
    table: EffectTable
    adopt: Callable[[AdoptedConnection], Tx]
    codec: Codec | None = None
    """None: that of the application."""


class SeparateTransactor:
    """Transactions on a database of their own: the outcome is kept there until it is copied."""

    def __init__(self, place: Elsewhere, on_close: Callable[[], None]) -> None:
        self._place = place
        self._on_close = on_close

    async def run(self, rt: Runtime, placed: TransactionCall) -> Any:
        __tracebackhide__ = True
        return await performed(rt, placed, self._perform)

    def close(self) -> None:
        self._on_close()

    async def _perform(self, rt: Runtime, placed: TransactionCall, operation: Operation) -> Outcome:
        wait = Wait()
        while True:
            try:
                outcome = await self._kept(rt, placed)
                if outcome is None:
                    outcome = await self._attempt(rt, placed)
            except Passing as passing:
                await wait.pass_by(rt, placed.run, passing)
                continue
            return await record(rt, placed.run, operation, outcome)

    async def _kept(self, rt: Runtime, placed: TransactionCall) -> Outcome | None:
        """What an earlier execution committed, read in a transaction of its own.

        In that of the body the look would collide with every insert beside it (SERIALIZABLE).
        """
        place = self._place
        async with place.driver.attempt("READ COMMITTED", writes=False) as opened:
            tx = place.adopt(AdoptedConnection(opened.connection))
            key = placed.run.workflow_id, placed.step_id
            found = await place.driver.do(effects.find, tx, place.table, *key)
        return None if found is None else outcome_of(self._codec(rt), placed, found)

    async def _attempt(self, rt: Runtime, placed: TransactionCall) -> Outcome:
        place, codec = self._place, self._codec(rt)
        try:
            async with place.driver.attempt(placed.isolation) as opened:
                value = await in_the_body(rt, placed, opened)
                await place.driver.do(opened.settle)
                ensure_owned(placed.run)
                output = codec.dump(value, "result", codec.native)
                row = EffectRow(
                    placed.run.workflow_id, placed.step_id, placed.name, output, codec.native
                )
                tx = place.adopt(AdoptedConnection(opened.connection))

                def keep_and_commit() -> bool:
                    if not effects.insert(tx, place.table, row):
                        return False
                    opened.commit()
                    return True

                is_first = await rt.io.commit_carried(
                    effects.keep, row, lambda: place.driver.do(keep_and_commit)
                )
        except Passing:
            raise
        except Exception as error:
            return Failure(without_values(error))
        if not is_first:
            # Another execution committed meanwhile: ours is rolled back, and theirs counts.
            kept = await self._kept(rt, placed)
            assert kept is not None, "an outcome that was in the way is there"
            return kept
        return Success(value)

    def _codec(self, rt: Runtime) -> Codec:
        return self._place.codec or rt.engine.codec


class Wait:
    """The growing pause between attempts, as short as the application's lock conflicts."""

    def __init__(self) -> None:
        self._next_s = FIRST_WAIT_S
        self._saw_outage = False

    async def pass_by(self, rt: Runtime, run: Execution, passing: Passing) -> None:
        if not is_collision(passing.fault):
            log.transaction_waits(passing.fault)
        pause_s, self._next_s = self._next_s, min(self._next_s * GROWTH, LONGEST_WAIT_S)
        await rt.io.sleep(pause_s)
        await run.ensure_alive(rt)


async def performed(
    rt: Runtime,
    placed: TransactionCall,
    perform: Callable[[Runtime, TransactionCall, Operation], Awaitable[Outcome]],
) -> Any:
    """The recorded outcome of a transaction, or have it performed and recorded."""
    __tracebackhide__ = True
    run = placed.run
    run.in_flight += 1
    try:
        if not run.is_free_to_go:
            await run.ensure_alive(rt)
        known = recorded_step(run, placed.step_id, placed.name)
        if known is not None:
            log.replaying_transaction(placed.name)
            return await replayed(rt, run, known)
        log.running_transaction(placed.name)
        operation = Operation(placed.step_id, placed.name, rt.io.now_ms())
        return (await perform(rt, placed, operation)).resolve()
    finally:
        run.in_flight -= 1


async def in_the_body(rt: Runtime, placed: TransactionCall, opened: Attempt) -> Any:
    """Run the user's function inside the open transaction."""
    __tracebackhide__ = True
    step = StepScope(placed.step_id, "transaction", transaction=opened)
    with entered(Scope(placed.run, step, NO_OPTIONS, Session(placed.caller))):
        return await rt.io.call(placed.call)


def ensure_owned(run: Execution) -> None:
    """Before the commit: what is known to be lost is not to be committed."""
    if run.stop == "lost":
        raise run.stop_signal()


def outcome_of(codec: Codec, placed: TransactionCall, effect: Effect) -> Outcome:
    """A stored outcome, decoded."""
    where = partial(Stored, placed.run.workflow_id, placed.step_id)
    if effect.error is not None:
        return Failure(codec.load_error(effect.error, effect.serialization, where("error")))
    if effect.output is None:
        return Success(None)
    return Success(codec.load(effect.output, effect.serialization, where("output")))
