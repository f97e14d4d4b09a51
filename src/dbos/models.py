"""The public values: what listings return and what calls take, free of behaviour."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

# No `from __future__ import annotations` here: a TypedDict learns at run time which of its keys may
# be missing, and must see `NotRequired` for that.
if TYPE_CHECKING:
    from dbos.serialization.serializer import WorkflowSerializationFormat

DuplicationPolicy = Literal["reject", "return-existing"]
"""What an enqueue does when its deduplication id is held: raise, or follow the holder."""

WorkflowIDReusePolicy = Literal["return-existing", "reject"]
"""What a start does when its workflow id is in use: follow the existing run, or raise."""


class WorkflowStatusString(Enum):
    """The seven statuses of a workflow; names equal values."""

    ENQUEUED = "ENQUEUED"
    DELAYED = "DELAYED"
    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"
    MAX_RECOVERY_ATTEMPTS_EXCEEDED = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"


class WorkflowStatus:
    """One workflow as the database shows it: a snapshot, not a live view.

    Times are integer milliseconds since the Unix epoch, by the database's clock. `vars()` holds
    exactly the attributes below, so a web framework can return the object as JSON. A stored value
    that cannot be decoded appears as its stored text and is named in `payload_errors`.
    """

    workflow_id: str
    status: str
    """One of the names of `WorkflowStatusString`."""
    name: str
    """The registered name; `<temp>.<name>` for a step or transaction that runs on its own."""
    class_name: str | None
    config_name: str | None
    """The name of the configured instance, for methods."""
    authenticated_user: str | None
    assumed_role: str | None
    authenticated_roles: list[str] | None
    input: Any
    """`{"args": tuple, "kwargs": dict}` without self or cls; None if not loaded."""
    output: Any
    error: Any
    """The exception the workflow ended with, or None."""
    created_at: int
    updated_at: int
    queue_name: str | None
    executor_id: str | None
    """The display label of the process; None until first started for client enqueues and forks."""
    app_version: str | None
    app_id: str | None
    workflow_timeout_ms: int | None
    workflow_deadline_epoch_ms: int | None
    deduplication_id: str | None
    priority: int
    """0 when unset."""
    queue_partition_key: str | None
    forked_from: str | None
    was_forked_from: bool
    parent_workflow_id: str | None
    dequeued_at: int | None
    """The last start from a queue; None if never queued, and after a cancel."""
    delay_until_epoch_ms: int | None
    completed_at: int | None
    """Set in all four terminal statuses, cleared by resume."""
    attributes: dict[str, Any] | None
    schedule_name: str | None
    application_name: str | None
    recovery_attempts: int
    """How often the workflow was started: 1 after a first run."""
    incarnation_id: str | None
    """The process that owns the workflow."""
    stranded: bool
    """Whether the workflow is active and no live process may run it."""
    stranded_reason: str | None
    payload_errors: dict[str, str] | None
    """A short text for each field that could not be decoded."""

    def __init__(self, *, workflow_id: str, status: str, name: str, **fields: Any) -> None:
        values = self.__dict__
        values.update(_STATUS_DEFAULTS)
        values.update(fields)
        if len(values) != len(_STATUS_DEFAULTS):
            unknown = ", ".join(sorted(set(fields) - set(_STATUS_DEFAULTS)))
            raise TypeError(f"WorkflowStatus has no field named {unknown}")
        self.workflow_id = workflow_id
        self.status = status
        self.name = name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WorkflowStatus):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        raise TypeError("unhashable type: 'WorkflowStatus'")

    def __repr__(self) -> str:
        """Without payloads, so that a logged status shows no user data."""
        return (
            f"WorkflowStatus(workflow_id={self.workflow_id!r}, status={self.status!r}, "
            f"name={self.name!r})"
        )


# In the order of the class, which is the order of `vars()`.
_STATUS_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    dict.fromkeys(WorkflowStatus.__annotations__)
    | {
        "created_at": 0,
        "updated_at": 0,
        "priority": 0,
        "recovery_attempts": 0,
        "was_forked_from": False,
        "stranded": False,
    }
)


@dataclass(frozen=True, slots=True)
class WorkflowFilter:
    """Which workflows a list is about. None means: any. Instants are inclusive, in ms."""

    workflow_ids: tuple[str, ...] | None = None
    status: tuple[str, ...] | None = None
    name: tuple[str, ...] | None = None
    app_version: tuple[str, ...] | None = None
    forked_from: tuple[str, ...] | None = None
    parent_workflow_id: tuple[str, ...] | None = None
    user: tuple[str, ...] | None = None
    queue_name: tuple[str, ...] | None = None
    executor_id: tuple[str, ...] | None = None
    schedule_name: tuple[str, ...] | None = None
    application_names: tuple[str, ...] | None = None
    """Workflows of these applications and those that nobody owns."""
    created_from_ms: int | None = None
    created_until_ms: int | None = None
    completed_from_ms: int | None = None
    completed_until_ms: int | None = None
    dequeued_from_ms: int | None = None
    dequeued_until_ms: int | None = None
    workflow_id_prefix: tuple[str, ...] | None = None
    attributes: str | None = None
    """A JSON object that must be contained in the workflow's attributes."""
    was_forked_from: bool | None = None
    has_parent: bool | None = None
    is_fork: bool | None = None
    stranded: bool | None = None
    queues_only: bool = False
    sort_desc: bool = False
    load_input: bool = True
    load_output: bool = True
    limit: int | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class ExecutorInfo:
    """One launched engine, live or expired, as the database knows it."""

    incarnation_id: str
    executor_id: str
    """Its display label, which others may share."""
    application_name: str | None
    application_version: str
    host: str
    """Equal texts mean the same host and the same pid namespace."""
    pid: int
    started_at: int
    """Milliseconds since the epoch."""
    lease_left_ms: int
    """Negative once the lease has expired: then anyone may take over what it owns."""
    runs_owned: int
    """How many PENDING workflows it owns."""

    @property
    def is_live(self) -> bool:
        return self.lease_left_ms > 0


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """One background loop of this process."""

    name: str
    is_running: bool
    last_tick_ms: int | None
    """When it last did its work without an error, in milliseconds since the epoch."""
    failures: int
    """Failed attempts since then."""
    restarts: int
    """Failed attempts in all: after each it began again."""


