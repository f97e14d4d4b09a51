"""Handles: a run's id, and the ways to ask for its result and status."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, Generic, Protocol, TypeVar

from dbos import validation
from dbos.api.slot import around
from dbos.api.twins import refuse_under_a_loop
from dbos.engine.engine import Runtime
from dbos.engine.execution import Execution
from dbos.engine.site import Site, here, refuse_in_transaction
from dbos.engine.starts import GET_RESULT, Awaited, await_background, recorded_result
from dbos.errors import DBOSInvalidInputError
from dbos.models import WorkflowStatus
from dbos.ops.results import existing_status
from dbos.runtime.drive import drive

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")
H = TypeVar("H")

NO_HANDLES = "handles must be a list of workflow handles: retrieve_workflow() gives one for an id"


class WorkflowHandle(Protocol[R_co]):
    """A workflow that was started or looked up. Not serializable: pass its `workflow_id`."""

    @property
    def workflow_id(self) -> str:
        """The workflow's id."""
        ...

    def get_workflow_id(self) -> str:
        """The workflow's id. Not a step."""
        ...

    def get_result(self, *, polling_interval_sec: float = 1.0) -> R_co:
        """Wait without limit for the workflow to end; its result, or its error raised.

        In workflow code this is a recorded step: a replay returns the same outcome.

        Args:
            polling_interval_sec: how late a completion that rings no bell is noticed, at the most.

        Raises:
            DBOSAwaitedWorkflowCancelledError: it was cancelled.
            DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded: it is dead-lettered.
            DBOSNonExistentWorkflowError: it was deleted meanwhile.
        """
        ...

    def get_status(self) -> WorkflowStatus:
        """The workflow's status now.

        Raises:
            DBOSNonExistentWorkflowError: there is no such workflow.
        """
        ...


class WorkflowHandleAsync(Protocol[R_co]):
    """The async twin of `WorkflowHandle`: `get_result` and `get_status` are awaited."""

    @property
    def workflow_id(self) -> str:
        """The workflow's id."""
        ...

    def get_workflow_id(self) -> str:
        """The workflow's id. Not a step."""
        ...

    def get_result(self, *, polling_interval_sec: float = 1.0) -> Coroutine[Any, Any, R_co]:
        """As `WorkflowHandle.get_result`, awaited. The wait holds no thread."""
        ...

    def get_status(self) -> Coroutine[Any, Any, WorkflowStatus]:
        """As `WorkflowHandle.get_status`, awaited."""
        ...


class SyncHandle(Generic[R]):
    """The handle that sync calls return."""

    def __init__(self, workflow_id: str, mine: Execution | None = None) -> None:
        self._workflow_id = workflow_id
        self._mine = mine

    @property
    def workflow_id(self) -> str:
        return self._workflow_id

    def get_workflow_id(self) -> str:
        return self._workflow_id

    def get_result(self, *, polling_interval_sec: float = 1.0) -> R:
        __tracebackhide__ = True
        recheck_s = validation.polling_interval(polling_interval_sec)
        refuse_under_a_loop("get_result")
        site = here(1)
        rt = around().blocking
        result: R = drive(_result(rt, site, self._workflow_id, self._mine, recheck_s))
        return result

    def get_status(self) -> WorkflowStatus:
        refuse_under_a_loop("get_status")
        site = here(1)
        return drive(existing_status(around().blocking, site, self._workflow_id))


class AsyncHandle(Generic[R]):
    """The handle that async calls return."""

    def __init__(self, workflow_id: str, mine: Execution | None = None) -> None:
        self._workflow_id = workflow_id
        self._mine = mine

    @property
    def workflow_id(self) -> str:
        return self._workflow_id

    def get_workflow_id(self) -> str:
        return self._workflow_id

    def get_result(self, *, polling_interval_sec: float = 1.0) -> Coroutine[Any, Any, R]:
        recheck_s = validation.polling_interval(polling_interval_sec)
        site = here(1)
        return _result(around().aio, site, self._workflow_id, self._mine, recheck_s)

    def get_status(self) -> Coroutine[Any, Any, WorkflowStatus]:
        site = here(1)
        return existing_status(around().aio, site, self._workflow_id)


def listed(handles: Iterable[H]) -> list[H]:
    """The handles that a caller passes, checked."""
    try:
        given = list(handles)
    except TypeError:
        raise DBOSInvalidInputError(NO_HANDLES) from None
    if not all(_is_handle(handle) for handle in given):
        raise DBOSInvalidInputError(NO_HANDLES)
    if not given:
        raise DBOSInvalidInputError("handles must not be empty: pass at least one handle")
    return given


def _is_handle(handle: object) -> bool:
    return isinstance(getattr(handle, "workflow_id", None), str)


async def _result(
    rt: Runtime, site: Site, workflow_id: str, mine: Execution | None, recheck_s: float
) -> Any:
    __tracebackhide__ = True
    refuse_in_transaction(site, GET_RESULT)
    if site.run is not None:
        awaited = Awaited(workflow_id, mine, recheck_s=recheck_s)
        return await recorded_result(rt, site.run, site.step_id, awaited)
    return await await_background(rt, workflow_id, mine, recheck_s)
