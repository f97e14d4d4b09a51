"""The filters of lists: checked arguments become one value that every caller shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, cast

from dbos import validation
from dbos.engine.engine import Runtime
from dbos.errors import DBOSException, DBOSInvalidInputError
from dbos.models import WorkflowFilter, WorkflowStatusString

Given = str | Sequence[str] | None
"""One text, or several of which one must match; None for any."""

MOST_PREFIXES: Final = 500
"""Each is a condition of its own in the query, and SQLite has a limit of 1,000."""

_TEXTS = (
    "status",
    "name",
    "app_version",
    "forked_from",
    "parent_workflow_id",
    "user",
    "queue_name",
    "executor_id",
    "schedule_name",
    "workflow_id_prefix",
)
_INSTANTS: Mapping[str, str] = MappingProxyType(
    {
        "start_time": "created_from_ms",
        "end_time": "created_until_ms",
        "completed_after": "completed_from_ms",
        "completed_before": "completed_until_ms",
        "dequeued_after": "dequeued_from_ms",
        "dequeued_before": "dequeued_until_ms",
    }
)
_SWITCHES = (
    "queues_only",
    "sort_desc",
    "load_input",
    "load_output",
)
_QUESTIONS = ("was_forked_from", "has_parent", "is_fork", "stranded")
"""Switches that None leaves open."""


def workflow_filter(
    rt: Runtime,
    *,
    workflow_ids: list[str] | None = None,
    workflow_id: Given = None,
    status: Given = None,
    start_time: str | None = None,
    end_time: str | None = None,
    completed_after: str | None = None,
    completed_before: str | None = None,
    dequeued_after: str | None = None,
    dequeued_before: str | None = None,
    name: Given = None,
    app_version: Given = None,
    forked_from: Given = None,
    parent_workflow_id: Given = None,
    user: Given = None,
    queue_name: Given = None,
    limit: int | None = None,
    offset: int | None = None,
    sort_desc: bool = False,
    workflow_id_prefix: Given = None,
    load_input: bool = True,
    load_output: bool = True,
    executor_id: Given = None,
    queues_only: bool = False,
    was_forked_from: bool | None = None,
    has_parent: bool | None = None,
    attributes: dict[str, Any] | None = None,
    schedule_name: Given = None,
    application_name: Given = None,
    stranded: bool | None = None,
    is_fork: bool | None = None,
) -> WorkflowFilter:
    """The workflows that pass every filter given, oldest first. In workflow code recorded.

    Filters take a text or several, of which one must match. Times are ISO 8601, inclusive, local
    without an offset. By default workflows of this application and unowned ones are listed. A row
    that cannot be read whole is listed all the same: see `WorkflowStatus.payload_errors`.

    Args:
        workflow_ids: exact ids of any application; joined with `workflow_id`.
        limit: at most so many; 0 and None mean all. `offset` leaves out so many first.
        sort_desc: newest first.
        load_input: False leaves `input` None; `load_output=False` leaves `output` and `error` None.
        queues_only: only those with a queue, and active ones unless `status` is given.
        attributes: contained in the workflow's attributes. PostgreSQL only.
        stranded: whether no live process may run it.

    Raises:
        DBOSInvalidInputError: a time cannot be read, or a number is out of range.
        DBOSQueryTimeoutError: the query took longer than `observability_query_timeout_sec`.
    """
    given = dict(locals())
    contained = validation.attributes(attributes)
    if attributes is not None and rt.engine.settings.system_database.kind == "sqlite":
        raise DBOSException(
            "The filter 'attributes' is not supported on SQLite: filter the list by hand"
        )
    return WorkflowFilter(
        workflow_ids=_ids(workflow_ids, workflow_id),
        application_names=scope(rt, application_name, any_id=bool(workflow_ids or workflow_id)),
        attributes=contained,
        limit=validation.page_limit(limit),
        offset=validation.page_limit(offset, "offset"),
        **_checked(given),
    )


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that follow from one argument each."""
    checked: dict[str, Any] = {name: names(given[name], name) for name in _TEXTS}
    count = len(checked["workflow_id_prefix"] or ())
    if count > MOST_PREFIXES:
        raise DBOSInvalidInputError(
            f"workflow_id_prefix must be at most {MOST_PREFIXES} prefixes, not {count}: "
            "list them in several calls"
        )
    checked |= {field: instant(given[name], name) for name, field in _INSTANTS.items()}
    checked |= {name: _switch(given[name], name) for name in _SWITCHES}
    return checked | {name: _question(given[name], name) for name in _QUESTIONS}


def _switch(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise DBOSInvalidInputError(f"{name} must be True or False, not {type(value).__name__}")
    return value


def _question(value: object, name: str) -> bool | None:
    """True or False, or None for no filter."""
    return None if value is None else _switch(value, name)


def _ids(workflow_ids: Given, workflow_id: Given) -> tuple[str, ...] | None:
    """All ids that were given; none at all is no filter."""
    joined = (
        *(names(workflow_ids, "workflow_ids") or ()),
        *(names(workflow_id, "workflow_id") or ()),
    )
    return tuple(dict.fromkeys(joined)) or None


def _text(value: object, name: str) -> str:
    return validation.label(value.value if isinstance(value, WorkflowStatusString) else value, name)


def names(given: object, name: str) -> tuple[str, ...] | None:
    """The texts to match; an empty list is no filter."""
    if given is None:
        return None
    if isinstance(given, str | WorkflowStatusString):
        return (_text(given, name),)
    if not isinstance(given, Iterable):
        raise DBOSInvalidInputError(
            f"{name} must be a str or a list of str, not {type(given).__name__}"
        )
    return tuple(_text(text, name) for text in cast("Iterable[object]", given)) or None


def instant(text: object, name: str) -> int | None:
    """An ISO 8601 time as milliseconds since the epoch; without an offset it is local time."""
    if text is None:
        return None
    try:
        if not isinstance(text, str):
            raise TypeError
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (TypeError, ValueError, OverflowError, OSError):
        raise DBOSInvalidInputError(
            f"{name} cannot be read as an ISO 8601 time: use a form such as 2026-01-31T13:45:00Z"
        ) from None


def scope(rt: Runtime, given: Given, *, any_id: bool = False) -> tuple[str, ...] | None:
    """The applications to list: those named, else our own; all of them if ids were given."""
    named = names(given, "application_name")
    if named is not None:
        return named
    own = rt.engine.settings.name
    return None if any_id or not own else (own,)
