"""How the databases carry out a list: by index where there is one, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dbos.config import parse_database_url
from dbos.models import WorkflowFilter
from dbos.storage import listing
from dbos.storage.open import open_database
from dbos.storage.protocol import Database, Statement
from tests.storage.conftest import AnyDatabase
from tests.storage.test_claim_plans import plan
from tests.support.postgres import PostgresAddress

MANY = 4000
SCOPE = ("shop",)
CREATED_AT = "workflow_status_created_at_index"
FAILED = "idx_workflow_status_failed"
PENDING = "idx_workflow_status_pending"
IN_FLIGHT = "idx_workflow_status_in_flight"
DELAYED = "idx_workflow_status_delayed"
PRIMARY = "workflow_status_pkey"

FILL = Statement(
    """
    INSERT INTO {workflow_status} (workflow_uuid, status, name, created_at, completed_at,
        started_at_epoch_ms, queue_name, parent_workflow_id, forked_from, schedule_name,
        application_name, inputs)
    SELECT 'run-' || n,
        CASE WHEN n > 3990 THEN 'ENQUEUED' WHEN n = 3988 THEN 'PENDING' WHEN n = 3987 THEN 'DELAYED'
            WHEN n % 200 = 0 THEN 'ERROR' ELSE 'SUCCESS' END,
        'f' || (n % 5), n, CASE WHEN n < 3980 THEN n END, CASE WHEN n % 3 = 0 THEN n END,
        'q' || (n % 3), CASE WHEN n % 7 = 0 THEN 'run-' || (n / 7) END,
        CASE WHEN n % 100 = 0 THEN 'run-' || (n / 100) END,
        CASE WHEN n % 500 = 0 THEN 'nightly' END, 'shop', :inputs
    FROM {rows}
    """,
    {"n": "integer"},
)


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def full(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AnyDatabase]:
    """A database in which nearly all runs have ended, with statistics."""
    with _url(request, tmp_path_factory) as url:
        opened = open_database(parse_database_url(url))
        opened.migrate()
        with opened.write() as tx:
            tx.run(FILL, rows=[{"n": n} for n in range(MANY)], inputs="x" * 200)
            tx.run(Statement("ANALYZE {workflow_status}"))
        yield opened
        opened.close()


@contextmanager
def _url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('plans') / 'system.sqlite'}"
        return
    server: PostgresAddress = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


def plan_of(database: Database, **filters: Any) -> str:
    chosen: dict[str, Any] = {"application_names": SCOPE, "limit": 20, **filters}
    wanted = WorkflowFilter(**chosen)
    return planned(database, listing._select(listing._shape(wanted)), wanted)


def plan_of_count(database: Database, **filters: Any) -> str:
    wanted = WorkflowFilter(application_names=SCOPE, **filters)
    return planned(database, listing._count(listing._shape(wanted)), wanted)


def planned(database: Database, statement: Statement, wanted: WorkflowFilter) -> str:
    values = listing._values(wanted)
    if wanted.stranded is not None:
        values["rows"] = []
    return plan(database, statement, **values)


def assert_walks_no_table(text: str) -> None:
    for sign in ("SCAN workflow_status", "Seq Scan on workflow_status"):
        assert sign not in text, text
    for line in text.splitlines():
        assert not line.endswith("SCAN run"), text
        assert "Rows Removed by Filter" not in line or int(line.split(":")[1]) <= 1000, text


def assert_sorts_within_an_instant(text: str) -> None:
    """What an index has in order of time is sorted within each instant only."""
    assert "Incremental Sort" in text or "USE TEMP B-TREE FOR RIGHT PART OF ORDER BY" in text, text


@pytest.mark.parametrize("is_newest_first", [False, True], ids=["oldest first", "newest first"])
@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, CREATED_AT),
        ({"offset": 500}, CREATED_AT),
        ({"name": ("f1",)}, CREATED_AT),
        ({"created_from_ms": 100, "created_until_ms": 900}, CREATED_AT),
        ({"status": ("SUCCESS",)}, CREATED_AT),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_page_is_read_in_the_order_of_an_index(
    full: AnyDatabase, filters: dict[str, Any], index: str, is_newest_first: bool
) -> None:
    text = plan_of(full, sort_desc=is_newest_first, **filters)

    assert index in text, text
    assert_walks_no_table(text)
    assert_sorts_within_an_instant(text)


@pytest.mark.parametrize("is_newest_first", [False, True], ids=["oldest first", "newest first"])
def test_what_an_offset_leaves_out_is_walked_over_in_the_order_of_the_index_alone(
    full: AnyDatabase, is_newest_first: bool
) -> None:
    text = plan_of(full, offset=3000, limit=20, sort_desc=is_newest_first)

    if full.rings_within:
        lines = text.split("MATERIALIZE start\n")[1].splitlines()
        assert lines[0] == f"SCAN run USING INDEX {CREATED_AT}", text
        assert "TEMP B-TREE" not in lines[1], text
    else:
        walk = text.split("CTE start\n")[1].split("InitPlan")[0]
        for sign in (CREATED_AT, ".ctid", "Presorted Key"):
            assert sign in walk, text


@pytest.mark.parametrize(
    ("filters", "indexes"),
    [
        ({"workflow_ids": ("run-7", "run-8")}, (PRIMARY,)),
        ({"workflow_id_prefix": ("run-777",)}, (PRIMARY,)),
        ({"parent_workflow_id": ("run-7",)}, ("idx_workflow_status_parent_workflow_id",)),
        ({"forked_from": ("run-7",)}, ("idx_workflow_status_forked_from",)),
        ({"schedule_name": ("nightly",)}, ("idx_workflow_status_schedule_name",)),
        ({"completed_from_ms": 3970}, ("idx_workflow_status_completed_at",)),
        ({"dequeued_from_ms": 3970}, ("idx_workflow_status_started_at",)),
        ({"status": ("ERROR",)}, (FAILED,)),
        ({"status": ("CANCELLED",)}, (FAILED,)),
        ({"status": ("PENDING",)}, (PENDING,)),
        ({"status": ("ENQUEUED",)}, (IN_FLIGHT,)),
        ({"status": ("ENQUEUED", "PENDING", "DELAYED")}, (IN_FLIGHT, DELAYED)),
        ({"status": ("ENQUEUED",), "queue_name": ("q1",)}, (IN_FLIGHT,)),
        ({"queues_only": True}, (IN_FLIGHT, DELAYED)),
        ({"queues_only": True, "queue_name": ("q1",)}, (IN_FLIGHT, DELAYED)),
        ({"stranded": True}, (IN_FLIGHT, DELAYED)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_an_index_knows_is_not_searched_for_in_the_table(
    full: AnyDatabase, filters: dict[str, Any], indexes: tuple[str, ...]
) -> None:
    text = plan_of(full, **filters)

    for index in indexes:
        known_to_sqlite = "sqlite_autoindex_workflow_status_1" if index == PRIMARY else index
        assert index in text or known_to_sqlite in text, text
    assert_walks_no_table(text)


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({"status": ("ERROR", "CANCELLED")}, FAILED),
        ({"status": ("ENQUEUED", "PENDING")}, IN_FLIGHT),
        ({"created_from_ms": 3900}, CREATED_AT),
        ({"parent_workflow_id": ("run-7",)}, "idx_workflow_status_parent_workflow_id"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_an_index_tells_apart_is_counted_by_it(
    full: AnyDatabase, filters: dict[str, Any], index: str
) -> None:
    text = plan_of_count(full, **filters)

    assert index in text, text
    assert_walks_no_table(text)


def test_a_count_of_all_runs_reads_them_once(full: AnyDatabase) -> None:
    text = plan_of_count(full)

    scans = [line for line in text.splitlines() if "SCAN run" in line or "Scan on workflow" in line]
    assert len(scans) == 1, text
