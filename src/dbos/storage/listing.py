"""Reading runs and their steps as users list them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from dbos.models import WorkflowFilter
from dbos.storage import executors, versions
from dbos.storage.executors import Capable
from dbos.storage.protocol import SingleRead, Statement, Tx

R = TypeVar("R")

NO_LIMIT = 2**62
FIRST_SURROGATE, AFTER_SURROGATES = 0xD800, 0xE000
ACTIVE = ("ENQUEUED", "DELAYED", "PENDING")
IN_FLIGHT = ("ENQUEUED", "PENDING")
FAILED = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
STATUSES = (*ACTIVE, "SUCCESS", *FAILED)


class RunRow(NamedTuple):
    """A run's row, undecoded. Where a value is that of `WorkflowStatus`, so is its name."""

    workflow_id: str
    status: str
    name: str
    class_name: str | None
    config_name: str | None
    authenticated_user: str | None
    assumed_role: str | None
    authenticated_roles: str | None
    input: str | None
    output: str | None
    error: str | None
    serialization: str | None
    created_at: int
    updated_at: int
    completed_at: int | None
    queue_name: str | None
    executor_id: str | None
    app_version: str | None
    app_id: str | None
    workflow_timeout_ms: int | None
    workflow_deadline_epoch_ms: int | None
    deduplication_id: str | None
    priority: int
    queue_partition_key: str | None
    forked_from: str | None
    was_forked_from: bool
    parent_workflow_id: str | None
    dequeued_at: int | None
    delay_until_epoch_ms: int | None
    attributes: Any
    schedule_name: str | None
    application_name: str | None
    recovery_attempts: int
    incarnation_id: str | None
    code_hash: str | None


class Kin(NamedTuple):
    """What decides who may run a run: runs that agree in all of it are stranded together."""

    name: str
    class_name: str | None
    config_name: str | None
    app_version: str | None
    code_hash: str | None
    serialization: str | None
    queue_name: str | None
    application_name: str | None
    owner: str | None
    """The live incarnation that is running it, for a PENDING run."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who is alive, and which version of each application is the latest."""

    live: tuple[Capable, ...]
    latest: dict[str | None, str | None]


Judge = Callable[[Sequence[Kin], Fleet], list[Kin]]
"""Which kinds of runs nobody there may run."""


@dataclass(frozen=True, slots=True)
class Page:
    """Runs as a list call wants them, and who might run those that wait."""

    rows: list[RunRow]
    fleet: Fleet


# A run that has left its queue may still hold the queue's name and its start for a rate limit.
_HAS_LEFT = "run.status IN ('CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')"
_QUEUE = f"CASE WHEN NOT {_HAS_LEFT} THEN run.queue_name END"
_STARTED = "CASE WHEN run.status <> 'CANCELLED' THEN run.started_at_epoch_ms END"

# The columns of `RunRow`, in its order. Payloads may be left out, which saves reading them.
_COLUMNS = f"""run.workflow_uuid, run.status, run.name, run.class_name, run.config_name,
        run.authenticated_user, run.assumed_role, run.authenticated_roles, {{inputs}}, {{output}},
        {{error}}, run.serialization, run.created_at, run.updated_at, run.completed_at,
        {_QUEUE}, run.executor_id, run.application_version, run.application_id,
        run.workflow_timeout_ms, run.workflow_deadline_epoch_ms, run.deduplication_id, run.priority,
        run.queue_partition_key, run.forked_from, run.was_forked_from, run.parent_workflow_id,
        {_STARTED}, run.delay_until_epoch_ms, run.attributes, run.schedule_name,
        run.application_name, run.recovery_attempts, run.incarnation_id, run.code_hash"""

