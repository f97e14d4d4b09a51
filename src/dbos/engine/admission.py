"""From a call and its surroundings to the row of a new run: pure decisions, nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from dbos.engine.classes import Receiver
from dbos.engine.context import NOBODY, Authentication, Scope
from dbos.engine.execution import Execution
from dbos.engine.io import Call
from dbos.engine.registry import Registration
from dbos.engine.roles import Roles
from dbos.errors import DBOSConflictingWorkflowError
from dbos.serialization.codec import WorkflowSerializationFormat
from dbos.storage.recovery import INTERNAL_QUEUE
from dbos.storage.rows import Admitted, NewRun
from dbos.telemetry import log

if TYPE_CHECKING:
    from dbos.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class StartCall:
    """A call that starts a run, as it was made: its ids and ambient options are fixed."""

    target: Registration
    call: Call
    scope: Scope
    parent: Execution | None
    step_id: int
    """The parent's first step id for this launch; 0 without a parent."""
    workflow_id: str | None
    """The id of a `with SetWorkflowID` block, if one was armed."""
    authentication: Authentication = NOBODY
    """The user it is made for, in the role that it requires."""
    required_roles: Roles = ()
    receiver: Receiver | None = None
    """What a method was called on: the first argument, which is named and not stored."""

    @property
    def stored_args(self) -> tuple[Any, ...]:
        args = tuple(self.call.args)
        return args if self.receiver is None else args[1:]

    application_version: str | None = None
    """The version stored with the run; None: this process's."""


def build(engine: Engine, start: StartCall, now_ms: int) -> NewRun:
    """The row of a run that is called or started: PENDING, and claimed by this incarnation."""
    target, receiver = start.target, start.receiver
    requested = target.serialization or WorkflowSerializationFormat.DEFAULT
    format = engine.codec.format_for(requested, None)
    timeout_ms, deadline_ms = timeouts(start, now_ms)
    authentication = start.authentication
    attributes = start.scope.options.attributes
    return NewRun(
        workflow_uuid=workflow_id(engine, start),
        status="PENDING",
        name=target.run_name,
        class_name=receiver.class_name if receiver else None,
        config_name=receiver.config_name if receiver else None,
        inputs=engine.codec.dump_arguments(start.stored_args, dict(start.call.kwargs), format),
        serialization=format,
        owner_xid=engine.new_token(),
        application_name=engine.settings.name,
        application_version=start.application_version or engine.identity.application_version,
        application_id=engine.settings.app_id,
        executor_id=engine.identity.executor_id,
        incarnation_id=engine.identity.incarnation_id,
        code_hash=engine.registry.code_hash(target),
        authenticated_user=authentication.user,
        assumed_role=authentication.assumed_role,
        authenticated_roles=_json(authentication.roles),
        workflow_timeout_ms=timeout_ms,
        workflow_deadline_epoch_ms=deadline_ms,
        parent_workflow_id=start.parent.workflow_id if start.parent else None,
        attributes=_json(attributes),
        recovery_attempts=1,
    )


def workflow_id(engine: Engine, start: StartCall) -> str:
    """The id of a new run: set by the caller, derived from the parent's step, or fresh."""
    if start.workflow_id is not None:
        return start.workflow_id
    if start.parent is not None:
        return f"{start.parent.workflow_id}-{start.step_id}"
    return engine.new_id()


def timeouts(start: StartCall, now_ms: int) -> tuple[int | None, int | None]:
    """Timeout and deadline: an explicit timeout counts from now, else the parent's deadline."""
    explicit = start.scope.options.timeout
    if explicit is None:
        return None, start.parent.deadline_ms if start.parent else None
    if explicit.seconds is None:
        return None, None
    timeout_ms = round(explicit.seconds * 1000)
    return timeout_ms, now_ms + timeout_ms


def execution(engine: Engine, start: StartCall, run: NewRun, term: int) -> Execution:
    """The first attempt of an admitted run."""
    return Execution(
        engine,
        run.workflow_uuid,
        run.name,
        run.owner_xid,
        start.call,
        format=run.serialization,
        authentication=start.authentication,
        term=term,
        deadline_ms=run.workflow_deadline_epoch_ms,
        required_roles=start.required_roles,
    )


def is_ours(run: NewRun, admitted: Admitted) -> bool:
    """Whether the admission created the run, rather than found one with this id."""
    return admitted.claim == run.owner_xid


def check_same_target(run: NewRun, admitted: Admitted) -> None:
    """An id may be used again only for the same function, class and instance."""
    known = (admitted.name, admitted.class_name, admitted.config_name)
    asked = (run.name, run.class_name, run.config_name)
    if known != asked:
        raise DBOSConflictingWorkflowError(
            run.workflow_uuid,
            "already exists with a different function, class or instance: "
            f"it runs {_target(known)}, and {_target(asked)} was asked for. "
            "Use another workflow ID.",
        )
    # The internal queue is where takeovers put runs that were on no queue: nobody chose it.
    if admitted.queue_name not in (run.queue_name, INTERNAL_QUEUE):
        log.other_queue(run.workflow_uuid, admitted.queue_name, run.queue_name)


def _target(target: tuple[str | None, str | None, str | None]) -> str:
    return "/".join(part for part in target if part is not None)


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
