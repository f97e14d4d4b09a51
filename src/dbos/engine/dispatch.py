"""The beginning of a claimed run: from its row to an attempt, or to its end if it cannot begin."""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import TYPE_CHECKING

import msgspec

from dbos.engine.context import Authentication
from dbos.engine.execution import Execution
from dbos.engine.io import Call
from dbos.engine.registry import Registration
from dbos.engine.replay import Replay
from dbos.engine.returns import give_back
from dbos.engine.roles import required_by
from dbos.errors import (
    DBOSRecoveryError,
    DBOSStoredDataError,
    MaxRecoveryAttemptsExceededError,
)
from dbos.serialization import (
    DBOSPortableJSONSerializer,
    coerce_portable_arguments,
    resolve_validator,
)
from dbos.serialization.codec import Stored
from dbos.storage import deadlines, workflows
from dbos.storage.deadlines import Expiry
from dbos.storage.rows import ClaimedRun, FinishRow, RecordedStep
from dbos.storage.workflows import DeadLetter
from dbos.telemetry import log

if TYPE_CHECKING:
    from dbos.engine.engine import Runtime


async def begin(
    rt: Runtime, run: ClaimedRun, history: Sequence[RecordedStep], term: int
) -> Execution | None:
    """Prepare a claimed run. None if it ended instead: what is wrong with it concerns it alone."""
    target = rt.engine.registry.find(run.name)
    if target is None:
        give_back(rt, run, "unbound", f"{run.name} is not registered here")
        return None
    try:
        subject = target.classes.subject(target, run.class_name, run.config_name)
    except LookupError as missing:
        give_back(rt, run, "unbound", f"{missing} is not registered here")
        return None
    limit = target.max_recovery_attempts
    if limit is not None and run.recovery_attempts > limit + 1:
        log.dead_lettered(MaxRecoveryAttemptsExceededError(run.workflow_id, limit))
        letter = DeadLetter(run.workflow_id, run.claim, None)
        await rt.io.commit(workflows.dead_letter, letter, run.workflow_id)
        return None
    now_ms = rt.io.now_ms()
    if run.deadline_ms is not None and run.deadline_ms <= now_ms:
        overdue = Expiry((run.workflow_id,), now_ms)
        await rt.io.commit(deadlines.expire, overdue, run.workflow_id)
        return None
    try:
        if not run.workflow_id.strip():
            raise DBOSRecoveryError(run.workflow_id, "its id is blank")
        call, authentication = _call(rt, run, target, subject), _authentication(run)
    except Exception as error:
        await _end(rt, run, error)
        return None
    return Execution(
        rt.engine,
        run.workflow_id,
        run.name,
        run.claim,
        call,
        format=run.serialization or rt.engine.codec.unnamed,
        authentication=authentication,
        term=term,
        deadline_ms=run.deadline_ms,
        required_roles=required_by(target, call.args),
        replay=Replay(history),
        is_background=True,
        slot_queue=run.queue_name if run.holds_slot else None,
    )


def _call(rt: Runtime, run: ClaimedRun, target: Registration, subject: object) -> Call:
    where = Stored(run.workflow_id, None, "inputs")
    args, kwargs = rt.engine.codec.load_arguments(run.inputs, run.serialization, where)
    function = target.function if subject is None else MethodType(target.function, subject)
    validate = resolve_validator(target.validate_args, function)
    if validate is not None:
        args, kwargs = validate(args, kwargs)
    elif run.serialization == DBOSPortableJSONSerializer().name():
        args, kwargs = coerce_portable_arguments(function, args, kwargs)
    if subject is not None:
        args = (subject, *args)
    return Call(target.body, args, kwargs, target.is_async)


async def _end(rt: Runtime, run: ClaimedRun, error: Exception) -> None:
    """End a run whose arguments cannot be used."""
    log.cannot_start(run.workflow_id, error)
    codec = rt.engine.codec
    format = run.serialization or codec.unnamed
    text = codec.dump_error(error, format if codec.can_read(format) else codec.native)
    row = FinishRow(run.workflow_id, "ERROR", None, text, run.claim, run.queue_name)
    await rt.io.commit(workflows.finish, row, run.workflow_id)


def _authentication(run: ClaimedRun) -> Authentication:
    try:
        roles = msgspec.json.decode(run.authenticated_roles or "null", type=tuple[str, ...] | None)
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise DBOSStoredDataError(
            f"The authenticated_roles of workflow {run.workflow_id} are no JSON list of texts.",
            run.workflow_id,
            field="authenticated_roles",
        ) from None
    return Authentication(run.authenticated_user, roles, run.assumed_role)