_ANY_OF = {
    "workflow_ids": "workflow_uuid",
    "name": "name",
    "app_version": "application_version",
    "forked_from": "forked_from",
    "parent_workflow_id": "parent_workflow_id",
    "user": "authenticated_user",
    "queue_name": "queue_name",
    "executor_id": "executor_id",
    "schedule_name": "schedule_name",
}
_FROM = {
    "created_from_ms": "created_at",
    "completed_from_ms": "completed_at",
    "dequeued_from_ms": "started_at_epoch_ms",
}
_UNTIL = {
    "created_until_ms": "created_at",
    "completed_until_ms": "completed_at",
    "dequeued_until_ms": "started_at_epoch_ms",
}
_YES_OR_NO = {
    "was_forked_from": ("run.was_forked_from", "NOT run.was_forked_from"),
    "has_parent": ("run.parent_workflow_id IS NOT NULL", "run.parent_workflow_id IS NULL"),
    "is_fork": ("run.forked_from IS NOT NULL", "run.forked_from IS NULL"),
}
_INDEXED = (
    "workflow_ids",
    "workflow_id_prefix",
    "forked_from",
    "parent_workflow_id",
    "schedule_name",
    "attributes",
    "stranded",
    "completed_from_ms",
    "completed_until_ms",
    "dequeued_from_ms",
    "dequeued_until_ms",
)
_KIN_COLUMNS = {field: "text" for field in Kin._fields if field != "owner"}
_KIN_SOURCES = (
    "name",
    "class_name",
    "config_name",
    "application_version",
    "code_hash",
    "serialization",
    "queue_name",
    "application_name",
)
# Equality alone can be hashed; without the second half NULL would equal an empty text.
_SAME = [
    f"COALESCE(r.{ours}, '') = COALESCE(run.{column}, '')"
    f" AND (r.{ours} IS NULL) = (run.{column} IS NULL)"
    for ours, column in zip(_KIN_COLUMNS, _KIN_SOURCES, strict=True)
]
_SAME_KIN = f"EXISTS (SELECT 1 FROM {{rows}} WHERE {' AND '.join(_SAME)})"
# A PENDING run whose owner is alive runs, whoever else might.
_NOT_RUNNING = """NOT (run.status = 'PENDING' AND EXISTS (SELECT 1 FROM {perdure_executors} AS owner
            WHERE owner.incarnation_id = run.incarnation_id
              AND owner.lease_until_epoch_ms > {now_ms}))"""
_IS_ACTIVE = "run.status IN ('ENQUEUED', 'DELAYED', 'PENDING')"


@lru_cache(maxsize=256)
def _select(shape: WorkflowFilter) -> Statement:
    """The statement for all filters that use the same conditions (`shape` has no values).

    A condition that is not asked for is not in the text: that lets both databases choose the index.
    The page is found by key alone; only its rows are then read whole. Each is planned for its own
    values: a plan kept for all would treat the first page like a deep one, and a rare name like a
    common one.
    """
    where = " AND ".join(_conditions(shape)) or "TRUE"
    direction = "DESC" if shape.sort_desc else "ASC"
    order = f"run.created_at {direction}, run.workflow_uuid {{by_code_point}} {direction}"
    start, page = "", f"WHERE {where} ORDER BY {order} LIMIT :limit OFFSET :offset"
    if shape.offset is not None and _walks_in_time(shape):
        start, page = _deep_page(where, order, direction)
    columns = (
        _COLUMNS.replace("{inputs}", "run.inputs" if shape.load_input else "NULL")
        .replace("{output}", "run.output" if shape.load_output else "NULL")
        .replace("{error}", "run.error" if shape.load_output else "NULL")
    )
    return Statement(
        f"""
        {start}
        SELECT {columns}
        FROM (SELECT run.workflow_uuid AS run_id FROM {{workflow_status}} AS run
            {page}) AS page
        JOIN {{workflow_status}} AS run ON run.workflow_uuid = page.run_id
        ORDER BY {order}
        """,
        _KIN_COLUMNS if shape.stranded is not None else None,
        is_planned_anew=True,
    )


