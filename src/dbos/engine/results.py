"""Waiting for the recorded outcome of a run, and turning it into a value or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbos.errors import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded,
    DBOSNonExistentWorkflowError,
)
from dbos.lifecycle import TERMINAL
from dbos.serialization.codec import Codec, Stored
from dbos.storage import workflows
from dbos.storage.protocol import Topic
from dbos.storage.rows import Outcome as StoredOutcome

if TYPE_CHECKING:
    from dbos.engine.engine import Runtime
    from dbos.engine.execution import Execution

RECHECK_S = 1.0
"""How late a change that rings no bell is noticed, at the most."""


async def await_outcome(
    rt: Runtime,
    workflow_id: str,
    recheck_s: float = RECHECK_S,
    waiter: Execution | None = None,
    *,
    known: bool = False,
) -> Any:
    """Wait for a run to end; its value, or its error raised. An id without a run is waited for.

    `waiter` is the run that waits, if it is one: its own cancellation ends the wait. A run that is
    `known` to have existed and is gone was deleted.
    """
    __tracebackhide__ = True
    also = () if waiter is None else (waiter.stopped,)
    with rt.engine.hub.watch(Topic("done", workflow_id), workflow_id, also=also) as bell:
        while True:
            run = rt.engine.running.get(workflow_id)
            if run is None or not run.is_background or run.stop is not None:
                stored = await rt.io.read(workflows.outcome, workflow_id)
                if stored is not None and stored.status in TERMINAL:
                    return resolve_stored(rt.engine.codec, stored)
                if stored is None and known:
                    raise DBOSNonExistentWorkflowError("target", workflow_id)
                known = stored is not None
            else:
                known = True
            await rt.io.wait(bell, _pause(recheck_s, known))
            if waiter is not None:
                await waiter.ensure_alive(rt)
            if run is not None and run.completion is not None:
                return run.completion.resolve()


async def await_run(
    rt: Runtime, run: Execution, recheck_s: float = RECHECK_S, waiter: Execution | None = None
) -> Any:
    """Wait for a run that this process started: its very outcome if this attempt records it."""
    __tracebackhide__ = True
    also = () if waiter is None else (waiter.stopped,)
    with rt.engine.hub.watch(Topic("done", run.workflow_id), also=also) as bell:
        while not run.is_over:
            await rt.io.wait(bell, None)
            if waiter is not None:
                await waiter.ensure_alive(rt)
            if run.stop is not None and not run.is_over:
                break
    if run.completion is not None:
        return run.completion.resolve()
    return await await_outcome(rt, run.workflow_id, recheck_s, waiter, known=True)


def _pause(recheck_s: float, is_known: bool) -> float | None:
    """How long to wait for a bell: the lookout watches known runs for all who wait."""
    return None if is_known and recheck_s >= RECHECK_S else recheck_s


def resolve_stored(codec: Codec, stored: StoredOutcome) -> Any:
    """The value of a run that has ended, or its error raised."""
    __tracebackhide__ = True
    if stored.status == "SUCCESS":
        return codec.load(
            stored.output, stored.serialization, Stored(stored.workflow_id, None, "output")
        )
    if stored.status == "CANCELLED":
        raise DBOSAwaitedWorkflowCancelledError(stored.workflow_id)
    if stored.status == "ERROR":
        raise codec.load_error(
            stored.error, stored.serialization, Stored(stored.workflow_id, None, "error")
        )
    raise DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded(stored.workflow_id)
