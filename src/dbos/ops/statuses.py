"""From stored rows to the values that listings return: nothing in a row can make a listing fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

from dbos.models import StepInfo, WorkflowStatus
from dbos.serialization.codec import Codec, Stored
from dbos.storage.listing import RunRow, StepListing
from dbos.telemetry import log
from dbos.validation import shown

# Fields that are carried over as they are.
_PLAIN = tuple(
    field
    for field in RunRow._fields
    if field
    not in (
        "input",
        "output",
        "error",
        "serialization",
        "authenticated_roles",
        "attributes",
        "was_forked_from",
        "code_hash",
    )
)


def status_from(row: RunRow, codec: Codec, stranded_reason: str | None) -> WorkflowStatus:
    """A run's status. What cannot be decoded is shown as stored, and named in `payload_errors`."""
    faults: dict[str, str] = {}

    def decoded(field: str, text: Any, decode: Callable[[], Any]) -> Any:
        if text is None:
            return None
        try:
            return decode()
        except Exception as error:
            is_payload = field in ("input", "output", "error")
            faults[field] = _fault(error, codec, row.serialization) if is_payload else _fault(error)
            return text

    def payload(field: str, column: str) -> Any:
        text, where = getattr(row, field), Stored(row.workflow_id, None, column)
        if field == "error":
            return decoded(field, text, lambda: codec.load_error(text, row.serialization, where))
        if field == "input":
            return decoded(field, text, lambda: _inputs(codec, text, row.serialization, where))
        return decoded(field, text, lambda: codec.load(text, row.serialization, where))

    fields: dict[str, Any] = {field: getattr(row, field) for field in _PLAIN}
    fields["input"] = payload("input", "inputs")
    fields["output"] = payload("output", "output")
    fields["error"] = payload("error", "error")
    fields["authenticated_roles"] = decoded(
        "authenticated_roles",
        row.authenticated_roles,
        lambda: msgspec.json.decode(row.authenticated_roles or "", type=list[str] | None),
    )
    fields["attributes"] = decoded(
        "attributes", row.attributes, lambda: _attributes(row.attributes)
    )
    fields["was_forked_from"] = bool(row.was_forked_from)
    fields["stranded"] = stranded_reason is not None
    fields["stranded_reason"] = stranded_reason
    fields["payload_errors"] = faults or None
    if faults:
        log.undecodable(row.workflow_id, list(faults))
    return WorkflowStatus(**fields)


def _fault(error: Exception, codec: Codec | None = None, format: str | None = None) -> str:
    """Why a value is shown as stored; nothing of the value itself."""
    if codec is not None and not codec.can_read(format):
        return f"the format {shown(format or codec.unnamed)} is not available here"
    return f"cannot be decoded: {type(error).__name__}"


def _inputs(codec: Codec, text: str, format: str | None, where: Stored) -> dict[str, Any]:
    args, kwargs = codec.load_arguments(text, format, where)
    return {"args": args, "kwargs": kwargs}


def _attributes(stored: Any) -> dict[str, Any]:
    """Both databases give JSON as text; in a column of SQLite's anything may stand."""
    value = msgspec.json.decode(stored)
    if not isinstance(value, dict):
        raise TypeError("not a JSON object")
    return cast("dict[str, Any]", value)


def step_info(workflow_id: str, row: StepListing, codec: Codec, load_output: bool) -> StepInfo:
    """A recorded operation. What cannot be decoded is shown as stored."""
    faults: dict[str, str] = {}

    def decoded(field: str, text: str | None, decode: Callable[..., Any]) -> Any:
        if text is None or not load_output:
            return None
        try:
            return decode(text, row.serialization, Stored(workflow_id, row.function_id, field))
        except Exception as error:
            faults[field] = _fault(error, codec, row.serialization)
            return text

    info = StepInfo(
        function_id=row.function_id,
        function_name=row.function_name,
        output=decoded("output", row.output, codec.load),
        error=decoded("error", row.error, codec.load_error),
        child_workflow_id=row.child_workflow_id,
        started_at_epoch_ms=row.started_at_epoch_ms,
        completed_at_epoch_ms=row.completed_at_epoch_ms,
    )
    if faults:
        log.undecodable(workflow_id, list(faults))
        info["payload_errors"] = faults
    return info


def status_to_record(status: WorkflowStatus | None) -> dict[str, Any] | None:
    """A status as a workflow's history keeps it."""
    return None if status is None else dict(vars(status))


def status_from_record(recorded: dict[str, Any] | None) -> WorkflowStatus | None:
    return None if recorded is None else WorkflowStatus(**recorded)
