"""Transactions of a datasource outside workflow code: nothing is recorded."""

from __future__ import annotations

from typing import Any

import msgspec

from dbos.engine.context import Scope, StepScope, entered
from dbos.engine.io import Call
from dbos.transactions.attempt import Attempt
from dbos.transactions.drivers import Driver
from dbos.transactions.faults import Passing, without_values
from dbos.transactions.transactor import FIRST_WAIT_S, GROWTH, LONGEST_WAIT_S


async def run_plain(driver: Driver, isolation: str, call: Call, scope: Scope) -> Any:
    """Run the body until it commits or raises; a commit in doubt is an error, not a second run.

    `scope` is where it was called.
    """
    __tracebackhide__ = True
    pause_s = FIRST_WAIT_S
    while True:
        try:
            async with driver.attempt(isolation) as opened:
                with entered(plain_scope(scope, opened)):
                    value = await driver.call(call)
                await driver.do(opened.settle)
                await driver.do(opened.commit)
                return value
        except Passing as passing:
            if passing.in_doubt:
                # Nothing was recorded that would tell whether the effects are there.
                raise without_values(passing.fault) from None
        except Exception as error:
            without_values(error)
            raise
        await driver.sleep(pause_s)
        pause_s = min(pause_s * GROWTH, LONGEST_WAIT_S)


def plain_scope(scope: Scope, opened: Attempt) -> Scope:
    """The scope around a body that no run records."""
    step = StepScope(0 if scope.step is None else scope.step.step_id, "transaction")
    step.transaction = opened
    return msgspec.structs.replace(scope, step=step)