@lru_cache(maxsize=256)
def _count(shape: WorkflowFilter) -> Statement:
    """The statement that counts what passes filters of this shape."""
    where = " AND ".join(_conditions(shape)) or "TRUE"
    return Statement(
        f"""
        SELECT COALESCE(run.status, ''), COUNT(*) FROM {{workflow_status}} AS run
        WHERE {where} GROUP BY run.status ORDER BY run.status
        """,
        _KIN_COLUMNS if shape.stranded is not None else None,
        is_planned_anew=True,
    )


def _walks_in_time(shape: WorkflowFilter) -> bool:
    """Whether no filter has an index of its own, so that runs are met in the order of time."""
    has_ended_well = shape.status is None or "SUCCESS" in shape.status
    is_found_by_index = shape.queues_only or any(_is_set(shape, name) for name in _INDEXED)
    return has_ended_well and not is_found_by_index


def _deep_page(where: str, order: str, direction: str) -> tuple[str, str]:
    """The start of a page behind an offset, and the clauses that read the page from there.

    What the offset leaves out is walked over as it is stored, unsorted: an index keeps the runs of
    one instant by address, not by id. Then the first instant of the page is known, and how many
    runs of that instant belong to earlier pages: so many in any order, hence also by id.
    """
    is_later, is_before = ("<=", ">") if direction == "DESC" else (">=", "<")
    start = f"""WITH start AS MATERIALIZED (
            SELECT run.created_at AS instant, {{address(run)}} AS address
            FROM {{workflow_status}} AS run WHERE {where}
            ORDER BY run.created_at {direction}, {{address(run)}} {direction}
            LIMIT 1 OFFSET :offset)"""
    page = f"""WHERE {where} AND run.created_at {is_later} (SELECT instant FROM start)
            ORDER BY {order} LIMIT :limit OFFSET (SELECT COUNT(*)
                FROM start CROSS JOIN {{workflow_status}} AS run WHERE {where}
                    AND run.created_at = start.instant
                    AND {{address(run)}} {is_before} start.address)"""
    return start, page


def _conditions(shape: WorkflowFilter) -> list[str]:
    found = [
        _matches(shape, name, f"run.{column}")
        for name, column in _ANY_OF.items()
        if _is_set(shape, name)
    ]
    found += [f"run.{column} >= :{name}" for name, column in _FROM.items() if _is_set(shape, name)]
    found += [f"run.{column} <= :{name}" for name, column in _UNTIL.items() if _is_set(shape, name)]
    for name, (yes, no) in _YES_OR_NO.items():
        if _is_set(shape, name):
            found.append(yes if getattr(shape, name) else no)
    if shape.workflow_id_prefix is not None:
        found.append(f"({' OR '.join(_prefixes(len(shape.workflow_id_prefix)))})")
    if shape.attributes is not None:
        found.append("run.attributes @> :attributes{as_json}")
    if shape.application_names is not None:
        is_named = _matches(shape, "application_names", "run.application_name")
        found.append(f"(run.application_name IS NULL OR {is_named})")
    found += _of_status(shape)
    found += _hidden(shape)
    if shape.queues_only:
        found.append("run.queue_name IS NOT NULL")
    if shape.stranded is not None:
        stranded = f"({_IS_ACTIVE} AND {_NOT_RUNNING} AND {_SAME_KIN})"
        found.append(stranded if shape.stranded else f"{stranded} IS NOT TRUE")
    return found


def _of_status(shape: WorkflowFilter) -> list[str]:
    """Statuses are written out, so that both databases see which partial index holds them all.

    SQLite sees it only where the condition of the index is repeated word by word. Active runs are
    few and the latest ones: they are fetched by index, or a walk from the oldest run on would read
    all that have ended before it meets one.
    """
    wanted = shape.status
    if wanted is None and (shape.queues_only or shape.stranded):
        wanted = ACTIVE
    if wanted is None:
        return []
    if not wanted:
        return ["FALSE"]
    found = [_is_one_of("run", wanted)]
    if set(wanted) <= set(FAILED):
        found.append(_is_one_of("run", FAILED))
    elif set(wanted) <= set(ACTIVE) and (wanted != ("PENDING",) or shape.queue_name is not None):
        found.append(f"run.workflow_uuid IN ({' UNION ALL '.join(_active(shape, wanted))})")
    return found


