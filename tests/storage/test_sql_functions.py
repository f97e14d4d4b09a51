"""What other clients call in PostgreSQL: the two functions, and the trigger that rings for them."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from dbos.config import parse_database_url
from dbos.storage.open import open_database
from dbos.storage.protocol import Statement

Outsider = psycopg.Connection[tuple[Any, ...]]

ENQUEUED = """
    SELECT status, name, queue_name, inputs, serialization, recovery_attempts, priority,
        delay_until_epoch_ms, class_name, config_name, application_version, workflow_timeout_ms,
        workflow_deadline_epoch_ms, deduplication_id, queue_partition_key, authenticated_user,
        authenticated_roles, application_name
    FROM dbos.workflow_status WHERE workflow_uuid = %s
"""


@pytest.fixture
def migrated(postgres_url: str, outsider: Outsider) -> Outsider:
    """Somebody else's connection to a migrated database."""
    open_database(parse_database_url(postgres_url)).migrate()
    return outsider


def test_a_workflow_enqueued_by_sql_is_a_portable_row(migrated: Outsider) -> None:
    row = migrated.execute(
        b"SELECT dbos.enqueue_workflow('f', 'q',"
        b" positional_args => ARRAY['1', '\"\xc3\xa9\"']::json[], named_args => '{\"k\": null}')"
    ).fetchone()

    assert row is not None
    found = migrated.execute(ENQUEUED.encode(), row).fetchone()
    assert found is not None
    assert found[:3] == ("ENQUEUED", "f", "q")
    assert json.loads(str(found[3])) == {"namedArgs": {"k": None}, "positionalArgs": [1, "é"]}
    assert found[4:8] == ("portable_json", 0, 0, None)
    owner = migrated.execute(b"SELECT owner_xid FROM dbos.workflow_status").fetchone()
    assert owner != (None,)


def test_all_arguments_of_enqueueing_by_sql_are_stored(migrated: Outsider) -> None:
    row = migrated.execute(
        b"SELECT dbos.enqueue_workflow('f', 'q', '{}', '{}', 'C', 'i', 'id', 'v', 10::bigint,"
        b" 20::bigint, 'd', 3, 'p', 'u', '[\"r\"]', 30::bigint, 'app')"
    ).fetchone()

    assert row == ("id",)
    assert migrated.execute(ENQUEUED.encode(), ("id",)).fetchone() == (
        *("DELAYED", "f", "q", '{"namedArgs":{},"positionalArgs":[]}', "portable_json", 0, 3, 30),
        *("C", "i", "v", 10, 20, "d", "p", "u", '["r"]', "app"),
    )


def test_enqueueing_an_existing_id_by_sql_only_touches_its_time(migrated: Outsider) -> None:
    migrated.execute(b"SELECT dbos.enqueue_workflow('f', 'q', workflow_id => 'id')")
    migrated.execute(b"UPDATE dbos.workflow_status SET updated_at = 1, status = 'SUCCESS'")

    again = migrated.execute(
        b"SELECT dbos.enqueue_workflow('g', 'q2', workflow_id => 'id', priority => 5)"
    ).fetchone()
    row = migrated.execute(
        b"SELECT name, queue_name, status, priority, updated_at > 1 FROM dbos.workflow_status"
    ).fetchone()

    assert again == ("id",)
    assert row == ("f", "q", "SUCCESS", 0, True)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ("NULL, 'q'", "workflow_name cannot be null or empty"),
        ("'', 'q'", "workflow_name cannot be null or empty"),
        ("'f', NULL", "queue_name cannot be null or empty"),
        ("'f', 'q', named_args => '[1]'", "must be a JSON object"),
        ("'f', 'q', workflow_id => ''", "cannot be an empty string"),
        ("'f', 'q', deduplication_id => ''", "cannot be an empty string"),
        ("'f', 'q', delay_until_epoch_ms => -1", "must be >= 0"),
    ],
)
def test_enqueueing_by_sql_refuses_bad_arguments(
    migrated: Outsider, arguments: str, fragment: str
) -> None:
    with pytest.raises(psycopg.Error, match=fragment):
        migrated.execute(f"SELECT dbos.enqueue_workflow({arguments})".encode())


def test_a_deduplication_collision_by_sql_is_a_unique_violation(migrated: Outsider) -> None:
    enqueue = b"SELECT dbos.enqueue_workflow('f', 'q', deduplication_id => 'd')"
    migrated.execute(enqueue)

    with pytest.raises(psycopg.errors.UniqueViolation, match="DBOS queue duplicated"):
        migrated.execute(enqueue)


def test_a_message_sent_by_sql_is_portable_and_sent_once(migrated: Outsider) -> None:
    migrated.execute(b"SELECT dbos.enqueue_workflow('f', 'q', workflow_id => 'id')")
    for message in ('{"a": 1}', '"again"'):
        migrated.execute(b"SELECT dbos.send_message('id', %s::json, message_id => 'm')", (message,))
    migrated.execute(b"SELECT dbos.send_message('id', '2', 'topic')")

    rows = migrated.execute(
        b"SELECT topic, message, serialization FROM dbos.notifications ORDER BY message_seq"
    ).fetchall()

    assert rows == [
        ("__null__topic__", '{"a": 1}', "portable_json"),
        ("topic", "2", "portable_json"),
    ]


def test_a_message_by_sql_to_nobody_is_a_foreign_key_violation(migrated: Outsider) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="DBOS non-existent workflow"):
        migrated.execute(b"SELECT dbos.send_message('nobody', '1')")


def bells(listener: Outsider) -> list[tuple[str, str]]:
    """What rang so far; a last bell of our own shows that nothing is under way."""
    listener.execute(b"NOTIFY perdure_wakeups, 'the end'")
    heard = [(bell.channel, bell.payload) for bell in listener.notifies(timeout=5, stop_after=1)]
    heard += [(bell.channel, bell.payload) for bell in listener.notifies(timeout=0)]
    return [bell for bell in heard if bell[1] != "the end"]


def test_the_trigger_rings_for_others_and_is_quiet_for_us(
    migrated: Outsider, postgres_url: str
) -> None:
    migrated.execute(b"SELECT dbos.enqueue_workflow('f', 'q', workflow_id => 'id')")
    migrated.execute(b"LISTEN dbos_notifications_channel; LISTEN perdure_wakeups")
    database = open_database(parse_database_url(postgres_url))
    send = Statement(
        "INSERT INTO {notifications} (destination_uuid, topic, message) VALUES ('id', :topic, 'm')"
    )

    with database.write() as tx:
        tx.all(Statement("SELECT set_config('perdure.quiet', 'on', TRUE)"))
        tx.run(send, topic="quiet")
    with database.write() as tx:
        tx.run(send, topic="loud")
    database.close()

    assert bells(migrated) == [("dbos_notifications_channel", "id::loud")]


def test_a_message_too_long_for_a_bell_is_still_delivered(migrated: Outsider) -> None:
    migrated.execute(b"SELECT dbos.enqueue_workflow('f', 'q', workflow_id => 'id')")
    migrated.execute(b"LISTEN dbos_notifications_channel; LISTEN perdure_wakeups")

    # It repeats, so that the server can shorten it enough for the index on topics.
    migrated.execute(b"SELECT dbos.send_message('id', '1', repeat('x', 8000))")

    assert bells(migrated) == [("perdure_wakeups", "[]")]
