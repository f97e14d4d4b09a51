"""How the databases carry out a claim: it reads what it takes, however much waits or has ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dbos.storage import claims, returns, served, workflows
from dbos.storage.protocol import Database, Statement
from dbos.storage.queue_limits import QueueLimits
from tests.storage.conftest import AnyDatabase
from tests.storage.waiting_runs import QUEUE, Process, waiting

MANY = 3000
LANES = 30

ENDED = Statement(
    """
    INSERT INTO {workflow_status} (workflow_uuid, status, name, queue_name, queue_partition_key)
    SELECT 'ended' || workflow_uuid, 'SUCCESS', name, queue_name, queue_partition_key
    FROM {workflow_status}
    """
)


@pytest.fixture
def full(database: AnyDatabase) -> AnyDatabase:
    """A database in which many runs wait, with and without keys, and as many have ended."""
    plain = [waiting(f"p{number}", priority=number % 3) for number in range(MANY)]
    keyed = [waiting(f"k{n}", queue_partition_key=f"k{n % LANES}") for n in range(MANY)]
    with database.write() as tx:
        workflows.admit_rows(tx, plain)
        workflows.admit_rows(tx, keyed)
        tx.run(ENDED)
    return database


def plan(database: Database, statement: Statement, **params: object) -> str:
    """The plan as text; on PostgreSQL of a real execution."""
    is_sqlite = database.rings_within
    prefix = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF)"
    explained = Statement(f"{prefix} {statement.text}", statement.columns)
    with database.write() as tx:
        rows = tx.all(explained, **params)
    return "\n".join(str(row[-1]) for row in rows)


def assert_reads_little(text: str) -> None:
    """No walk over the table, and no sorting of what an index has in order."""
    for sign in ("SCAN run", "SCAN workflow_status", "Seq Scan on workflow_status"):
        assert sign not in text, text
    for line in text.splitlines():
        assert "Rows Removed by Filter" not in line or int(line.split(":")[1]) <= 10, text


@pytest.mark.parametrize("is_analysed", [False, True], ids=["unanalysed", "analysed"])
def test_a_claim_without_limits_reads_what_it_takes(full: AnyDatabase, is_analysed: bool) -> None:
    if is_analysed:
        with full.write() as tx:
            tx.run(Statement("ANALYZE {workflow_status}"))
    process = Process(full)
    request = process.request(QueueLimits(QUEUE), 10)
    eligibility = claims._eligibility(request, process.functions)

    text = plan(full, claims.CLAIM, **{**eligibility, **claims._identity(request)}, batch=10)

    assert "idx_workflow_status_keyless" in text
    assert "Sort" not in text
    assert "TEMP B-TREE" not in text
    assert_reads_little(text)


@pytest.mark.parametrize("is_partitioned", [False, True], ids=["lanes", "partitions"])
def test_keys_are_found_without_reading_what_waits_under_them(
    full: AnyDatabase, is_partitioned: bool
) -> None:
    process = Process(full)
    limits = replace(QueueLimits(QUEUE), is_partitioned=is_partitioned)
    request = process.request(limits, 10)

    text = plan(
        full,
        claims.KEYS,
        **claims._eligibility(request, process.functions),
        incarnation_id="one",
        after="",
        most=claims.KEYS_AT_ONCE,
        each=1,
        batch=10,
        is_partitioned=is_partitioned,
        counts_here=True,
        period_ms=-1,
    )

    assert "idx_workflow_status_keyed" in text
    assert_reads_little(text)


@pytest.mark.parametrize("statement", [claims.ROOM, claims.KEYLESS_ROOM], ids=["all", "keyless"])
def test_running_and_started_runs_are_counted_by_index(
    full: AnyDatabase, statement: Statement
) -> None:
    params: dict[str, object] = {"queue_name": QUEUE, "incarnation_id": "one", "period_ms": 1000}
    if statement is claims.ROOM:
        params |= {"counts_all": True, "counts_here": True}

    assert_reads_little(plan(full, statement, **params))


def test_a_look_at_a_quiet_queue_does_not_read_a_backlog_beside_it(database: AnyDatabase) -> None:
    backlog = [waiting(f"p{number}") for number in range(MANY)]
    with database.write() as tx:
        workflows.admit_rows(tx, backlog)
        tx.run(Statement("ANALYZE {workflow_status}"))
    names = [served.Named(QUEUE), served.Named("quiet")]

    assert_reads_little(plan(database, served.LOOK, application_name="shop", rows=names))


def test_a_look_reads_no_queue_to_its_end(full: AnyDatabase) -> None:
    names = [served.Named(QUEUE)]
    assert_reads_little(plan(full, served.LOOK, application_name="shop", rows=names))
    assert_reads_little(plan(full, served.PROMOTE, application_name="shop", batch=10))
    assert_reads_little(
        plan(full, returns.WAITING, application_name="shop", queue_name=QUEUE, batch=10)
    )