def _active(shape: WorkflowFilter, wanted: Sequence[str]) -> list[str]:
    """Queries of the active runs' ids, each by an index of its own."""
    queue = ""
    if shape.queue_name is not None:
        queue = f" AND {_matches(shape, 'queue_name', 'one.queue_name')}"
    select = "SELECT one.workflow_uuid FROM {workflow_status} AS one WHERE "
    found: list[str] = []
    if in_flight := [status for status in IN_FLIGHT if status in wanted]:
        is_wanted = f"{_is_one_of('one', IN_FLIGHT)} AND {_is_one_of('one', in_flight)}"
        found.append(f"{select}{is_wanted}{queue}")
    if "DELAYED" in wanted:
        found.append(f"{select}one.status = 'DELAYED'{queue}")
    return found


def _is_one_of(table: str, statuses: Sequence[str]) -> str:
    named = ", ".join(f"'{status}'" for status in statuses)
    return f"{table}.status = {named}" if len(statuses) == 1 else f"{table}.status IN ({named})"


def _hidden(shape: WorkflowFilter) -> list[str]:
    """Keep a filter from what a run that has left its queue holds for a rate limit only."""
    found: list[str] = []
    if shape.queue_name is not None or shape.queues_only:
        found.append(f"NOT {_HAS_LEFT}")
    if shape.dequeued_from_ms is not None or shape.dequeued_until_ms is not None:
        found.append("run.status <> 'CANCELLED'")
    return found


def _prefixes(count: int) -> list[str]:
    """Literal prefixes: LIKE would know wildcards, and on SQLite no difference of case."""
    return [f"{{id_begins(prefix_{index})}}" for index in range(count)]


def _matches(shape: WorkflowFilter, name: str, column: str) -> str:
    """One text is compared as such, which is a third faster for each row that is walked over."""
    if len(getattr(shape, name)) == 1:
        return f"{column} = :{name}_alone"
    return f"{column} {{any_of({name})}}"


def _is_set(shape: WorkflowFilter, name: str) -> bool:
    return getattr(shape, name) is not None


def _shape(wanted: WorkflowFilter) -> WorkflowFilter:
    """The filter without its values but the statuses: one text stays one, several are two."""
    blanks: dict[str, Any] = {
        name: ("",) * min(2, len(getattr(wanted, name) or ()))
        for name in (*_ANY_OF, "application_names")
    }
    blanks |= dict.fromkeys((*_FROM, *_UNTIL), 0) | {"attributes": ""}
    blank = {name: value for name, value in blanks.items() if _is_set(wanted, name)}
    if wanted.status is not None:
        blank["status"] = tuple(status for status in STATUSES if status in wanted.status)
    if wanted.workflow_id_prefix is not None:
        blank["workflow_id_prefix"] = ("",) * len(wanted.workflow_id_prefix)
    return replace(wanted, **blank, limit=None, offset=1 if wanted.offset else None)


def _values(wanted: WorkflowFilter) -> dict[str, Any]:
    names = (*_ANY_OF, "application_names", *_FROM, *_UNTIL, "attributes")
    values = {name: getattr(wanted, name) for name in names if _is_set(wanted, name)}
    for name in (*_ANY_OF, "application_names"):
        texts: tuple[str, ...] | None = getattr(wanted, name)
        if texts is not None and len(texts) == 1:
            values[f"{name}_alone"] = texts[0]
    for index, prefix in enumerate(wanted.workflow_id_prefix or ()):
        values |= {f"prefix_{index}": prefix, f"prefix_{index}_end": _end_of(prefix)}
    return values | {"limit": wanted.limit or NO_LIMIT, "offset": wanted.offset or 0}


