"""What a client may do, and what its calls leave in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from dbos import DBOS, DBOSClient, EnqueueOptions, Queue, SendMessage, SetWorkflowID
from dbos.error import (
    DBOSException,
    DBOSInitializationError,
    DBOSNonExistentWorkflowError,
    DBOSQueueDeduplicatedError,
)
from dbos.errors import DBOSDatabaseError, DBOSInvalidInputError
from tests.behaviour.application import Application

ADD: EnqueueOptions = {"workflow_name": "add", "queue_name": "desk"}
CHAT: EnqueueOptions = {"workflow_name": "chat", "queue_name": "desk"}


@pytest.fixture
def desk(app: Application) -> Queue:
    """A queue, and the workflows that the clients of these tests ask for."""

    @DBOS.workflow(name="add")
    def add(first: int, second: int) -> int:
        return first + second

    @DBOS.workflow(name="chat")
    def chat() -> Any:
        DBOS.set_event("mood", "fine")
        DBOS.write_stream("said", "hello")
        DBOS.write_stream("said", "bye")
        DBOS.close_stream("said")
        return DBOS.recv("answer", 30)

    assert [add, chat]
    return Queue("desk")


def test_a_client_enqueues_and_awaits(desk: Queue, client: DBOSClient) -> None:
    handle = client.enqueue(ADD, 1, second=2)

    assert handle.get_result() == 3
    assert handle.get_status().status == "SUCCESS"


@pytest.mark.usefixtures("desk")
def test_a_client_that_does_not_listen_looks(database_url: str) -> None:
    client = DBOSClient(system_database_url=database_url)

    result = client.enqueue(ADD, 1, 1).get_result()
    client.destroy()

    assert result == 2


@pytest.mark.usefixtures("desk")
def test_a_client_talks_to_a_workflow(client: DBOSClient) -> None:
    handle = client.enqueue(CHAT)

    mood = client.get_event(handle.workflow_id, "mood")
    said = list(client.read_stream(handle.workflow_id, "said"))
    client.send(handle.workflow_id, "yes", "answer", "key")
    client.send(handle.workflow_id, "no", "answer", "key")

    assert (mood, said, handle.get_result()) == ("fine", ["hello", "bye"], "yes")


@pytest.mark.usefixtures("desk")
def test_an_async_client_does_the_same(client: DBOSClient) -> None:
    async def scenario() -> list[Any]:
        handle = await client.enqueue_async(CHAT)
        mood = await client.get_event_async(handle.workflow_id, "mood")
        said = [value async for value in client.read_stream_async(handle.workflow_id, "said")]
        await client.send_bulk_async([SendMessage(handle.workflow_id, "yes", "answer")])
        first = await client.wait_first_async([handle])
        found = await client.retrieve_workflow_async(first.workflow_id)
        return [mood, said, await found.get_result(), (await found.get_status()).status]

    assert asyncio.run(scenario()) == ["fine", ["hello", "bye"], "yes", "SUCCESS"]


@pytest.mark.usefixtures("desk")
def test_calls_through_a_client_are_not_recorded_in_workflow_code(client: DBOSClient) -> None:
    @DBOS.workflow()
    def outer() -> int:
        total: int = client.enqueue(ADD, 1, 1).get_result()
        client.send(DBOS.workflow_id or "", "note")
        return total

    with SetWorkflowID("outer"):
        assert outer() == 2

    assert client.list_workflow_steps("outer") == []


@pytest.mark.usefixtures("desk")
def test_blocks_around_an_enqueue_of_a_client_do_not_count(client: DBOSClient) -> None:
    with SetWorkflowID("mine"):
        handle = client.enqueue(ADD, 1, 1)

    assert handle.workflow_id != "mine"


def test_a_nameless_client_writes_unclaimed_rows(app: Application, client: DBOSClient) -> None:
    handle = client.enqueue({"workflow_name": "later", "queue_name": "nowhere"})

    assert handle.get_status().application_name is None


@pytest.mark.usefixtures("app")
def test_a_client_with_a_name_sees_its_own_and_unclaimed_rows(
    client: DBOSClient, database_url: str
) -> None:
    named = DBOSClient(system_database_url=database_url, application_name="other")
    unclaimed = client.enqueue({"workflow_name": "later", "queue_name": "nowhere"})
    own = named.enqueue({"workflow_name": "later", "queue_name": "nowhere"})
    foreign = client.enqueue(
        {"workflow_name": "later", "queue_name": "nowhere", "application_name": "third"}
    )

    seen = {status.workflow_id for status in named.list_workflows()}
    all_ids = {status.workflow_id for status in client.list_workflows()}
    named.destroy()

    assert seen == {unclaimed.workflow_id, own.workflow_id}
    assert all_ids == seen | {foreign.workflow_id}


@pytest.mark.usefixtures("app")
def test_a_client_steers_by_id(client: DBOSClient) -> None:
    handle = client.enqueue({"workflow_name": "later", "queue_name": "nowhere"})

    client.update_workflow_attributes(handle.workflow_id, {"colour": "red"})
    client.cancel_workflow(handle.workflow_id)
    cancelled = handle.get_status()
    client.resume_workflow(handle.workflow_id, queue_name="nowhere")
    resumed = handle.get_status()
    fork = client.fork_workflow(handle.workflow_id, 1, queue_name="nowhere")
    client.delete_workflow(handle.workflow_id)

    assert (cancelled.status, cancelled.attributes) == ("CANCELLED", {"colour": "red"})
    assert resumed.status == "ENQUEUED"
    assert fork.get_status().forked_from == handle.workflow_id
    with pytest.raises(DBOSNonExistentWorkflowError):
        client.retrieve_workflow(handle.workflow_id)


@pytest.mark.usefixtures("app")
def test_a_client_resumes_ids_that_can_be_gone_through_only_once(client: DBOSClient) -> None:
    ids = [
        client.enqueue({"workflow_name": "later", "queue_name": "nowhere"}).workflow_id
        for _ in range(2)
    ]

    handles = client.resume_workflows(iter(ids), queue_name="nowhere")  # type: ignore[arg-type]
    later = asyncio.run(client.resume_workflows_async(iter(ids), queue_name="nowhere"))  # type: ignore[arg-type]

    assert [handle.workflow_id for handle in handles] == ids
    assert [handle.workflow_id for handle in later] == ids


@pytest.mark.usefixtures("app")
def test_a_client_registers_queues_that_are_bound_to_it(client: DBOSClient) -> None:
    queue = client.register_queue("till", worker_concurrency=2)
    queue.set_worker_concurrency(3)

    found = client.retrieve_queue("till")
    assert found is not None
    assert found.worker_concurrency == 3
    with pytest.raises(DBOSException, match="client-bound"):
        queue.enqueue(print)
    with pytest.raises(DBOSException, match="update_if_latest_version"):
        client.register_queue("till", on_conflict="update_if_latest_version")
    client.delete_queue("till")
    assert client.list_queues() == []


def test_a_client_creates_schedules_of_workflows_it_does_not_know(
    desk: Queue, client: DBOSClient
) -> None:
    client.create_schedule(schedule_name="yearly", workflow_name="add", schedule="0 0 1 1 *")
    client.apply_schedules(
        [{"schedule_name": "monthly", "workflow_name": "add", "schedule": "0 0 1 * *"}]
    )
    client.pause_schedule("yearly")
    listed = {entry["schedule_name"]: entry for entry in client.list_schedules()}

    assert {name: entry["status"] for name, entry in listed.items()} == {
        "yearly": "PAUSED",
        "monthly": "ACTIVE",
    }
    assert listed["yearly"]["application_name"] is None
    with pytest.raises(DBOSException, match="already exists"):
        client.create_schedule(schedule_name="yearly", workflow_name="add", schedule="0 0 1 1 *")
    with pytest.raises(DBOSException, match=r"schedules\[0\] is missing required field 'schedule'"):
        client.apply_schedules([{"schedule_name": "x", "workflow_name": "add"}])  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]
    with pytest.raises(DBOSInvalidInputError, match=r"schedules\[0\] has no key workflow_fn"):
        client.apply_schedules([cast("Any", listed["monthly"] | {"workflow_fn": len})])
    client.apply_schedules([cast("Any", listed["monthly"] | {"schedule": "0 0 2 * *"})])
    changed = client.get_schedule("monthly")
    assert changed is not None
    assert changed["schedule"] == "0 0 2 * *"
    assert client.trigger_schedule("monthly").get_status().application_name is None


@pytest.mark.usefixtures("desk")
def test_work_in_the_callers_transaction_exists_from_its_commit_on(
    client: DBOSClient, database_url: str
) -> None:
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with Session(engine) as session:
        handle = client.enqueue_in_transaction(session, CHAT)
        client.send_in_transaction(session, handle.workflow_id, "within", "answer")
        with pytest.raises(DBOSNonExistentWorkflowError):
            client.retrieve_workflow(handle.workflow_id)
        session.commit()
    with engine.connect() as connection:
        gone = client.enqueue_in_transaction(connection, ADD, 1, 1)
        connection.rollback()
    engine.dispose()

    assert handle.get_result() == "within"
    with pytest.raises(DBOSNonExistentWorkflowError):
        client.retrieve_workflow(gone.workflow_id)


@pytest.mark.usefixtures("app")
def test_enqueueing_in_a_transaction_refuses_what_it_cannot_do(
    client: DBOSClient, database_url: str
) -> None:
    held: EnqueueOptions = {
        "workflow_name": "later",
        "queue_name": "nowhere",
        "deduplication_id": "d",
    }
    client.enqueue(held)
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        with pytest.raises(DBOSException, match="not supported by enqueue_in_transaction"):
            client.enqueue_in_transaction(
                connection, {**held, "duplication_policy": "return-existing"}
            )
        with pytest.raises(DBOSQueueDeduplicatedError):
            client.enqueue_in_transaction(connection, held)
        with pytest.raises(DBOSInvalidInputError, match="conn_or_session"):
            client.enqueue_in_transaction("connection", held)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    engine.dispose()

    assert len(client.list_workflows()) == 1
    assert sum(client.count_workflows().values()) == 1


@pytest.mark.parametrize("options", [{}, {"workflow_name": "add"}, {"queue_name": "q"}, "add"])
def test_options_without_a_required_key_are_refused(client: DBOSClient, options: Any) -> None:
    with pytest.raises(DBOSInvalidInputError):
        client.enqueue(options)

    assert client.list_workflows() == []


@pytest.mark.usefixtures("empty_database")
def test_a_client_creates_nothing_and_refuses_a_database_without_our_tables(
    database_url: str,
) -> None:
    for _ in range(2):
        with pytest.raises(DBOSInitializationError, match="is not ready"):
            DBOSClient(system_database_url=database_url)


def test_a_client_needs_a_database() -> None:
    with pytest.raises(DBOSInitializationError, match="system_database_url"):
        DBOSClient()
    with pytest.raises(DBOSInitializationError, match="Database name must be specified"):
        DBOSClient(system_database_url="postgresql://user@localhost:5432/")


def test_a_client_cannot_be_lazy_and_listen(tmp_path: Path) -> None:
    with pytest.raises(DBOSException, match="cannot be both lazy and use_listen_notify"):
        DBOSClient(f"sqlite:///{tmp_path}/a.sqlite", lazy=True, use_listen_notify=True)


def test_a_lazy_client_connects_with_its_first_call(shop: Application, database_url: str) -> None:
    client = DBOSClient(system_database_url=database_url, lazy=True)
    shop.launch()

    found = asyncio.run(client.list_workflows_async())
    client.destroy()

    assert found == []


@pytest.mark.parametrize(
    "call", [lambda client: client.list_workflows(), lambda client: client.check_connection()]
)
def test_a_client_without_patience_tells_at_once_that_the_server_is_away(
    call: Callable[[DBOSClient], object],
) -> None:
    url = "postgresql://someone:secret@127.0.0.1:1/nothing"
    client = DBOSClient(system_database_url=url, lazy=True, retry_connection_errors=False)

    with pytest.raises(DBOSDatabaseError) as caught:
        call(client)
    client.destroy()

    assert "secret" not in str(caught.value)


def test_a_destroyed_client_refuses_calls(client: DBOSClient) -> None:
    client.check_connection()
    client.destroy()
    client.destroy()

    with pytest.raises(DBOSException, match="destroyed"):
        client.list_workflows()


def test_an_engine_of_the_user_is_used_and_not_disposed(desk: Queue, database_url: str) -> None:
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    client = DBOSClient(system_database_engine=engine)

    result = client.enqueue(ADD, 2, 2).get_result()
    client.destroy()

    assert result == 4
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    engine.dispose()


@pytest.mark.usefixtures("desk")
def test_an_async_connection_of_the_user_carries_an_enqueue(
    client: DBOSClient, database_url: str
) -> None:
    url = database_url.replace("postgresql://", "postgresql+asyncpg://")
    url = url.replace("sqlite://", "sqlite+aiosqlite://")

    async def scenario() -> Any:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            handle = await connection.run_sync(
                lambda sync: client.enqueue_in_transaction(sync, CHAT)
            )
            await connection.run_sync(
                lambda sync: client.send_in_transaction(
                    sync, handle.workflow_id, "async", "answer", send_to_forks=True
                )
            )
        await engine.dispose()
        found = await client.retrieve_workflow_async(handle.workflow_id)
        return await found.get_result()

    assert asyncio.run(scenario()) == "async"


@pytest.mark.usefixtures("app")
def test_a_connection_to_another_database_is_refused_as_such(
    client: DBOSClient, tmp_path: Path, second_postgres: str
) -> None:
    engines = [
        create_engine(f"sqlite:///{tmp_path}/other.sqlite"),
        create_engine(second_postgres.replace("postgresql://", "postgresql+psycopg://")),
    ]
    for engine in engines:
        with (
            engine.connect() as connection,
            pytest.raises(DBOSInvalidInputError, match="is on another database"),
        ):
            client.enqueue_in_transaction(connection, ADD, 1, 1)
        with (
            engine.connect() as connection,
            pytest.raises(DBOSInvalidInputError, match="is on another database"),
        ):
            client.send_in_transaction(connection, "destination", "message")
        engine.dispose()


# Only PostgreSQL refuses the statements of a transaction in which one has failed.
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_fault_of_an_async_driver_is_told_in_our_words(
    client: DBOSClient, app: Application
) -> None:
    url = app.database_url.replace("postgresql://", "postgresql+asyncpg://")

    async def scenario() -> DBOSDatabaseError:
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            with pytest.raises(DBOSInvalidInputError, match="run_sync"):
                client.enqueue_in_transaction(connection, ADD)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            with pytest.raises(DBAPIError):
                await connection.exec_driver_sql("SELECT nothing")
            with pytest.raises(DBOSDatabaseError) as caught:
                await connection.run_sync(
                    lambda sync: client.enqueue_in_transaction(sync, ADD, 1, 1)
                )
        await engine.dispose()
        return caught.value

    assert "roll the transaction back" in asyncio.run(scenario()).message


@pytest.mark.usefixtures("app")
def test_resuming_takes_any_iterable_of_ids(client: DBOSClient) -> None:
    handle = client.enqueue({"workflow_name": "later", "queue_name": "nowhere"})
    ids = [handle.workflow_id]

    resumed = client.resume_workflows(iter(ids))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    awaited = asyncio.run(client.resume_workflows_async(iter(ids)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    assert [one.workflow_id for one in resumed] == ids
    assert [one.workflow_id for one in awaited] == ids


def test_schedules_are_applied_by_the_published_keyword(client: DBOSClient) -> None:
    client.apply_schedules(schedules=[])
    asyncio.run(client.apply_schedules_async(schedules=[]))


WAITS: list[Callable[[DBOSClient, str], object]] = [
    lambda client, waited: client.retrieve_workflow(waited).get_result(),
    lambda client, waited: client.get_event(waited, "key"),
    lambda client, waited: list(client.read_stream(waited, "key")),
    lambda client, waited: asyncio.run(client.get_event_async(waited, "key")),
]


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("wait", WAITS)
def test_destroying_a_client_ends_its_waits(
    client: DBOSClient, wait: Callable[[DBOSClient, str], object]
) -> None:
    waited = client.enqueue({"workflow_name": "later", "queue_name": "nowhere"}).workflow_id
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait, client, waited)
        client.destroy()
        error = waiting.exception(timeout=30)

    assert isinstance(error, DBOSException)
    assert "DBOSClient was destroyed" in error.message


@pytest.mark.usefixtures("app")
def test_a_queue_of_a_destroyed_client_says_so(client: DBOSClient) -> None:
    queue = client.register_queue("till")
    client.destroy()

    with pytest.raises(DBOSException, match="DBOSClient was destroyed"):
        _ = queue.worker_concurrency
    with pytest.raises(DBOSException, match="DBOSClient was destroyed"):
        queue.set_worker_concurrency(1)
    with pytest.raises(DBOSException, match="DBOSClient was destroyed"):
        asyncio.run(queue.get_worker_concurrency_async())
    with pytest.raises(DBOSException, match="DBOSClient was destroyed"):
        asyncio.run(queue.set_worker_concurrency_async(1))
