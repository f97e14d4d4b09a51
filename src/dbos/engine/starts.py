"""Starting runs: called directly, started in the background, alone or as a child."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbos.engine import admission, roles
from dbos.engine.admission import StartCall
from dbos.engine.context import Scope, current_scope
from dbos.engine.execution import STOPPED, Execution, execute, forgo, hand_back_claim
from dbos.engine.io import Call, Closed
from dbos.engine.outcome import Failure, Outcome, Success
from dbos.engine.registry import Registration
from dbos.engine.results import RECHECK_S, await_outcome, await_run
from dbos.engine.steps import (
    Operation,
    commit_in_order,
    once,
    record,
    recorded_step,
    replayed,
    step_row,
)
from dbos.errors import DBOSUsageError, DBOSWorkflowIDInUseError
from dbos.storage import steps, workflows
from dbos.storage.rows import Admitted, ChildLaunch, Launched, NewRun, Recorded
from dbos.telemetry import log

if TYPE_CHECKING:
    from dbos.engine.engine import Runtime

GET_RESULT = "DBOS.getResult"


def place_start(target: Registration, call: Call, step_ids: int) -> StartCall:
    """Take the step ids and the ambient options of a start, at the place and moment of the call."""
    scope = current_scope()
    receiver = target.classes.receiver(target, call.args)
    required = roles.required_by(target, call.args)
    refuse_in_step(scope, target.name)
    parent = scope.run
    own_id = take_armed_id(scope)
    return StartCall(
        target,
        call,
        scope,
        parent,
        parent.take_step_ids(step_ids) if parent else 0,
        own_id,
        roles.assumed_at_start(scope.authentication, required),
        required,
        receiver,
    )


def refuse_in_step(scope: Scope, name: str) -> None:
    """Workflows are started by workflow code or from outside, never by a step or transaction."""
    if scope.step is not None:
        raise DBOSUsageError(
            f"Workflow {name} cannot be started from within a {scope.step.kind}: "
            "call it from workflow code, or from outside a workflow."
        )


def take_armed_id(scope: Scope) -> str | None:
    """The id of a `with SetWorkflowID` block, for the first workflow that is started in it."""
    armed = scope.options.armed_id
    if armed is None:
        return None
    if not armed.used:
        armed.used = True
        return armed.workflow_id
    if scope.run is None:
        log.workflow_id_used_up(armed.workflow_id)
    return None


async def call_workflow(rt: Runtime, start: StartCall) -> Any:
    """Run a workflow on the caller's thread or task, and return its result."""
    __tracebackhide__ = True
    if start.parent is not None:
        return await _call_child(rt, start, start.parent)
    workflow_id, mine = await _admit(rt, start)
    if mine is not None:
        return await execute(rt, mine)
    return await await_outcome(rt, workflow_id)


async def _admit(rt: Runtime, start: StartCall) -> tuple[str, Execution | None]:
    """Create the run, or find the one that has its id; the execution if it is ours to run."""
    run, term = admission.build(rt.engine, start, rt.io.now_ms()), rt.engine.lease.term
    with _given_up_if_interrupted(rt, run, run.workflow_uuid):
        admitted = await rt.io.commit(workflows.admit, run, run.workflow_uuid)
    return run.workflow_uuid, _admitted_execution(rt, start, run, admitted, term)


