"""Waiting across processes: pushed by notifications, found by the fallback, never lost.

Where the fallback would find a change too, it is set so slow that only a wake-up can be in time.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import IO, Any

import psycopg
import pytest

from dbos import DBOS, SetWorkflowID
from dbos.error import DBOSAwaitedWorkflowCancelledError
from tests.behaviour.application import Application
from tests.waiting.verbs import until, until_looked_for, until_recorded, until_waited_for

SOURCES = Path(__file__).parents[2] / "src"
SLOW = {"notification_listener_polling_interval_sec": 300.0}
FAR_SOONER_S = 60

PEER = """
import os, sys
from dbos import DBOS, SetWorkflowID, SetWorkflowTimeout
from dbos.error import DBOSWorkflowCancelledError

DBOS(config={
    "name": "shop", "system_database_url": os.environ["URL"], "application_version": "v1",
    "notification_listener_polling_interval_sec": 300.0,
})

def say(word):
    print(word, flush=True)
"""


class Peer:
    """Another process of the application: says lines, one after the other."""

    def __init__(self, process: subprocess.Popen[str], lines: IO[str]) -> None:
        self.process = process
        self._lines = lines

    def hear(self) -> str:
        return self._lines.readline().strip()


@contextmanager
def peer(app: Application, program: str) -> Iterator[Peer]:
    process = subprocess.Popen(
        [sys.executable, "-c", PEER + textwrap.dedent(program)],
        env={**os.environ, "URL": app.database_url, "PYTHONPATH": str(SOURCES)},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        try:
            yield Peer(process, process.stdout)
        finally:
            process.kill()


def test_every_kind_of_change_wakes_those_who_wait_in_another_process(shop: Application) -> None:
    shop.launch(**SLOW)
    with peer(
        shop,
        """
        @DBOS.workflow()
        def talker():
            say("begun")
            DBOS.set_event("greeting", DBOS.recv("t", 600))
            DBOS.write_stream("log", DBOS.recv("t", 600))
            return DBOS.recv("t", 600)

        DBOS.launch()
        with SetWorkflowID("talker"):
            talker()
        say("ended")
        sys.stdin.readline()
        """,
    ) as other:
        assert other.hear() == "begun"
        seen: list[Any] = []
        events = Thread(target=lambda: seen.append(DBOS.get_event("talker", "greeting", 600)))
        streams = Thread(target=lambda: seen.append(list(DBOS.read_stream("talker", "log"))))
        results = Thread(target=lambda: seen.append(DBOS.get_result("talker")))
        for thread in (events, streams, results):
            thread.start()
        until_waited_for("event", "talker::greeting")
        until_waited_for("stream", "talker::log")

        DBOS.send("talker", "hello", "t")
        events.join(FAR_SOONER_S)
        assert seen == ["hello"]
        DBOS.send("talker", "written", "t")
        DBOS.send("talker", "result", "t")
        streams.join(FAR_SOONER_S)
        results.join(FAR_SOONER_S)

        assert sorted(seen[1:], key=str) == [["written"], "result"]
        assert other.hear() == "ended"


def test_a_cancel_from_here_stops_a_run_that_waits_there(shop: Application) -> None:
    shop.launch(**SLOW)
    with peer(
        shop,
        """
        @DBOS.workflow()
        def waiter():
            say("begun")
            try:
                DBOS.sleep(3600)
            except DBOSWorkflowCancelledError:
                say("stopped")
                raise

        DBOS.launch()
        with SetWorkflowID("waiter"):
            waiter()
        """,
    ) as other:
        assert other.hear() == "begun"
        until(lambda: shop.steps("waiter"))
        DBOS.cancel_workflow("waiter")

        assert other.hear() == "stopped"


def test_the_deadline_of_a_run_whose_process_is_paused_is_kept_here(shop: Application) -> None:
    shop.launch()
    with peer(
        shop,
        """
        @DBOS.workflow()
        def waiter():
            say("begun")
            DBOS.sleep(3600)

        DBOS.launch()
        with SetWorkflowID("waiter"), SetWorkflowTimeout(1.5):
            waiter()
        """,
    ) as other:
        assert other.hear() == "begun"
        until_recorded(shop, "waiter")
        pause(shop, other.process)

        with pytest.raises(DBOSAwaitedWorkflowCancelledError):
            DBOS.get_result("waiter")


@pytest.mark.parametrize("listens", [True, False])
def test_what_rings_no_bell_is_found_by_the_fallback(shop: Application, listens: bool) -> None:
    shop.launch(use_listen_notify=listens)
    quietly(
        shop,
        "INSERT INTO {workflow_status} (workflow_uuid, status, name)"
        " VALUES ('foreign', 'PENDING', 'x'), ('streaming', 'PENDING', 'x')",
    )

    @DBOS.workflow(name="receiver")
    def receiver() -> Any:
        return DBOS.recv("t", 600)

    seen: list[Any] = []
    with SetWorkflowID("receiver"):
        handle = DBOS.start_workflow(receiver)
    waits = [
        Thread(target=lambda: seen.append(DBOS.get_event("foreign", "key", 600))),
        Thread(target=lambda: seen.append(list(DBOS.read_stream("streaming", "log")))),
        Thread(target=lambda: seen.append(DBOS.get_result("foreign"))),
    ]
    for thread in waits:
        thread.start()
    for kind, key in (("event", "foreign::key"), ("stream", "streaming::log"), ("done", "foreign")):
        until_waited_for(kind, key)
    until_waited_for("message", "receiver::t")

    for change in (
        "INSERT INTO {workflow_events} (workflow_uuid, key, value, serialization)"
        " VALUES ('foreign', 'key', '1', 'portable_json')",
        "UPDATE {workflow_status} SET status = 'SUCCESS' WHERE workflow_uuid = 'streaming'",
        "UPDATE {workflow_status} SET status = 'SUCCESS', output = '2',"
        " serialization = 'portable_json' WHERE workflow_uuid = 'foreign'",
        "INSERT INTO {notifications} (message_uuid, destination_uuid, topic, message,"
        " serialization) VALUES ('m', 'receiver', 't', '3', 'portable_json')",
    ):
        quietly(shop, change)

    for thread in waits:
        thread.join(FAR_SOONER_S)
    assert sorted(seen, key=str) == [1, 2, []]
    assert handle.get_result() == 3


def test_a_result_is_looked_for_as_often_as_its_own_call_says(shop: Application) -> None:
    shop.launch(use_listen_notify=False, **SLOW)
    quietly(
        shop,
        "INSERT INTO {workflow_status} (workflow_uuid, status, name)"
        " VALUES ('foreign', 'PENDING', 'x')",
    )
    results: list[Any] = []
    handle: Any = DBOS.retrieve_workflow("foreign")
    asking = Thread(target=lambda: results.append(handle.get_result()))
    asking.start()
    until_looked_for("done", "foreign")

    quietly(
        shop,
        "UPDATE {workflow_status} SET status = 'SUCCESS', output = '2',"
        " serialization = 'portable_json' WHERE workflow_uuid = 'foreign'",
    )
    asking.join(FAR_SOONER_S)

    assert results == [2]


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_killed_listener_session_loses_nothing(shop: Application) -> None:
    shop.launch(**SLOW)

    @DBOS.workflow(name="receiver")
    def receiver() -> list[Any]:
        return [DBOS.recv("t", 600), DBOS.recv("t", 600)]

    with SetWorkflowID("receiver"):
        handle = DBOS.start_workflow(receiver)
    until_waited_for("message", "receiver::t")
    insert = (
        "INSERT INTO {notifications} (message_uuid, destination_uuid, topic, message,"
        " serialization) VALUES (?, 'receiver', 't', ?, 'portable_json')"
    )

    quietly(shop, insert, "lost", "1")
    terminate_listeners(shop)
    until_recorded(shop, "receiver", count=3)
    shop.change(insert, "heard", "2")

    assert handle.get_result() == [1, 2]


def pause(app: Application, process: subprocess.Popen[str]) -> None:
    """Stop a process where it does not hold the lock of a SQLite database, which has but one."""
    process.send_signal(signal.SIGSTOP)
    while app.is_sqlite and is_locked(app.database_url.removeprefix("sqlite:///")):
        process.send_signal(signal.SIGCONT)
        time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)


def is_locked(path: str) -> bool:
    connection = sqlite3.connect(path, timeout=1)
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()
    return False


def quietly(app: Application, statement: str, *values: object) -> None:
    """Change the database as a writer that tells nobody."""
    if app.is_sqlite:
        app.change(statement, *values)
        return
    native = statement.replace("{", "dbos.").replace("}", "").replace("?", "%s")
    with psycopg.connect(app.database_url) as connection:
        connection.execute("SET perdure.quiet = 'on'")
        connection.execute(native.encode(), values)


def terminate_listeners(app: Application) -> None:
    """End every session that listens, once there is one: it is opened in the background."""
    with psycopg.connect(app.database_url, autocommit=True) as connection:

        def killed() -> bool:
            rows = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query LIKE 'LISTEN %'"
            ).fetchall()
            return bool(rows)

        until(killed)