@dataclass(frozen=True, slots=True)
class Health:
    """How this process is: nothing in it waits for a database that is away."""

    is_database_reachable: bool
    is_lease_held: bool
    services: tuple[ServiceHealth, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether the database answers, the lease is held and no background loop is failing."""
        return (
            self.is_database_reachable
            and self.is_lease_held
            and all(service.is_running and not service.failures for service in self.services)
        )


class StepInfo(TypedDict):
    """One recorded operation of a workflow."""

    function_id: int
    """The step id, counted from 1."""
    function_name: str
    output: Any
    error: Any
    child_workflow_id: str | None
    started_at_epoch_ms: int | None
    completed_at_epoch_ms: int | None
    payload_errors: NotRequired[dict[str, str]]
    """Present only where a stored value could not be decoded: a short text per field."""


class VersionInfo(TypedDict):
    """A registered version of an application. Times are milliseconds since the epoch."""

    version_id: str
    version_name: str
    version_timestamp: int
    created_at: int
    application_name: str | None


@dataclass(frozen=True, slots=True)
class SendMessage:
    """One message of a `send_bulk`. The idempotency key counts per destination."""

    destination_id: str
    message: Any
    topic: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class StepStatus:
    """Where a step stands, as its body sees it: attempts count from 0, None without retries."""

    step_id: int
    current_attempt: int | None
    max_attempts: int | None


class StepOptions(TypedDict, total=False):
    """The options of `DBOS.run_step`, with the meaning and defaults of `@DBOS.step`. In seconds."""

    name: str | None
    retries_allowed: bool
    interval_seconds: float
    max_attempts: int
    backoff_rate: float
    should_retry: Callable[[BaseException], bool | Awaitable[bool]] | None
    preemptible: bool
    timeout_seconds: float | None


class QueueRateLimit(TypedDict):
    """At most `limit` starts in any window of `period` seconds, over all processes."""

    limit: int
    period: float


class EnqueueOptions(TypedDict):
    """What to enqueue, by name, and how. A key set to None counts as unset; times are seconds."""

    workflow_name: str
    queue_name: str
    workflow_id: NotRequired[str | None]
    app_version: NotRequired[str | None]
    """Only a process of this version may run it; by default the latest version does."""
    workflow_timeout: NotRequired[float | None]
    delay_seconds: NotRequired[float | None]
    deduplication_id: NotRequired[str | None]
    duplication_policy: NotRequired[DuplicationPolicy | None]
    priority: NotRequired[int | None]
    """1 to 2147483647, the lowest first; unset comes before all."""
    max_recovery_attempts: NotRequired[int | None]
    """Accepted without effect: the workflow's own limit counts."""
    queue_partition_key: NotRequired[str | None]
    authenticated_user: NotRequired[str | None]
    authenticated_roles: NotRequired[list[str] | None]
    serialization_type: NotRequired["WorkflowSerializationFormat | None"]
    class_name: NotRequired[str | None]
    instance_name: NotRequired[str | None]
    attributes: NotRequired[dict[str, Any] | None]
    application_name: NotRequired[str | None]
    otel_context: NotRequired[Any]
    workflow_id_reuse_policy: NotRequired[WorkflowIDReusePolicy | None]


class WorkflowSchedule(TypedDict):
    """A stored schedule."""

    schedule_id: str
    schedule_name: str
    workflow_name: str
    workflow_class_name: str | None
    schedule: str
    """The cron expression."""
    status: str
    """`ACTIVE` or `PAUSED`."""
    context: Any
    last_fired_at: str | None
    automatic_backfill: bool
    cron_timezone: str | None
    queue_name: str | None
    application_name: str | None
    payload_errors: NotRequired[dict[str, str]]
    """Present only where the context could not be decoded: a short text per field."""


class ScheduleInput(TypedDict):
    """One entry of `DBOS.apply_schedules`."""

    schedule_name: str
    workflow_fn: Callable[..., Any]
    schedule: str
    context: NotRequired[Any]
    automatic_backfill: NotRequired[bool]
    cron_timezone: NotRequired[str | None]
    queue_name: NotRequired[str | None]


class ClientScheduleInput(TypedDict):
    """One entry of `DBOSClient.apply_schedules`: the workflow is given by name."""

    schedule_name: str
    workflow_name: str
    schedule: str
    context: NotRequired[Any]
    workflow_class_name: NotRequired[str | None]
    automatic_backfill: NotRequired[bool]
    cron_timezone: NotRequired[str | None]
    queue_name: NotRequired[str | None]
    application_name: NotRequired[str | None]


class DatasourceOptions(TypedDict, total=False):
    """Options of one transaction of a datasource."""

    name: str | None
    """Recorded name; default: the function's qualified name."""
    isolation_level: Literal["SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"]
    """Default SERIALIZABLE; SQLite always is."""
