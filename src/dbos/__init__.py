"""Perdure: durable execution for Python. Import name and interface are those of DBOS Transact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos import error
from dbos.api.classes import DBOSConfiguredInstance
from dbos.api.client import DBOSClient
from dbos.api.dbos import DBOS
from dbos.api.debouncer import Debouncer, DebouncerClient
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.migration import run_dbos_database_migrations
from dbos.api.options import (
    DBOSContextEnsure,
    DBOSContextSetAuth,
    SetEnqueueOptions,
    SetWorkflowAttributes,
    SetWorkflowID,
    SetWorkflowTimeout,
)
from dbos.api.queue import Queue
from dbos.api.reservations import StepReservation
from dbos.config import DBOSConfig, FailoverConfig
from dbos.errors import PortableWorkflowError
from dbos.models import (
    ClientScheduleInput,
    DuplicationPolicy,
    EnqueueOptions,
    ExecutorInfo,
    Health,
    ScheduleInput,
    SendMessage,
    ServiceHealth,
    StepInfo,
    StepOptions,
    VersionInfo,
    WorkflowIDReusePolicy,
    WorkflowSchedule,
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

if TYPE_CHECKING:
    from dbos.transactions.async_datasource import AsyncSQLAlchemyDatasource
    from dbos.transactions.datasource import SQLAlchemyDatasource


def __getattr__(name: str) -> object:
    """Names that need SQLAlchemy, which is loaded by the first use of one."""
    if name == "SQLAlchemyDatasource":
        from dbos.transactions.datasource import SQLAlchemyDatasource

        return SQLAlchemyDatasource
    if name == "AsyncSQLAlchemyDatasource":
        from dbos.transactions.async_datasource import AsyncSQLAlchemyDatasource

        return AsyncSQLAlchemyDatasource
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "DBOS",
    "AsyncSQLAlchemyDatasource",
    "ClientScheduleInput",
    "DBOSClient",
    "DBOSConfig",
    "DBOSConfiguredInstance",
    "DBOSContextEnsure",
    "DBOSContextSetAuth",
    "DBOSPortableJSONSerializer",
    "Debouncer",
    "DebouncerClient",
    "DuplicationPolicy",
    "EnqueueOptions",
    "ExecutorInfo",
    "FailoverConfig",
    "Health",
    "JSONSerializer",
    "PickleSerializer",
    "PortableWorkflowError",
    "Queue",
    "SQLAlchemyDatasource",
    "ScheduleInput",
    "SendMessage",
    "Serializer",
    "ServiceHealth",
    "SetEnqueueOptions",
    "SetWorkflowAttributes",
    "SetWorkflowID",
    "SetWorkflowTimeout",
    "StepInfo",
    "StepOptions",
    "StepReservation",
    "VersionInfo",
    "WorkflowHandle",
    "WorkflowHandleAsync",
    "WorkflowIDReusePolicy",
    "WorkflowSchedule",
    "WorkflowSerializationFormat",
    "WorkflowStatus",
    "WorkflowStatusString",
    "error",
    "make_pydantic_args_validator",
    "pydantic_args_validator",
    "run_dbos_database_migrations",
]
