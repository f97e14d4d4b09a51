"""Claims that cannot be used: given back with a growing back-off, dead-lettered in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dbos.errors import DBOSException, DBOSRecoveryError, DBOSWorkflowFunctionNotFoundError
from dbos.storage import returns, workflows
from dbos.storage.returns import GivenBack, Unknown, WaitingRun
from dbos.storage.rows import ClaimedRun
from dbos.storage.workflows import DeadLetter
from dbos.telemetry import log
from dbos.validation import shown

if TYPE_CHECKING:
    from dbos.engine.engine import Engine, Runtime

MOST_RETURNS = 100
FIRST_BACK_OFF_MS = 1000
LONGEST_BACK_OFF_MS = 60_000

Code = Literal["unbound", "format", "no_thread", "internal"]


def give_back(rt: Runtime, run: ClaimedRun, code: Code, text: str) -> None:
    """Put a claimed run back on its queue; the last time in a row it is dead-lettered instead."""
    count = run.returns + 1
    reason = f"{code}: {text}"
    if count >= MOST_RETURNS:
        error: DBOSException = (
            DBOSWorkflowFunctionNotFoundError(run.workflow_id, text)
            if code == "unbound"
            else DBOSRecoveryError(run.workflow_id, text)
        )
        log.dead_lettered(error)
        stored = _stored(rt.engine, error, run.serialization)
        letter = DeadLetter(run.workflow_id, run.claim, stored)
        rt.io.post(workflows.dead_letter, letter, run.workflow_id)
        return
    log.given_back(run.workflow_id, reason, count)
    row = GivenBack(run.workflow_id, run.claim, reason, count, back_off_ms(rt.engine, count))
    rt.io.post(returns.give_back, row, run.workflow_id)


def unknown(engine: Engine, run: WaitingRun) -> Unknown:
    """What to write to a waiting run that no live process knows."""
    count = run.returns + 1
    text = f"{_target(run)} is not registered in any live process"
    error = None
    if count >= MOST_RETURNS:
        failure = DBOSWorkflowFunctionNotFoundError(run.workflow_id, text)
        log.dead_lettered(failure)
        error = _stored(engine, failure, run.serialization)
    delay_ms = back_off_ms(engine, count)
    return Unknown(run.workflow_id, f"not_registered: {text}", count, delay_ms, error)


def back_off_ms(engine: Engine, count: int) -> int:
    """Doubling from one second to a minute, give or take a seventh so that peers spread out."""
    plain_ms = min(FIRST_BACK_OFF_MS << min(count - 1, 6), LONGEST_BACK_OFF_MS)
    return round(plain_ms * (0.85 + 0.3 * int(engine.new_token()[:8], 16) / 0xFFFFFFFF))


def _stored(engine: Engine, error: Exception, format: str | None) -> str:
    codec = engine.codec
    wanted = format or codec.unnamed
    return codec.dump_error(error, wanted if codec.can_read(wanted) else codec.native)


def _target(run: WaitingRun) -> str:
    parts = (run.class_name, run.config_name, run.name)
    return "function " + "/".join(shown(part) for part in parts if part is not None)
