"""Reading runs and their steps as users list them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dbos.storage.protocol import SingleRead, Statement, Tx


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


BY_IDS = Statement(
    """
    SELECT workflow_uuid, status, name, class_name, config_name, authenticated_user, assumed_role,
        authenticated_roles, inputs, output, error, serialization, created_at, updated_at,
        completed_at, queue_name, executor_id, application_version, application_id,
        workflow_timeout_ms, workflow_deadline_epoch_ms, deduplication_id, priority,
        queue_partition_key, forked_from, was_forked_from, parent_workflow_id, started_at_epoch_ms,
        delay_until_epoch_ms, attributes, schedule_name, application_name, recovery_attempts,
        incarnation_id
    FROM {workflow_status} WHERE workflow_uuid {any_of(workflow_ids)}
    ORDER BY created_at, workflow_uuid
    """
)


@SingleRead
def by_ids(tx: Tx, workflow_ids: Sequence[str]) -> list[RunRow]:
    """The runs of these ids, oldest first."""
    return [RunRow(*row) for row in tx.all(BY_IDS, workflow_ids=list(workflow_ids))]
