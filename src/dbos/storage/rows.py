"""The rows that cross the storage seam: what callers write and what queries give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

RUN_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "workflow_uuid": "text",
        "status": "text",
        "name": "text",
        "class_name": "text",
        "config_name": "text",
        "authenticated_user": "text",
        "assumed_role": "text",
        "authenticated_roles": "text",
        "inputs": "text",
        "serialization": "text",
        "executor_id": "text",
        "application_version": "text",
        "application_id": "text",
        "application_name": "text",
        "queue_name": "text",
        "workflow_timeout_ms": "integer",
        "workflow_deadline_epoch_ms": "integer",
        "deduplication_id": "text",
        "priority": "integer",
        "queue_partition_key": "text",
        "owner_xid": "text",
        "incarnation_id": "text",
        "code_hash": "text",
        "parent_workflow_id": "text",
        "attributes": "json",
        "delay_until_epoch_ms": "integer",
        "schedule_name": "text",
        "recovery_attempts": "integer",
        "is_debounced": "boolean",
        "debounce_deadline_epoch_ms": "integer",
    }
)

STEP_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "workflow_uuid": "text",
        "function_id": "integer",
        "function_name": "text",
        "output": "text",
        "error": "text",
        "child_workflow_id": "text",
        "started_at_epoch_ms": "integer",
        "completed_at_epoch_ms": "integer",
        "serialization": "text",
        "application_name": "text",
        "record_order": "integer",
        "claim": "text",
    }
)


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to create. Field names are the columns' names, so that a batch is one JSON text."""

    workflow_uuid: str
    status: str
    name: str
    inputs: str
    serialization: str
    owner_xid: str
    application_name: str | None
    application_version: str | None
    application_id: str = ""
    class_name: str | None = None
    config_name: str | None = None
    executor_id: str | None = None
    incarnation_id: str | None = None
    code_hash: str | None = None
    authenticated_user: str | None = None
    assumed_role: str | None = None
    authenticated_roles: str | None = None
    queue_name: str | None = None
    workflow_timeout_ms: int | None = None
    workflow_deadline_epoch_ms: int | None = None
    deduplication_id: str | None = None
    priority: int = 0
    queue_partition_key: str | None = None
    parent_workflow_id: str | None = None
    attributes: str | None = None
    delay_until_epoch_ms: int | None = None
    schedule_name: str | None = None
    recovery_attempts: int = 0
    is_debounced: bool = False
    debounce_deadline_epoch_ms: int | None = None


class StepRow(msgspec.Struct, frozen=True, gc=False):
    """A finished operation of a run, to be recorded under the claim that ran it.

    A struct and not a dataclass: one is made for every step, ten times as fast.
    """

    workflow_uuid: str
    function_id: int
    function_name: str
    output: str | None
    error: str | None
    serialization: str | None
    started_at_epoch_ms: int
    completed_at_epoch_ms: int
    record_order: int
    claim: str
    child_workflow_id: str | None = None
    application_name: str | None = None


class Admitted(NamedTuple):
    """The run as it stands after an admission: the new one, or the one that had the id already."""

    workflow_id: str
    status: str
    name: str | None
    class_name: str | None
    config_name: str | None
    queue_name: str | None
    claim: str | None
    output: str | None
    error: str | None
    serialization: str | None


class Recorded(NamedTuple):
    """What became of a record: kept, refused for want of the claim, or at odds with another."""

    verdict: Literal["kept", "lost", "cancelled", "conflict"]
    status: str | None


@dataclass(frozen=True, slots=True)
class ChildLaunch:
    """A child run and its parent's record of the launch: both or neither become durable."""

    child: NewRun
    record: StepRow


class Launched(NamedTuple):
    recorded: Recorded | None
    """None for a launch that fails: it is not recorded."""
    admitted: Admitted | None


@dataclass(frozen=True, slots=True)
class FinishRow:
    """The outcome of a run, to be written while the claim holds and the run is PENDING."""

    workflow_uuid: str
    status: str
    output: str | None
    error: str | None
    claim: str
    queue: str | None = None
    """The queue on which its end may let another run start."""


class Outcome(NamedTuple):
    """A run's status and stored outcome, undecoded."""

    workflow_id: str
    status: str
    output: str | None
    error: str | None
    serialization: str | None


class RecordedStep(NamedTuple):
    """One operation of a run's history, undecoded."""

    workflow_id: str
    step_id: int
    name: str
    output: str | None
    error: str | None
    child_workflow_id: str | None
    serialization: str | None
    order: int | None
    started_at_ms: int | None
    completed_at_ms: int | None


class ClaimedRun(NamedTuple):
    """A run as its claim returns it: everything an attempt needs."""

    workflow_id: str
    name: str
    class_name: str | None
    config_name: str | None
    inputs: str | None
    serialization: str | None
    claim: str
    recovery_attempts: int
    queue_name: str | None
    timeout_ms: int | None
    deadline_ms: int | None
    authenticated_user: str | None
    assumed_role: str | None
    authenticated_roles: str | None
    parent_workflow_id: str | None
    partition_key: str | None = None
    returns: int = 0
    """How often in a row its claims were given back."""
    holds_slot: bool = False
    """Whether others of its queue may have to wait for its end."""


@dataclass(frozen=True, slots=True)
class ExecutorRow:
    """One incarnation's row in `perdure_executors`."""

    incarnation_id: str
    executor_id: str
    application_name: str | None
    application_version: str
    version_policy: str
    host: str
    pid: int
    process_started: str
    lease_ms: int
    capabilities: str


class LiveExecutor(NamedTuple):
    """What peers need to know of an incarnation."""

    incarnation_id: str
    executor_id: str
    host: str
    pid: int
    process_started: str
    lease_until_ms: int
