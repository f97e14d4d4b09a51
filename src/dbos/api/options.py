"""The `with` blocks that set ids, timeouts and options for the workflows started inside them."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from dbos import validation
from dbos.api.slot import around
from dbos.engine.context import (
    ArmedId,
    Authentication,
    EnqueueSettings,
    Scope,
    Timeout,
    current_scope,
    enter_block,
    leave_block,
    on_behalf_of,
    with_options,
)
from dbos.errors import DBOSException
from dbos.models import DuplicationPolicy, WorkflowIDReusePolicy


class _OptionBlock:
    """A block under changed ambient options, restored on exit. It never swallows an exception."""

    def _changes(self) -> dict[str, Any]:
        raise NotImplementedError

    def _within(self, scope: Scope) -> Scope:
        return with_options(scope, **self._changes())

    def __enter__(self) -> None:
        enter_block(self._within(current_scope()), self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leave_block(self)


class SetWorkflowID(_OptionBlock):
    """Give the first workflow that is started in the block this id.

    The same id means the same execution: if it exists, its outcome is returned and nothing runs
    again. Later workflows of the block get fresh ids. An id that was not used ends with the block.

    Args:
        wfid: not empty, at most 1,000 characters.
        workflow_id_reuse_policy: `"reject"` raises `DBOSWorkflowIDInUseError` if the id is in use;
            default `"return-existing"`.

    Raises:
        DBOSInvalidInputError: the id or the policy is not valid.
    """

    def __init__(
        self, wfid: str, *, workflow_id_reuse_policy: WorkflowIDReusePolicy | None = None
    ) -> None:
        self._id = validation.workflow_id(wfid)
        self._reuse: WorkflowIDReusePolicy = (
            "return-existing"
            if workflow_id_reuse_policy is None
            else validation.workflow_id_reuse_policy(workflow_id_reuse_policy)
        )

    def _changes(self) -> dict[str, Any]:
        return {"armed_id": ArmedId(self._id, self._reuse)}


class SetWorkflowTimeout(_OptionBlock):
    """Give every workflow that is called, started or enqueued in the block a timeout.

    At its deadline, which is durable and counted by the database's clock, the workflow is
    cancelled. Children inherit the deadline. None clears an inherited timeout and deadline.

    Args:
        workflow_timeout_sec: seconds, greater than 0.

    Raises:
        DBOSInvalidInputError: "Timeouts must be positive", or not a finite number.
    """

    def __init__(self, workflow_timeout_sec: float | None) -> None:
        self._timeout = Timeout(
            None
            if workflow_timeout_sec is None
            else validation.positive_timeout(workflow_timeout_sec, "workflow_timeout_sec")
        )

    def _changes(self) -> dict[str, Any]:
        return {"timeout": self._timeout}


class SetEnqueueOptions(_OptionBlock):
    """Say how workflows are enqueued in the block. Every option counts, also those left out.

    Direct calls in the block ignore the options; `start_workflow` refuses all but `app_version`.
    Children do not take them over.

    Args:
        deduplication_id: while an active workflow on the same queue has it, another is refused.
        priority: 1 to 2147483647, the lowest first; None comes before all.
        app_version: only a process of this version may run the workflow; default: the enqueuer's.
        queue_partition_key: the key whose limits or order the workflow comes under.
        delay_seconds: not to be started earlier; counted from the construction of this object.
        duplication_policy: `"reject"` raises `DBOSQueueDeduplicatedError` if the id is held;
            `"return-existing"` follows the holder; default `"reject"`.

    Raises:
        DBOSInvalidInputError: an option is out of range; "Invalid priority" and the like.
    """

    def __init__(
        self,
        *,
        deduplication_id: str | None = None,
        priority: int | None = None,
        app_version: str | None = None,
        queue_partition_key: str | None = None,
        delay_seconds: float | None = None,
        duplication_policy: DuplicationPolicy | None = None,
    ) -> None:
        identifier = validation.optional_identifier
        delay_s = (
            None if delay_seconds is None else validation.duration(delay_seconds, "delay_seconds")
        )
        self._settings = EnqueueSettings(
            deduplication_id=identifier(deduplication_id, "deduplication_id"),
            priority=validation.priority(priority),
            app_version=identifier(app_version, "app_version"),
            queue_partition_key=identifier(queue_partition_key, "queue_partition_key"),
            delay_until_ms=None if delay_s is None else _now_ms() + round(delay_s * 1000),
            duplication_policy=validation.duplication_policy(duplication_policy),
        )

    def _changes(self) -> dict[str, Any]:
        return {"enqueue": self._settings}


class SetWorkflowAttributes(_OptionBlock):
    """Attach attributes to every workflow started in the block; children do not inherit them.

    Args:
        attributes: a JSON-serializable dict, or None for none.

    Raises:
        DBOSInvalidInputError: "must be a dict", "must be JSON-serializable".
    """

    def __init__(self, attributes: dict[str, Any] | None) -> None:
        validation.attributes(attributes)
        self._attributes = attributes

    def _changes(self) -> dict[str, Any]:
        return {"attributes": self._attributes}


class DBOSContextEnsure(_OptionBlock):
    """Have a DBOS context for the length of the block, created if there is none."""

    def _changes(self) -> dict[str, Any]:
        return {}


class DBOSContextSetAuth(_OptionBlock):
    """Make the calls of the block for a user: their workflows record and inherit it.

    Args:
        user: the user's name, or None.
        roles: what the user may act as; None: nothing is known of it.

    Raises:
        DBOSInvalidInputError: the user is no str, or the roles are no list of str.
    """

    def __init__(self, user: str | None, roles: list[str] | None) -> None:
        self._authentication = authentication(user, roles)

    def _within(self, scope: Scope) -> Scope:
        return on_behalf_of(scope, self._authentication)


def authentication(user: str | None, roles: list[str] | None) -> Authentication:
    """A checked user, who has not assumed a role yet."""
    known = validation.roles(roles, "roles")
    return Authentication(
        validation.optional_label(user, "user"), None if known is None else tuple(known)
    )


def _now_ms() -> int:
    """The database's clock; before launch the host's, which is the best there is."""
    try:
        return around().blocking.io.now_ms()
    except DBOSException:
        return time.time_ns() // 1_000_000
