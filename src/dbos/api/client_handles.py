"""Handles that a client returns: they reach the database through their client."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from dbos import validation
from dbos.api.outside import OutsideCaller
from dbos.engine.results import await_outcome
from dbos.engine.site import NOWHERE
from dbos.models import WorkflowStatus
from dbos.ops.results import existing_status


class _ClientHandle:
    def __init__(self, client: OutsideCaller, workflow_id: str) -> None:
        self._client = client
        self._workflow_id = workflow_id

    @property
    def workflow_id(self) -> str:
        return self._workflow_id

    def get_workflow_id(self) -> str:
        return self._workflow_id


class ClientHandle(_ClientHandle):
    """The handle that sync calls of a client return."""

    def get_result(self, *, polling_interval_sec: float = 1.0) -> Any:
        __tracebackhide__ = True
        recheck_s = validation.polling_interval(polling_interval_sec)
        return self._client.now(
            "get_result", lambda rt: await_outcome(rt, self._workflow_id, recheck_s)
        )

    def get_status(self) -> WorkflowStatus:
        return self._client.now(
            "get_status", lambda rt: existing_status(rt, NOWHERE, self._workflow_id)
        )


class ClientHandleAsync(_ClientHandle):
    """The handle that async calls of a client return."""

    def get_result(self, *, polling_interval_sec: float = 1.0) -> Coroutine[Any, Any, Any]:
        recheck_s = validation.polling_interval(polling_interval_sec)
        return self._client.later(lambda rt: await_outcome(rt, self._workflow_id, recheck_s))

    def get_status(self) -> Coroutine[Any, Any, WorkflowStatus]:
        return self._client.later(lambda rt: existing_status(rt, NOWHERE, self._workflow_id))
