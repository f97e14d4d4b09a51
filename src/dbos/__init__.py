"""Perdure: durable execution for Python. Import name and interface are those of DBOS Transact."""

from dbos import error
from dbos.api.dbos import DBOS
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.options import (
    DBOSContextEnsure,
    SetWorkflowAttributes,
    SetWorkflowID,
    SetWorkflowTimeout,
)
from dbos.config import DBOSConfig, FailoverConfig
from dbos.errors import PortableWorkflowError
from dbos.models import (
    ExecutorInfo,
    Health,
    SendMessage,
    ServiceHealth,
    StepInfo,
    StepOptions,
    VersionInfo,
    WorkflowIDReusePolicy,
    WorkflowStatus,
    WorkflowStatusString,
)
from dbos.serialization import (
    DBOSPortableJSONSerializer,
    JSONSerializer,
    PickleSerializer,
    Serializer,
    WorkflowSerializationFormat,
    make_pydantic_args_validator,
    pydantic_args_validator,
)

__all__ = [
    "DBOS",
    "DBOSConfig",
    "DBOSContextEnsure",
    "DBOSPortableJSONSerializer",
    "ExecutorInfo",
    "FailoverConfig",
    "Health",
    "JSONSerializer",
    "PickleSerializer",
    "PortableWorkflowError",
    "SendMessage",
    "Serializer",
    "ServiceHealth",
    "SetWorkflowAttributes",
    "SetWorkflowID",
    "SetWorkflowTimeout",
    "StepInfo",
    "StepOptions",
    "VersionInfo",
    "WorkflowHandle",
    "WorkflowHandleAsync",
    "WorkflowIDReusePolicy",
    "WorkflowSerializationFormat",
    "WorkflowStatus",
    "WorkflowStatusString",
    "error",
    "make_pydantic_args_validator",
    "pydantic_args_validator",
]
