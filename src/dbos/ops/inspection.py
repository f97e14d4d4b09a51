"""Looking at workflows, their steps, and the processes that run them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from dbos import validation
from dbos.engine.eligibility import as_of_now, reason, stranded_reason
from dbos.engine.engine import Runtime
from dbos.engine.io import Call
from dbos.engine.site import Site, recorded_operation, refuse_in_transaction
from dbos.errors import DBOSDatabaseError, DBOSQueryTimeoutError
from dbos.models import ExecutorInfo, Health, StepInfo, WorkflowFilter, WorkflowStatus
from dbos.ops.filters import workflow_filter
from dbos.ops.statuses import status_from, step_info
from dbos.ops.verb import Verb, verb
from dbos.storage import executors, listing
from dbos.storage.listing import ACTIVE, NOBODY, Fleet, Kin, RunRow

LIST_WORKFLOWS = "DBOS.listWorkflows"
LIST_QUEUED = "DBOS.listQueuedWorkflows"
COUNT_WORKFLOWS = "DBOS.countWorkflows"
LIST_STEPS = "DBOS.listWorkflowSteps"
STATEMENT_CANCELLED = "57014"
# Filters that a list of queued workflows does not have.
NOT_FOR_QUEUED = ("queues_only", "was_forked_from", "schedule_name")
# What says how a list is shown, and not what is in it.
NOT_FOR_COUNTS = ("limit", "offset", "sort_desc", "load_input", "load_output")
LISTED, COUNTED = "list[WorkflowStatus]", "dict[str, int]"
COUNT_DOC = """How many workflows pass every filter given, by status. In workflow code recorded.

    The filters are those of `list_workflows`. A status that none of them has is left out.

    Raises:
        DBOSInvalidInputError: a time cannot be read, or a filter is of the wrong type.
        DBOSQueryTimeoutError: the query took longer than `observability_query_timeout_sec`.
    """

P = ParamSpec("P")
R = TypeVar("R")


def _asking(
    recorded_name: str,
    read_filter: Callable[Concatenate[Runtime, P], WorkflowFilter],
    ask: Callable[[Runtime, Site, str, WorkflowFilter], Awaitable[R]],
    answer: str,
) -> Verb[P, R]:
    """A verb that asks about what passes a filter, with the filter's own signature."""

    async def run(rt: Runtime, site: Site, /, *args: P.args, **kwargs: P.kwargs) -> R:
        refuse_in_transaction(site, recorded_name)
        return await ask(rt, site, recorded_name, read_filter(rt, *args, **kwargs))

    signature = inspect.signature(read_filter)
    first, *rest = signature.parameters.values()
    site = inspect.Parameter("site", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__doc__ = read_filter.__doc__
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[first, site, *rest], return_annotation=answer
    )
    return Verb(run, 1)


def _narrowed(
    left_out: Collection[str], doc: str | None = workflow_filter.__doc__, **fixed: Any
) -> Callable[..., WorkflowFilter]:
    """A filter without some of the parameters, or with a fixed value for them."""

    def read(rt: Runtime, **filters: Any) -> WorkflowFilter:
        signature.bind(rt, **filters)
        return workflow_filter(rt, **filters, **fixed)

    whole = inspect.signature(workflow_filter)
    kept = [each for name, each in whole.parameters.items() if name not in left_out]
    signature = whole.replace(parameters=kept)
    read.__doc__ = doc
    read.__signature__ = signature  # type: ignore[attr-defined]
    return read


async def _list(
    rt: Runtime, site: Site, recorded_name: str, wanted: WorkflowFilter
) -> list[WorkflowStatus]:
    if site.run is None:
        return await current_list(rt, wanted)

    async def look() -> list[dict[str, Any]]:
        return [vars(status) for status in await current_list(rt, wanted)]

    recorded = await recorded_operation(rt, site, recorded_name, look)
    return [WorkflowStatus(**fields) for fields in recorded]


async def _count(
    rt: Runtime, site: Site, recorded_name: str, wanted: WorkflowFilter
) -> dict[str, int]:
    async def look() -> dict[str, int]:
        return await _observed(rt, listing.counts, wanted, partial(_stranded_kinds, rt))

    return await recorded_operation(rt, site, recorded_name, look)


