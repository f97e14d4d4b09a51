"""Transactions of a datasource outside workflow code: nothing is recorded."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from dbos.engine.context import Scope, StepScope, current_scope, entered
from dbos.engine.io import Call
from dbos.transactions.attempt import Attempt, attempt
from dbos.transactions.faults import Passing
from dbos.transactions.transactor import FIRST_WAIT_S, GROWTH, LONGEST_WAIT_S, Elsewhere


def run_plain(place: Elsewhere, isolation: str, call: Call) -> Any:
    """Run the body until it commits or raises; a commit in doubt is an error, not a second run."""
    __tracebackhide__ = True
    pause_s = FIRST_WAIT_S
    while True:
        try:
            with attempt(place.engine, isolation, place.make_session) as opened:
                with entered(plain_scope(opened)):
                    value = call.function(*call.args, **call.kwargs)
                opened.settle()
                opened.commit()
                return value
        except Passing as passing:
            if passing.in_doubt:
                # Nothing was recorded that would tell whether the effects are there.
                raise passing.fault from None
        time.sleep(pause_s)
        pause_s = min(pause_s * GROWTH, LONGEST_WAIT_S)


def plain_scope(opened: Attempt) -> Scope:
    """The scope around a body that no run records."""
    scope = current_scope()
    step = StepScope(0 if scope.step is None else scope.step.step_id, "transaction")
    step.transaction = opened
    return msgspec.structs.replace(scope, step=step)
