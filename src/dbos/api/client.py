"""`DBOSClient`: enqueue, message, await and steer workflows from outside of any application."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dbos import validation
from dbos.api.client_commands import ClientCommands
from dbos.api.client_handles import ClientHandle, ClientHandleAsync
from dbos.api.client_queues import ClientQueues
from dbos.api.enqueueing import client_request, given_options
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync, listed
from dbos.api.twins import awaitable, blocking
from dbos.config import client_settings
from dbos.engine.engine import Runtime
from dbos.engine.io import Call
from dbos.engine.site import NOWHERE
from dbos.errors import DBOSException
from dbos.models import EnqueueOptions, SendMessage
from dbos.ops import events, messaging, results, streams
from dbos.ops.enqueue import enqueue
from dbos.runtime.drive import drive
from dbos.serialization.codec import WorkflowSerializationFormat

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session

R = TypeVar("R")

DEFAULT = WorkflowSerializationFormat.DEFAULT


class DBOSClient(ClientCommands, ClientQueues):
    """A system database, seen from outside of the applications that run on it.

    It needs no `DBOS` in the process, runs nothing, and never creates or migrates anything. Its
    calls are never recorded, even in workflow code, and no `with` block around them counts but
    `SetWorkflowID` for a fork.

    Args:
        database_url: older way to give `application_database_url`.
        system_database_url: wins over both.
        system_database_engine: a SQLAlchemy engine of yours, which `destroy()` does not dispose.
        application_database_url: where transactions keep their outcomes, if that is a database of
            its own: they go with the runs that this client deletes or rewinds. Without
            `system_database_url` the system database is on the same server, named with `_dbos_sys`
            behind the name; a SQLite URL is used as it is.
        dbos_system_schema: PostgreSQL schema of our tables.
        serializer: as in the configuration; default: typed JSON.
        system_database_pool_size: connections kept; default 5.
        system_database_polling_concurrency: accepted, without effect: waits are batched.
        use_listen_notify: on PostgreSQL have waits pushed; else they look once a second.
        application_name: owner of what is written, and scope of lists; None: unclaimed, and all.
        lazy: connect and check with the first call.
        retry_connection_errors: False: a database that is away is an error and not waited for.
        observability_query_timeout_sec: limit of a listing; None: none.
        sys_db_idle_transaction_timeout_sec: as in the configuration.

    Raises:
        DBOSInitializationError: no database is named, or there is none, or its schema is not ours.
        DBOSDatabaseError: the server cannot be reached.
        DBOSException: "cannot be both lazy and use_listen_notify".
    """

    def __init__(
        self,
        database_url: str | None = None,
        *,
        system_database_url: str | None = None,
        system_database_engine: Engine | None = None,
        application_database_url: str | None = None,
        dbos_system_schema: str | None = "dbos",
        serializer: object | None = None,
        system_database_pool_size: int | None = None,
        system_database_polling_concurrency: int | None = None,
        use_listen_notify: bool = False,
        application_name: str | None = None,
        lazy: bool = False,
        retry_connection_errors: bool = True,
        observability_query_timeout_sec: float | None = 30.0,
        sys_db_idle_transaction_timeout_sec: float | None = 60.0,
    ) -> None:
        if lazy and use_listen_notify:
            raise DBOSException(
                "DBOSClient cannot be both lazy and use_listen_notify: a listener connects at once."
            )
        given = {
            "system_database_url": system_database_url,
            "system_database_engine": system_database_engine,
            "application_database_url": application_database_url or database_url,
            "dbos_system_schema": dbos_system_schema,
            "serializer": serializer,
            "sys_db_pool_size": (
                5 if system_database_pool_size is None else system_database_pool_size
            ),
            "sys_db_polling_concurrency": system_database_polling_concurrency,
        }
        # Here None means without a limit.
        limits = {
            "observability_query_timeout_sec": observability_query_timeout_sec,
            "sys_db_idle_transaction_timeout_sec": sys_db_idle_transaction_timeout_sec,
        }
        super().__init__(
            client_settings(given, limits, application_name),
            listens=use_listen_notify,
            is_patient=retry_connection_errors,
            lazy=lazy,
        )

    def check_connection(self) -> None:
        """Make sure that the system database answers and is at our level; tried once.

        Raises:
            DBOSDatabaseError: it cannot be reached.
            DBOSInitializationError: it is missing, or its schema is not ours.
        """
        drive(self._verify(self._engine.blocking))

    def check_connection_async(self) -> Coroutine[Any, Any, None]:
        """As `check_connection`, awaited."""
        return self._verify(self._engine.aio)

    def destroy(self) -> None:
        """End the client's waits and close what it opened. What was durable stays so."""
        self.close()

    def enqueue(self, options: EnqueueOptions, *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Enqueue a workflow by its name; durable when this returns.

        Without `app_version`, a process of the latest version runs it.

        Raises:
            DBOSInvalidInputError: a required key is missing, or a value is out of range.
            DBOSSerializationError: an argument cannot be stored; nothing was enqueued.
            DBOSQueueDeduplicatedError: the deduplication id is held.
            DBOSWorkflowIDInUseError: the id is in use, and the reuse policy is "reject".
            DBOSConflictingWorkflowError: the id belongs to another workflow.
        """
        __tracebackhide__ = True
        made = self.now("enqueue", lambda rt: _enqueue(rt, options, args, kwargs))
        return ClientHandle(self, made)

    def enqueue_async(
        self, options: EnqueueOptions, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As `enqueue`, awaited."""

        async def enqueued(rt: Runtime) -> WorkflowHandleAsync[Any]:
            return ClientHandleAsync(self, await _enqueue(rt, options, args, kwargs))

        return self.later(enqueued)

    def enqueue_in_transaction(
        self,
        conn_or_session: Connection | Session,
        options: EnqueueOptions,
        *args: Any,
        **kwargs: Any,
    ) -> WorkflowHandle[Any]:
        """As `enqueue`, in an open transaction of yours on the system database; you commit.

        The handle is good after the commit. From async code: `await connection.run_sync(...)`.

        Raises:
            DBOSException: the policy 'return-existing' is "not supported by
                enqueue_in_transaction".
            DBOSQueueDeduplicatedError: the deduplication id is held; roll back.
        """
        __tracebackhide__ = True
        if given_options(options).get("duplication_policy") == "return-existing":
            raise DBOSException(
                "duplication_policy 'return-existing' is not supported by enqueue_in_transaction: "
                "use enqueue()."
            )
        made = self._within(conn_or_session, lambda rt: _enqueue(rt, options, args, kwargs))
        return ClientHandle(self, made)

    def retrieve_workflow(self, workflow_id: str) -> WorkflowHandle[Any]:
        """A handle for the workflow of an id, whichever application owns it.

        Raises:
            DBOSNonExistentWorkflowError: there is no such workflow.
        """
        self.now("retrieve_workflow", lambda rt: results.existing_status(rt, NOWHERE, workflow_id))
        return ClientHandle(self, workflow_id)

    def retrieve_workflow_async(
        self, workflow_id: str
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As `retrieve_workflow`, awaited."""

        async def retrieve(rt: Runtime) -> WorkflowHandleAsync[Any]:
            await results.existing_status(rt, NOWHERE, workflow_id)
            return ClientHandleAsync(self, workflow_id)

        return self.later(retrieve)

    def wait_first(
        self, handles: Sequence[WorkflowHandle[Any]], *, polling_interval_sec: float = 1.0
    ) -> WorkflowHandle[Any]:
        """Wait until the first of several workflows has ended, and return its handle.

        Raises:
            DBOSInvalidInputError: "must not be empty", "duplicate workflow IDs".
        """
        recheck_s = validation.polling_interval(polling_interval_sec)
        given = listed(handles)
        by_id = {handle.workflow_id: handle for handle in given}
        ids = [handle.workflow_id for handle in given]
        first = self.now("wait_first", lambda rt: results.first_ended(rt, NOWHERE, ids, recheck_s))
        return by_id[first]

    def wait_first_async(
        self, handles: Sequence[WorkflowHandleAsync[Any]], *, polling_interval_sec: float = 1.0
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As `wait_first`, awaited."""
        recheck_s = validation.polling_interval(polling_interval_sec)
        given = listed(handles)
        by_id = {handle.workflow_id: handle for handle in given}
        ids = [handle.workflow_id for handle in given]

        async def wait(rt: Runtime) -> WorkflowHandleAsync[Any]:
            return by_id[await results.first_ended(rt, NOWHERE, ids, recheck_s)]

        return self.later(wait)

    def send(
        self,
        destination_id: str,
        message: Any,
        topic: str | None = None,
        idempotency_key: str | None = None,
        *,
        serialization_type: WorkflowSerializationFormat | None = DEFAULT,
        send_to_forks: bool = False,
    ) -> None:
        """Send a message to a workflow; durable when this returns. As `DBOS.send` from outside."""
        sending = _sent(
            SendMessage(destination_id, message, topic, idempotency_key),
            serialization_type,
            send_to_forks,
        )
        self.now("send", sending)

    def send_async(
        self,
        destination_id: str,
        message: Any,
        topic: str | None = None,
        idempotency_key: str | None = None,
        *,
        serialization_type: WorkflowSerializationFormat | None = DEFAULT,
        send_to_forks: bool = False,
    ) -> Coroutine[Any, Any, None]:
        """As `send`, awaited."""
        message_ = SendMessage(destination_id, message, topic, idempotency_key)
        return self.later(_sent(message_, serialization_type, send_to_forks))

    def send_in_transaction(
        self,
        conn_or_session: Connection | Session,
        destination_id: str,
        message: Any,
        topic: str | None = None,
        idempotency_key: str | None = None,
        *,
        serialization_type: WorkflowSerializationFormat | None = DEFAULT,
        send_to_forks: bool = False,
    ) -> None:
        """As `send`, in an open transaction of yours on the system database; you commit."""
        message_ = SendMessage(destination_id, message, topic, idempotency_key)
        self._within(conn_or_session, _sent(message_, serialization_type, send_to_forks))

    def send_bulk_in_transaction(
        self,
        conn_or_session: Connection | Session,
        messages: Sequence[SendMessage],
        *,
        serialization_type: WorkflowSerializationFormat | None = DEFAULT,
        send_to_forks: bool = False,
    ) -> None:
        """As `send_bulk`, in an open transaction of yours on the system database; you commit."""

        def send(rt: Runtime) -> Coroutine[Any, Any, None]:
            return messaging.send_bulk.run(
                rt,
                NOWHERE,
                messages,
                serialization_type=serialization_type,
                send_to_forks=send_to_forks,
            )

        self._within(conn_or_session, send)

    send_bulk: Final = blocking(messaging.send_bulk)
    send_bulk_async: Final = awaitable(messaging.send_bulk)
    get_event: Final = blocking(events.get_event)
    get_event_async: Final = awaitable(events.get_event)
    read_stream_offset: Final = blocking(streams.read_stream_offset)
    read_stream_offset_async: Final = awaitable(streams.read_stream_offset)

    def read_stream(
        self,
        workflow_id: str,
        key: str,
        *,
        offset: int = 0,
        polling_interval_sec: float | None = None,
        timeout_seconds: float | None = None,
    ) -> Generator[Any, None, None]:
        """The values of a workflow's stream, in order, until it ends. As `DBOS.read_stream`."""
        wanted = streams.reading(workflow_id, key, polling_interval_sec, timeout_seconds)
        position = validation.stream_offset(offset)
        entries = streams.entries(self._engine.blocking, None, wanted, position)
        while True:
            try:
                value = self.now("read_stream", lambda _: anext(entries))
            except StopAsyncIteration:
                return
            yield value

    async def read_stream_async(
        self,
        workflow_id: str,
        key: str,
        *,
        offset: int = 0,
        polling_interval_sec: float | None = None,
        timeout_seconds: float | None = None,
    ) -> AsyncGenerator[Any, None]:
        """As `read_stream`, for `async for`."""
        wanted = streams.reading(workflow_id, key, polling_interval_sec, timeout_seconds)
        position = validation.stream_offset(offset)
        entries = streams.entries(self._engine.aio, None, wanted, position)
        while True:
            try:
                value = await self.later(lambda _: anext(entries))
            except StopAsyncIteration:
                return
            yield value

    async def _verify(self, rt: Runtime) -> None:
        self._refuse_if_closed()
        await rt.io.call(Call(self._ground.database.verify, (), {}, is_async=False))

    def _within(
        self,
        conn_or_session: object,
        operation: Callable[[Runtime], Coroutine[Any, Any, R]],
    ) -> R:
        # SQLAlchemy is loaded here, for those who have a connection of it.
        from dbos.transactions.clients import run_within

        self._refuse_if_closed()
        self._open()
        return run_within(conn_or_session, self._engine.blocking, self._ground.database, operation)


async def _enqueue(
    rt: Runtime, options: EnqueueOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    __tracebackhide__ = True
    return await enqueue(rt, NOWHERE, client_request(rt.engine, options, args, kwargs))


def _sent(
    message: SendMessage,
    serialization_type: WorkflowSerializationFormat | None,
    send_to_forks: bool,
) -> Callable[[Runtime], Coroutine[Any, Any, None]]:
    return lambda rt: messaging.send.run(
        rt,
        NOWHERE,
        message.destination_id,
        message.message,
        message.topic,
        idempotency_key=message.idempotency_key,
        serialization_type=serialization_type,
        send_to_forks=send_to_forks,
    )
