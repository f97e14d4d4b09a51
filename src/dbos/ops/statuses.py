"""From stored rows to the values that listings return: nothing in a row can make a listing fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

import msgspec

from dbos.models import StepInfo, WorkflowStatus
from dbos.serialization.codec import Codec, Stored
from dbos.storage.listing import RunRow, StepListing
from dbos.telemetry import log
from dbos.validation import shown

_NOT_SHOWN = ("serialization", "code_hash")


def status_from(row: RunRow, codec: Codec, stranded_reason: str | None) -> WorkflowStatus:
    """A run's status. What cannot be decoded is shown as stored, and named in `payload_errors`."""
    fields = row._asdict()
    for field in _NOT_SHOWN:
        del fields[field]
    faults: dict[str, str] = {}
    for field, decode in _DECODERS.items():
        if fields[field] is None:
            continue
        try:
            fields[field] = decode(codec, fields[field], row)
        except Exception as error:
            is_payload = field in ("input", "output", "error")
            faults[field] = _fault(error, codec, row.serialization) if is_payload else _fault(error)
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


def _input(codec: Codec, text: str, row: RunRow) -> dict[str, Any]:
    where = Stored(row.workflow_id, None, "inputs")
    args, kwargs = codec.load_arguments(text, row.serialization, where)
    return {"args": args, "kwargs": kwargs}


def _output(codec: Codec, text: str, row: RunRow) -> Any:
    return codec.load(text, row.serialization, Stored(row.workflow_id, None, "output"))


def _error(codec: Codec, text: str, row: RunRow) -> Any:
    return codec.load_error(text, row.serialization, Stored(row.workflow_id, None, "error"))


def _roles(_: Codec, text: str, __: RunRow) -> list[str] | None:
    return msgspec.json.decode(text, type=list[str] | None)


def _attributes(_: Codec, stored: Any, __: RunRow) -> dict[str, Any]:
    """Both databases give JSON as text; in a column of SQLite's anything may stand."""
    value = msgspec.json.decode(stored)
    if not isinstance(value, dict):
        raise TypeError("not a JSON object")
    return cast("dict[str, Any]", value)


_DECODERS: Mapping[str, Callable[[Codec, Any, RunRow], Any]] = MappingProxyType(
    {
        "input": _input,
        "output": _output,
        "error": _error,
        "authenticated_roles": _roles,
        "attributes": _attributes,
    }
)
"""What is stored as text, in the order in which faults are told."""


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
