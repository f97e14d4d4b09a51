"""Every error a caller can meet: one hierarchy, its codes and its messages.

`str()` of an error is `DBOS Error {code}: {message}`. Every class keeps its type, `args`,
attributes and text when it is pickled or stored, whatever the signature of its constructor.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any


class DBOSErrorCode(Enum):
    """The numbers that identify errors in texts and in responses of the web integrations."""

    WorkflowConflictID = 1
    Recovery = 2
    Initialization = 3
    WorkflowFunctionNotFound = 4
    NonExistentWorkflow = 5
    MaxRecoveryAttemptsExceeded = 6
    MaxStepRetriesExceeded = 7
    NotAuthorized = 8
    ConflictingWorkflow = 9
    WorkflowCancelled = 10
    UnexpectedStep = 11
    QueueDeduplicated = 12
    AwaitedWorkflowCancelled = 13
    AwaitedWorkflowMaxRecoveryAttemptsExceeded = 14
    PatchNondeterminism = 15
    StreamTimeout = 16
    StreamNondeterminism = 17
    StepTimeout = 18
    ConflictingRegistration = 25
    QueryTimeout = 26
    WorkflowIDInUse = 27
    StepNondeterminism = 28
    Serialization = 100
    InvalidInput = 101
    Usage = 102
    EventLoop = 103
    StoredData = 104
    Database = 105
    Type = 106


class _CodedError(BaseException):
    """What `DBOSException` and `DBOSBaseException` share."""

    message: str
    dbos_error_code: int | None
    status_code: int | None

    def __init__(self, message: str, dbos_error_code: int | DBOSErrorCode | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.dbos_error_code = (
            dbos_error_code.value if isinstance(dbos_error_code, DBOSErrorCode) else dbos_error_code
        )
        self.status_code = None

    def __str__(self) -> str:
        if self.dbos_error_code is None:
            return f"DBOS Error: {self.message}"
        return f"DBOS Error {self.dbos_error_code}: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructors take other things than `args`, so copies are made without them.
        return _remake, (type(self), self.args), self.__dict__


def _remake(kind: type[BaseException], args: tuple[object, ...]) -> BaseException:
    error = kind.__new__(kind)
    error.args = args
    return error


class DBOSException(_CodedError, Exception):
    """The root of the errors of this package, save two that must pass `except Exception`.

    `message` is the text without the code, `dbos_error_code` an int or None, and `status_code` the
    HTTP status a web integration answers with, or None for 500.
    """


class DBOSBaseException(_CodedError):
    """A signal to the engine, not to be hidden by `except Exception`. Do not catch it."""


class DBOSWorkflowConflictIDError(DBOSBaseException):
    """This execution no longer owns its workflow: another process has taken it over."""

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        super().__init__(
            f"This execution no longer owns workflow {workflow_id}; another one carries it on",
            DBOSErrorCode.WorkflowConflictID,
        )


class DBOSWorkflowCancelledError(DBOSBaseException):
    """Raised inside a workflow that was cancelled, at its next operation."""

    def __init__(self, msg: str) -> None:
        self.msg = msg
        super().__init__(msg, DBOSErrorCode.WorkflowCancelled)


class DBOSRecoveryError(DBOSException):
    """A stored workflow cannot be run as it is stored."""

    def __init__(self, workflow_id: str, message: str | None = None) -> None:
        self.workflow_id = workflow_id
        super().__init__(
            f"Workflow {workflow_id} cannot be run: {message or 'its record is not usable'}",
            DBOSErrorCode.Recovery,
        )


class DBOSInitializationError(DBOSException):
    """The configuration is wrong, or the database schema is missing, behind or not ours."""

    def __init__(self, message: str) -> None:
        super().__init__(message, DBOSErrorCode.Initialization)


class DBOSWorkflowFunctionNotFoundError(DBOSException):
    """The function, class or instance of a workflow is not registered in this process."""

    def __init__(self, workflow_id: str, message: str | None = None) -> None:
        self.workflow_id = workflow_id
        super().__init__(
            f"Workflow {workflow_id}: {message or 'its function is not registered here'}",
            DBOSErrorCode.WorkflowFunctionNotFound,
        )


class DBOSNonExistentWorkflowError(DBOSException):
    """No workflow has the given id."""

    def __init__(self, destination: str, destination_id: str) -> None:
        self.destination = destination
        self.destination_id = destination_id
        super().__init__(
            f"Non-existent {destination} workflow ID: {destination_id}",
            DBOSErrorCode.NonExistentWorkflow,
        )


class MaxRecoveryAttemptsExceededError(DBOSException):
    """A workflow was started too often without finishing and is now dead-lettered."""

    def __init__(self, wf_id: str, max_retries: int | None = None) -> None:
        self.wf_id = wf_id
        self.max_retries = max_retries
        limit = "" if max_retries is None else f" of {max_retries}"
        super().__init__(
            f"Workflow {wf_id} has exceeded its maximum{limit} recovery attempts; "
            "resume or fork it to run it again",
            DBOSErrorCode.MaxRecoveryAttemptsExceeded,
        )


class DBOSMaxStepRetriesExceeded(DBOSException):
    """All attempts of a step failed. `errors` holds what each attempt raised, in order."""

    def __init__(self, step_name: str, max_retries: int, errors: Sequence[BaseException]) -> None:
        self.step_name = step_name
        self.max_retries = max_retries
        self.errors: list[BaseException] = list(errors)
        super().__init__(
            f"Step {step_name} has exceeded its maximum of {max_retries} retries; "
            "see the attribute errors for what each attempt raised",
            DBOSErrorCode.MaxStepRetriesExceeded,
        )


class DBOSNotAuthorizedError(DBOSException):
    """The caller lacks a role that the function requires. Its `status_code` is 403."""

    def __init__(self, msg: str) -> None:
        self.msg = msg
        super().__init__(msg, DBOSErrorCode.NotAuthorized)
        self.status_code: int | None = 403


class DBOSConflictingWorkflowError(DBOSException):
    """The workflow id belongs to a run of another function, class or instance."""

    def __init__(self, workflow_id: str, message: str | None = None) -> None:
        self.workflow_id = workflow_id
        reason = message or "already exists with a different function, class or instance"
        super().__init__(f"Workflow {workflow_id}: {reason}", DBOSErrorCode.ConflictingWorkflow)


class DBOSUnexpectedStepError(DBOSException):
    """Replay met an operation other than the recorded one."""

    def __init__(
        self, workflow_id: str, step_id: int, expected_name: str, recorded_name: str
    ) -> None:
        self.workflow_id = workflow_id
        self.step_id = step_id
        self.expected_name = expected_name
        self.recorded_name = recorded_name
        super().__init__(
            f"During execution of workflow {workflow_id}, step {step_id} is {expected_name}, but "
            f"the record says {recorded_name}. Check that your workflow is deterministic. If its "
            "code changed, guard the change with DBOS.patch, fork the workflow, or pin the "
            "application version that started it",
            DBOSErrorCode.UnexpectedStep,
        )


class DBOSQueueDeduplicatedError(DBOSException):
    """An active workflow on the queue already holds the deduplication id."""

    def __init__(self, workflow_id: str, queue_name: str, deduplication_id: str) -> None:
        self.workflow_id = workflow_id
        self.queue_name = queue_name
        self.deduplication_id = deduplication_id
        super().__init__(
            f"Workflow {workflow_id} was not enqueued: on queue {queue_name} another active "
            f"workflow has the deduplication ID {deduplication_id}",
            DBOSErrorCode.QueueDeduplicated,
        )


class DBOSAwaitedWorkflowCancelledError(DBOSException):
    """The workflow whose result was awaited was cancelled."""

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        super().__init__(
            f"Awaited workflow {workflow_id} was cancelled", DBOSErrorCode.AwaitedWorkflowCancelled
        )


class DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded(DBOSException):
    """The workflow whose result was awaited is dead-lettered."""

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        super().__init__(
            f"Awaited workflow {workflow_id} exceeded the maximum number of recovery attempts",
            DBOSErrorCode.AwaitedWorkflowMaxRecoveryAttemptsExceeded,
        )


class DBOSPatchNondeterminismError(DBOSException):
    """Overlapping `patch_async` calls whose outcome would depend on scheduling."""

    def __init__(self, workflow_id: str, patch_name: str, details: str) -> None:
        self.workflow_id = workflow_id
        self.patch_name = patch_name
        self.details = details
        super().__init__(
            f"Patch {patch_name} of workflow {workflow_id} was called concurrently with other "
            f"operations: {details}. Await each patch before starting the next operation",
            DBOSErrorCode.PatchNondeterminism,
        )


class DBOSStreamTimeoutError(DBOSException):
    """No value arrived on a stream in time, or the stream ended before the wanted offset."""

    def __init__(self, workflow_id: str, key: str, timeout_seconds: float | None = None) -> None:
        self.workflow_id = workflow_id
        self.key = key
        self.timeout_seconds = timeout_seconds
        limit = (
            "before it ended" if timeout_seconds is None else f"within {timeout_seconds} seconds"
        )
        super().__init__(
            f"No value arrived on stream {key} of workflow {workflow_id} {limit}",
            DBOSErrorCode.StreamTimeout,
        )


class DBOSStreamNondeterminismError(DBOSException):
    """Overlapping recorded reads of streams in one workflow."""

    def __init__(self, workflow_id: str, key: str) -> None:
        self.workflow_id = workflow_id
        self.key = key
        super().__init__(
            f"Workflow {workflow_id} reads stream {key} concurrently with another recorded stream "
            "read; finish one before starting the next, or read in a step",
            DBOSErrorCode.StreamNondeterminism,
        )


class DBOSStepTimeoutError(DBOSException):
    """One attempt of an async step took longer than its timeout."""

    def __init__(self, step_name: str, timeout_seconds: float) -> None:
        self.step_name = step_name
        self.timeout_seconds = timeout_seconds
        super().__init__(
            f"Step {step_name} timed out after {timeout_seconds} seconds",
            DBOSErrorCode.StepTimeout,
        )


class DBOSConflictingRegistrationError(DBOSException):
    """One name was given to two kinds of function: workflow, step, transaction."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"Operation {name} is already registered with a conflicting function type",
            DBOSErrorCode.ConflictingRegistration,
        )