def _end_of(prefix: str) -> str | bytes:
    """The first text after all that begin with this one; to SQLite a blob comes after any text."""
    kept = prefix.rstrip(chr(sys.maxunicode))
    if not kept:
        return b""
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(AFTER_SURROGATES if following == FIRST_SURROGATE else following)


@SingleRead
def runs(tx: Tx, wanted: WorkflowFilter) -> list[RunRow]:
    """The runs that pass a filter which does not ask who is stranded."""
    return _runs(tx, wanted, _values(wanted))


def page(tx: Tx, wanted: WorkflowFilter, are_stranded: Judge) -> Page:
    """The runs that pass the filter. Who is stranded is judged in the same snapshot."""
    rows = _runs(tx, wanted, _values_judged(tx, wanted, are_stranded))
    return Page(rows, fleet(tx) if any(row.status in ACTIVE for row in rows) else NOBODY)


def counts(tx: Tx, wanted: WorkflowFilter, are_stranded: Judge) -> dict[str, int]:
    """How many runs of each status pass the filter. A run without a status counts under ''."""
    return dict(tx.all(_count(_shape(wanted)), **_values_judged(tx, wanted, are_stranded)))


def _values_judged(tx: Tx, wanted: WorkflowFilter, are_stranded: Judge) -> dict[str, Any]:
    values = _values(wanted)
    if wanted.stranded is not None:
        values["rows"] = are_stranded(waiting_kinds(tx), fleet(tx))
    return values


def _runs(tx: Tx, wanted: WorkflowFilter, values: dict[str, Any]) -> list[RunRow]:
    return [RunRow._make(row) for row in tx.all(_select(_shape(wanted)), **values)]


KINSHIPS = Statement(
    f"""
    SELECT DISTINCT run.name, run.class_name, run.config_name, run.application_version,
        run.code_hash, run.serialization, run.queue_name, run.application_name
    FROM {{workflow_status}} AS run WHERE {_IS_ACTIVE} AND {_NOT_RUNNING}
    """
)
NOBODY = Fleet((), {})


@SingleRead
def waiting_kinds(tx: Tx) -> list[Kin]:
    """The different kinds of runs that wait for somebody."""
    return [Kin._make((*row, None)) for row in tx.all(KINSHIPS)]


def fleet(tx: Tx) -> Fleet:
    """Who is alive now."""
    live = executors.capable(tx)
    names = {one.application_name for one in live}
    return Fleet(tuple(live), {name: versions.latest(tx, name or "") for name in names})


class StepListing(NamedTuple):
    """One recorded operation, undecoded."""

    function_id: int
    function_name: str
    output: str | None
    error: str | None
    child_workflow_id: str | None
    started_at_epoch_ms: int | None
    completed_at_epoch_ms: int | None
    serialization: str | None


STEPS = Statement(
    """
    SELECT function_id, function_name, output, error, child_workflow_id, started_at_epoch_ms,
        completed_at_epoch_ms, serialization
    FROM {operation_outputs} WHERE workflow_uuid = :workflow_id
    ORDER BY function_id LIMIT :limit OFFSET :offset
    """
)


@SingleRead
def steps(tx: Tx, workflow_id: str, limit: int | None, offset: int | None) -> list[StepListing]:
    """The recorded operations of a run, by step id."""
    rows = tx.all(STEPS, workflow_id=workflow_id, limit=limit or NO_LIMIT, offset=offset or 0)
    return [StepListing(*row) for row in rows]


LIMIT_TIME = Statement("SELECT {time_limit(milliseconds)}")


def within(tx: Tx, limit_s: float, query: Callable[..., R], *args: Any) -> R:
    """Run a query whose statements the server stops after so long. SQLite has no such limit."""
    tx.one(LIMIT_TIME, milliseconds=str(max(1, round(limit_s * 1000))))
    return query(tx, *args)