@contextmanager
def _given_up_if_interrupted(
    rt: Runtime, run: NewRun, lane_key: str
) -> Generator[None, None, None]:
    """A caller that goes away leaves a write that still commits: then nobody would run the run."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        hand_back_claim(rt, run.workflow_uuid, run.owner_xid, lane_key)
        raise


async def start_workflow(
    rt: Runtime, start: StartCall, *, on_callers_loop: bool = False
) -> tuple[str, Execution | None]:
    """Start a workflow in the background: its id, and its execution if this process runs it."""
    if start.parent is not None:
        workflow_id, mine = await _launch_child(rt, start, start.parent)
    else:
        workflow_id, mine = await _admit(rt, start)
    if mine is not None:
        mine.is_background = True
        rt.engine.enter(mine)
        try:
            rt.engine.launcher.start(mine, on_callers_loop=on_callers_loop)
        except BaseException as error:
            forgo(rt, mine)
            if not isinstance(error, Exception):
                raise
            # It was started, and somebody will run it.
            log.background_run_failed(workflow_id, error)
            return workflow_id, None
    return workflow_id, mine


async def await_background(
    rt: Runtime,
    workflow_id: str,
    mine: Execution | None,
    recheck_s: float,
    waiter: Execution | None = None,
) -> Any:
    """The result behind a handle, outside workflow code."""
    __tracebackhide__ = True
    if mine is not None:
        return await await_run(rt, mine, recheck_s, waiter)
    return await await_outcome(rt, workflow_id, recheck_s, waiter)


def _admitted_execution(
    rt: Runtime, start: StartCall, run: NewRun, admitted: Admitted, term: int
) -> Execution | None:
    """The execution to run if the admission made the run ours; None if it has its own already."""
    if admission.is_ours(run, admitted):
        return admission.execution(rt.engine, start, run, term)
    admission.check_same_target(run, admitted)
    armed = start.scope.options.armed_id
    if start.workflow_id is not None and armed is not None and armed.reuse == "reject":
        raise DBOSWorkflowIDInUseError(run.workflow_uuid, admitted.status, admitted.name or "")
    log.already_run(run.name, run.workflow_uuid, admitted.status)
    return None


async def _call_child(rt: Runtime, start: StartCall, parent: Execution) -> Any:
    """A direct child: its launch takes the first step id, its result the second."""
    __tracebackhide__ = True
    workflow_id, mine = await _launch_child(rt, start, parent)
    awaited = Awaited(workflow_id, mine, runs_here=True)
    try:
        return await recorded_result(rt, parent, start.step_id + 1, awaited)
    except STOPPED:
        if mine is not None and not _has_begun(rt, mine):
            # It is durable and ours, and it does not end with its parent.
            mine.is_background = True
            rt.engine.launcher.start(mine)
        raise
    except BaseException:
        if mine is not None and not _has_begun(rt, mine):
            forgo(rt, mine)
        raise


def _has_begun(rt: Runtime, run: Execution) -> bool:
    is_entered = rt.engine.running.get(run.workflow_id) is run
    return is_entered or run.is_over or run.stop is not None


@dataclass(frozen=True, slots=True)
class Awaited:
    """A run whose result is wanted in workflow code."""

    workflow_id: str
    mine: Execution | None = None
    """The execution, if this process started it."""
    runs_here: bool = False
    """Whether the caller's own thread or task is to run it."""
    by_handle: bool = True
    """Whether the record names the run as a child."""
    recheck_s: float = RECHECK_S


async def recorded_result(rt: Runtime, parent: Execution, step_id: int, awaited: Awaited) -> Any:
    """A run's result in workflow code: replayed from the record, or awaited and recorded."""
    __tracebackhide__ = True

    async def wait(operation: Operation) -> Any:
        __tracebackhide__ = True
        outcome = await _result_of(rt, awaited, parent)
        if awaited.by_handle:
            operation = operation.of_child(awaited.workflow_id)
        return (await record(rt, parent, operation, outcome, steps.record_wait)).resolve()

    return await once(rt, parent, step_id, GET_RESULT, wait)


async def _result_of(rt: Runtime, awaited: Awaited, parent: Execution) -> Outcome:
    try:
        if awaited.mine is not None and awaited.runs_here:
            return Success(await execute(rt, awaited.mine, parent))
        return Success(
            await await_background(rt, awaited.workflow_id, awaited.mine, awaited.recheck_s, parent)
        )
    except Closed:
        raise parent.stop_with("lost") from None
    except Exception as error:
        return Failure(error)


async def _launch_child(
    rt: Runtime, start: StartCall, parent: Execution
) -> tuple[str, Execution | None]:
    """Create the child and record its launch in one commit; or find both in the history."""
    await parent.ensure_alive(rt)
    name = start.target.run_name
    known = recorded_step(parent, start.step_id, name)
    parent.in_flight += 1
    try:
        if known is not None:
            await replayed(rt, parent, known)
            return known.child_workflow_id or "", None
        started_at = rt.io.now_ms()
        run, term = admission.build(rt.engine, start, started_at), rt.engine.lease.term
        operation = Operation(start.step_id, name, started_at, run.workflow_uuid)
        launch = ChildLaunch(run, step_row(rt, parent, operation, output=None, error=None))
        with _given_up_if_interrupted(rt, run, parent.workflow_id):
            launched = await commit_in_order(
                rt, parent, workflows.launch_child, launch, _launch_verdict
            )
        assert launched.admitted is not None
        return run.workflow_uuid, _admitted_execution(rt, start, run, launched.admitted, term)
    finally:
        parent.in_flight -= 1


def _launch_verdict(launched: Launched) -> Recorded | None:
    return launched.recorded