class DBOSQueryTimeoutError(DBOSException):
    """A listing or status query took longer than `observability_query_timeout_sec`."""

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        super().__init__(
            f"The query took longer than {timeout_seconds} seconds and was stopped; narrow its "
            "filters or raise observability_query_timeout_sec",
            DBOSErrorCode.QueryTimeout,
        )


class DBOSWorkflowIDInUseError(DBOSException):
    """The id already belongs to a workflow, and the id reuse policy is "reject"."""

    def __init__(self, workflow_id: str, workflow_status: str, workflow_name: str) -> None:
        self.workflow_id = workflow_id
        self.workflow_status = workflow_status
        self.workflow_name = workflow_name
        super().__init__(
            f"Workflow ID {workflow_id} is already in use by a run of {workflow_name} with status "
            f"{workflow_status}",
            DBOSErrorCode.WorkflowIDInUse,
        )


class DBOSStepNondeterminismError(DBOSException):
    """One execution recorded one step id twice, with different results."""

    def __init__(self, workflow_id: str, step_id: int) -> None:
        self.workflow_id = workflow_id
        self.step_id = step_id
        super().__init__(
            f"Step {step_id} of workflow {workflow_id} was recorded twice by one execution, with "
            "different results",
            DBOSErrorCode.StepNondeterminism,
        )


