"""Running a workflow again from a step: under a new id, or under its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard

from dbos import validation
from dbos.engine.context import ArmedId, Scope
from dbos.engine.engine import Runtime
from dbos.engine.site import Site, refuse_in_transaction
from dbos.engine.steps import Operation, commit_in_order, once, step_row
from dbos.engine.writes import carry_out
from dbos.errors import (
    DBOSConflictingWorkflowError,
    DBOSException,
    DBOSInvalidInputError,
    DBOSNonExistentWorkflowError,
    DBOSWorkflowIDInUseError,
)
from dbos.lifecycle import TERMINAL
from dbos.ops.results import existing_status
from dbos.storage import forks, rewinding, workflows
from dbos.storage.forks import Forked, Forking
from dbos.storage.recovery import INTERNAL_QUEUE
from dbos.storage.rewinding import Rewinding
from dbos.storage.rows import Recorded

FORK = "DBOS.forkWorkflow"
REWIND = "DBOS.rewindWorkflow"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a run that begins again is queued, and which version may run it."""

    application_version: str | None = None
    queue_name: str | None = None
    queue_partition_key: str | None = None

    def checked(self) -> tuple[str | None, str, str | None]:
        """Version, queue and partition key as they are stored."""
        version = validation.optional_identifier(self.application_version, "application_version")
        queue = self.queue_name
        return (
            version,
            INTERNAL_QUEUE if queue is None else validation.queue_name(queue),
            validation.optional_identifier(self.queue_partition_key, "queue_partition_key"),
        )


@dataclass(frozen=True, slots=True)
class ForkCall:
    """A fork as it was asked for; the id of a `with SetWorkflowID` block was taken at the call."""

    source_id: str
    start_step: int
    placement: Placement
    replacement_children: Mapping[str, str] | None
    timeout_s: float | None
    armed: ArmedId | None


def take_armed_id(scope: Scope) -> ArmedId | None:
    """The id of the surrounding `with SetWorkflowID` block, unless another run has taken it."""
    armed = scope.options.armed_id
    if armed is None or armed.used:
        return None
    armed.used = True
    return armed


async def fork(rt: Runtime, site: Site, call: ForkCall) -> str:
    """Make a new run with the history of another one below a step; its id."""
    forking = _forking(rt, call)
    refuse_in_transaction(site, FORK)
    run = site.run
    if run is None:
        return _made(await rt.io.commit(forks.fork, forking, forking.source_id), forking)

    async def perform(operation: Operation) -> str:
        output = rt.engine.codec.dump(forking.fork_id, "result", rt.engine.codec.native)
        row = step_row(rt, run, operation, output=output, error=None)
        recorded = replace(forking, record=row)
        return _made(await commit_in_order(rt, run, forks.fork, recorded, _fork_verdict), forking)

    fork_id = await once(rt, run, site.step_id, FORK, perform)
    await existing_status(rt, replace(site, step_id=site.step_id + 1), fork_id)
    return fork_id


def _forking(rt: Runtime, call: ForkCall) -> Forking:
    version, queue, partition_key = call.placement.checked()
    seconds = call.timeout_s
    timeout_s = None if seconds is None else validation.positive_timeout(seconds, "timeout_seconds")
    replacements = _replacements(call.replacement_children)
    codec = rt.engine.codec

    def stored(workflow_id: str) -> str:
        return codec.dump(workflow_id, "result", codec.native)

    return Forking(
        source_id=validation.workflow_id(call.source_id),
        fork_id=rt.engine.new_id() if call.armed is None else call.armed.workflow_id,
        start_step=validation.start_step(call.start_step),
        claim=rt.engine.new_token(),
        queue_name=queue,
        queue_partition_key=partition_key,
        application_version=version,
        timeout_ms=None if timeout_s is None else max(1, round(timeout_s * 1000)),
        replacement_children=replacements,
        must_be_new=call.armed is not None and call.armed.reuse == "reject",
        replacement_winners={stored(old): stored(new) for old, new in replacements.items()},
    )


def _replacements(given: object) -> dict[str, str]:
    if given is None:
        return {}
    if not _is_dict(given):
        raise DBOSInvalidInputError("replacement_children must be a dict of old to new child ids")
    return {validation.workflow_id(old): validation.workflow_id(new) for old, new in given.items()}


def _is_dict(value: object) -> TypeGuard[dict[object, object]]:
    return isinstance(value, dict)


def _made(forked: Forked, forking: Forking) -> str:
    """The id of the fork, or the reason why there is none."""
    if forked.outcome == "no_source":
        raise DBOSNonExistentWorkflowError("target", forking.source_id)
    status, name = forked.holder or ("", "")
    if forked.outcome == "id_in_use":
        raise DBOSConflictingWorkflowError(
            forking.fork_id,
            f"already exists and is no fork of {forking.source_id}. Use another workflow ID.",
        )
    if forked.outcome == "id_taken":
        raise DBOSWorkflowIDInUseError(forking.fork_id, status, name)
    return forking.fork_id


def _fork_verdict(forked: Forked) -> Recorded | None:
    return forked.recorded


async def rewind(
    rt: Runtime, site: Site, workflow_id: str, start_step: int | None, placement: Placement
) -> None:
    """Take a workflow that has ended back to a step, and queue it."""
    version, queue, partition_key = placement.checked()
    step = validation.start_step(1 if start_step is None else start_step, 1)
    rewinding_call = Rewinding(
        workflow_id=validation.workflow_id(workflow_id),
        start_step=step,
        claim=rt.engine.new_token(),
        queue_name=queue,
        queue_partition_key=partition_key,
        application_version=version,
    )
    await _forget_effects(rt, rewinding_call)
    answer = await carry_out(
        rt,
        site,
        REWIND,
        (
            rewinding_call.workflow_id,
            rewinding.rewind,
            lambda record: replace(rewinding_call, record=record),
        ),
        lambda rewound: rewound.recorded,
    )
    if answer is None:
        return
    if answer.outcome == "unknown":
        raise DBOSNonExistentWorkflowError("target", workflow_id)
    if answer.outcome == "active":
        raise DBOSException(
            f"Workflow {workflow_id} is active: only one that has ended can be rewound. Cancel it "
            "first, or wait for it to end."
        )
    former = rt.engine.running.get(workflow_id)
    if former is not None and former.claim == answer.former_claim:
        # It was cancelled and may still be in a step, whose record must not come back.
        rt.engine.dismiss(former, "lost")


async def _forget_effects(rt: Runtime, call: Rewinding) -> None:
    """Have the transactions that are taken back run again, wherever their outcomes are kept.

    Beforehand, since the run may start at once; only of a run that has ended, for one that has not
    is refused.
    """
    if rt.engine.transactor is None:
        return
    found = await rt.io.read(workflows.claims, [call.workflow_id])
    if call.workflow_id in found and found[call.workflow_id][1] in TERMINAL:
        await rt.engine.transactor.forget(rt, [call.workflow_id], call.start_step)