list_workflows: Final = _asking(LIST_WORKFLOWS, workflow_filter, _list, LISTED)
list_queued_workflows: Final[Verb[..., list[WorkflowStatus]]] = _asking(
    LIST_QUEUED, _narrowed(NOT_FOR_QUEUED, queues_only=True), _list, LISTED
)
count_workflows: Final[Verb[..., dict[str, int]]] = _asking(
    COUNT_WORKFLOWS, _narrowed(NOT_FOR_COUNTS, COUNT_DOC), _count, COUNTED
)


@verb(step_ids=1)
async def list_workflow_steps(
    rt: Runtime,
    site: Site,
    workflow_id: str,
    *,
    load_output: bool = True,
    limit: int | None = None,
    offset: int | None = None,
) -> list[StepInfo]:
    """The recorded operations of a workflow, by step id; [] for an unknown id.

    In workflow code the answer is recorded.

    Args:
        load_output: False leaves `output` and `error` None.
        limit: at most so many; 0 and None mean all. `offset` leaves out so many first.

    Raises:
        DBOSQueryTimeoutError: the query took longer than `observability_query_timeout_sec`.
    """
    validation.workflow_id(workflow_id)
    most, first = validation.page_limit(limit), validation.page_limit(offset, "offset")
    validation.flag(load_output, "load_output")
    refuse_in_transaction(site, LIST_STEPS)

    async def look() -> list[StepInfo]:
        rows = await _observed(rt, listing.steps, workflow_id, most, first)
        return [step_info(workflow_id, row, rt.engine.codec, load_output) for row in rows]

    return await recorded_operation(rt, site, LIST_STEPS, look)


@verb(step_ids=0)
async def list_executors(
    rt: Runtime, site: Site, *, application_name: str | None = None
) -> list[ExecutorInfo]:
    """The launched engines of an application, live ones and those whose lease has expired.

    Oldest first. Never recorded: it tells about this moment.

    Args:
        application_name: default: this application; for a client without one, all.
    """
    name = rt.engine.settings.name if application_name is None else application_name
    rows = await _observed(rt, executors.listed, validation.label(name, "application_name") or None)
    return [ExecutorInfo(*row) for row in rows]


@verb(step_ids=0)
async def health(rt: Runtime, site: Site) -> Health:
    """How this process is. Waits for no database; never recorded, and never raises for a fault."""
    report: Health = await rt.io.call(Call(rt.engine.check_up, (), {}, is_async=False))
    return report


async def current_list(rt: Runtime, wanted: WorkflowFilter) -> list[WorkflowStatus]:
    """The workflows that pass a filter now."""
    codec = rt.engine.codec

    def judged(rows: Sequence[RunRow], stored: Fleet) -> list[str | None]:
        if not stored.live and not any(row.status in ACTIVE for row in rows):
            return [None] * len(rows)
        fleet = as_of_now(stored, rt.engine)
        return [stranded_reason(row, fleet, codec.unnamed) for row in rows]

    if wanted.stranded is None:
        rows = await _observed(rt, listing.runs, wanted)
        is_any_active = any(row.status in ACTIVE for row in rows)
        reasons = judged(rows, await _observed(rt, listing.fleet) if is_any_active else NOBODY)
        if not any(reasons):
            return list(map(status_from, rows, repeat(codec), reasons))
        # Judged by who lives a moment later. That nobody may run a run is told of one moment only.
    page = await _observed(rt, listing.page, wanted, partial(_stranded_kinds, rt))
    return list(map(status_from, page.rows, repeat(codec), judged(page.rows, page.fleet)))


def _stranded_kinds(rt: Runtime, kinds: Sequence[Kin], stored: Fleet) -> list[Kin]:
    fleet = as_of_now(stored, rt.engine)
    return [kin for kin in kinds if reason(kin, fleet, rt.engine.codec.unnamed)]


async def _observed(rt: Runtime, query: Callable[..., R], *args: Any) -> R:
    """Run a query of an observer, which may not take longer than the configured time."""
    limit_s = rt.engine.settings.query_timeout_s
    if limit_s is None:
        return await rt.io.read(query, *args)
    try:
        return await rt.io.read(listing.within, limit_s, query, *args)
    except DBOSDatabaseError as error:
        if error.sqlstate != STATEMENT_CANCELLED:
            raise
        raise DBOSQueryTimeoutError(limit_s) from None