class DBOSSerializationError(DBOSException, TypeError):
    """A value cannot be stored, or a stored format or class is not available in this process.

    `path` says where the value sits, as in `args[0].client`, and `type_name` what it is.
    """

    def __init__(self, message: str, path: str | None = None, type_name: str | None = None) -> None:
        self.path = path
        self.type_name = type_name
        super().__init__(message, DBOSErrorCode.Serialization)


class DBOSInvalidInputError(DBOSException, ValueError):
    """An argument is outside its allowed range or form. Nothing was written."""

    def __init__(self, message: str) -> None:
        super().__init__(message, DBOSErrorCode.InvalidInput)


class DBOSUsageError(DBOSException, AssertionError):
    """A call at a place where it is not allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, DBOSErrorCode.Usage)


class DBOSEventLoopError(DBOSException, RuntimeError):
    """A blocking call on a running event loop, or a loop that is missing."""

    def __init__(self, message: str) -> None:
        super().__init__(message, DBOSErrorCode.EventLoop)


class DBOSStoredDataError(DBOSException):
    """Stored bytes cannot be decoded. It concerns the named field of the named workflow only."""

    def __init__(
        self,
        message: str,
        workflow_id: str | None = None,
        step_id: int | None = None,
        field: str | None = None,
    ) -> None:
        self.workflow_id = workflow_id
        self.step_id = step_id
        self.field = field
        super().__init__(message, DBOSErrorCode.StoredData)


class DBOSDatabaseError(DBOSException):
    """A database fault that waiting does not cure. `sqlstate` is the server's code, or None."""

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        self.sqlstate = sqlstate
        super().__init__(message, DBOSErrorCode.Database)


class DBOSTypeError(DBOSException, TypeError):
    """An argument is of the wrong kind."""

    def __init__(self, message: str) -> None:
        super().__init__(message, DBOSErrorCode.Type)


class RestoredError(Exception):
    """Stands for a stored error whose class is not available in this process.

    `name` is the original `module.QualName`, `str()` its message, `args` its arguments as far as
    they could be stored.
    """

    def __init__(self, name: str, message: str, args: tuple[object, ...]) -> None:
        super().__init__(*args)
        self.name = name
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return RestoredError, (self.name, self.message, self.args), self.__dict__


class PortableWorkflowError(Exception):
    """The error of a workflow stored in the portable format, as every language can read it."""

    def __init__(
        self, message: str, name: str, code: int | str | None = None, data: Any = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.name = name
        self.code = code
        self.data = data

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.message, self.name, self.code, self.data)
        return PortableWorkflowError, arguments, self.__dict__

    def to_error_data(self) -> dict[str, Any]:
        """Return `name`, `message`, `code` and `data`, without those that are None."""
        fields = {
            "name": self.name,
            "message": self.message,
            "code": self.code,
            "data": self.data,
        }
        return {key: value for key, value in fields.items() if value is not None}
