"""The claim of waiting runs, on both databases: order, who may, and every limit."""

from __future__ import annotations

import pytest

from dbos.models import WorkflowFilter
from dbos.storage import (
    listing,
    management,
    recovery,
    retention,
    returns,
    rewinding,
    served,
    workflows,
)
from dbos.storage.claims import Runnable
from dbos.storage.management import Command
from dbos.storage.protocol import Database, Row, Statement
from dbos.storage.queue_limits import QueueLimits, RateLimit
from dbos.storage.recovery import TakeOver
from dbos.storage.rewinding import Rewinding
from tests.storage.waiting_runs import QUEUE, Process, change, enqueue, find, finish, waiting


@pytest.fixture
def process(database: Database) -> Process:
    return Process(database)


def ids(prefix: str, many: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(many)]


def test_runs_are_claimed_by_priority_and_then_in_the_order_of_their_enqueueing(
    database: Database, process: Process
) -> None:
    enqueue(
        database,
        waiting("third", priority=2),
        waiting("first"),
        waiting("fourth", priority=2),
        waiting("second", priority=1),
    )

    assert process.claim(batch=3) == ["first", "second", "third"]
    assert process.claim() == ["fourth"]


def test_a_claim_writes_who_runs_the_workflow(database: Database, process: Process) -> None:
    enqueue(database, waiting("a", application_name=None, code_hash=None))

    process.claim()

    columns = "status, incarnation_id, application_name, code_hash, recovery_attempts"
    assert find(database, "a", columns) == ("PENDING", "one", "shop", "h1", 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("queue_name", "other"),
        ("application_name", "other"),
        ("application_version", "v2"),
        ("serialization", "unheard-of"),
        ("name", "unheard-of"),
        ("class_name", "Unheard"),
        ("status", "DELAYED"),
    ],
)
def test_a_run_of_others_is_left_to_them(
    database: Database, process: Process, field: str, value: str
) -> None:
    enqueue(database, waiting("theirs", **{field: value}), waiting("ours"))

    assert process.claim() == ["ours"]


def test_another_version_with_the_same_source_is_claimed(
    database: Database, process: Process
) -> None:
    enqueue(
        database,
        waiting("same", application_version="v0", code_hash="h1"),
        waiting("changed", application_version="v0", code_hash="h0"),
    )

    assert process.claim() == ["same"]


def test_a_run_without_a_version_goes_to_the_latest(database: Database, process: Process) -> None:
    enqueue(database, waiting("a", application_version=None))
    process.is_latest = False
    assert process.claim() == []

    process.is_latest = True

    assert process.claim() == ["a"]


def test_a_method_of_an_instance_is_claimed_where_the_instance_is(
    database: Database, process: Process
) -> None:
    process.functions = (Runnable("ship", "h1", "Shop"),)
    enqueue(database, waiting("a", class_name="Shop", config_name="north"))
    assert process.claim() == []

    process.instances = (("Shop", "north"),)

    assert process.claim() == ["a"]


def test_a_run_in_its_back_off_waits_unless_nobody_knew_it(
    database: Database, process: Process
) -> None:
    enqueue(database, waiting("returned"), waiting("unknown"))
    late = 10**15
    error = "claim_error = :reason, not_before_epoch_ms = :late"
    change(database, "returned", error, reason="internal: x", late=late)
    change(database, "unknown", error, reason="not_registered: x", late=late)

    assert process.claim() == ["unknown"]


def test_a_timeout_counts_from_the_first_claim(database: Database, process: Process) -> None:
    enqueue(database, waiting("a", workflow_timeout_ms=60_000))

    process.claim()

    deadline_ms, started_ms = find(database, "a", "workflow_deadline_epoch_ms, started_at_epoch_ms")
    assert abs(deadline_ms - started_ms - 60_000) <= 1


@pytest.mark.parametrize("key", [None, "k"], ids=["without keys", "with keys"])
def test_a_queue_never_runs_more_than_its_concurrency(
    database: Database, process: Process, key: str | None
) -> None:
    limits = QueueLimits(QUEUE, global_concurrency=2)
    other = process.with_other("two")
    enqueue(
        database,
        *(waiting(run, queue_partition_key=key and f"{key}{run}") for run in ids("r", 4)),
    )

    assert process.claim(limits) == ["r0", "r1"]
    assert other.claim(limits) == []
    finish(database, "r1")
    assert other.claim(limits) == ["r2"]


def test_a_process_never_runs_more_than_its_own_concurrency(
    database: Database, process: Process
) -> None:
    limits = QueueLimits(QUEUE, worker_concurrency=2)
    other = process.with_other("two")
    enqueue(database, *(waiting(run) for run in ids("r", 5)))

    assert process.claim_all(limits) == ["r0", "r1"]
    assert other.claim_all(limits) == ["r2", "r3"]
    assert process.claim_all(limits) == []


def test_a_worker_concurrency_of_zero_pauses_the_queue_here(
    database: Database, process: Process
) -> None:
    enqueue(database, waiting("a"), waiting("b", queue_partition_key="k"))

    assert process.claim_all(QueueLimits(QUEUE, worker_concurrency=0)) == []
    assert process.claim_all() == ["a", "b"]


def test_a_limiter_lets_so_many_start_in_its_period(database: Database, process: Process) -> None:
    limits = QueueLimits(QUEUE, rate=RateLimit(2, 1000))
    enqueue(database, *(waiting(run) for run in ids("r", 4)))

    assert process.claim_all(limits) == ["r0", "r1"]
    finish(database, "r0", "r1")
    answer = process.claimed(limits)
    assert answer.runs == []
    started = [find(database, run, "started_at_epoch_ms")[0] for run in ("r0", "r1")]
    assert answer.next_start_ms == min(started) + 1_000_001

    change(database, "r0", "started_at_epoch_ms = started_at_epoch_ms - 1000002")

    assert process.claim_all(limits) == ["r2"]


def test_a_limit_of_zero_starts_nothing(database: Database, process: Process) -> None:
    enqueue(database, waiting("a"))

    assert process.claim_all(QueueLimits(QUEUE, rate=RateLimit(0, 1))) == []


def test_a_lane_runs_one_at_a_time_and_in_order(database: Database, process: Process) -> None:
    other = process.with_other("two")
    enqueue(
        database,
        waiting("a1", queue_partition_key="a"),
        waiting("a2", queue_partition_key="a"),
        waiting("b1", queue_partition_key="b"),
        waiting("plain"),
        waiting("a0", queue_partition_key="a", priority=0),
    )

    assert process.claim_all() == ["a1", "b1", "plain"]
    assert other.claim_all() == []
    finish(database, "a1")
    assert other.claim_all() == ["a2"]
    finish(database, "a2")
    assert process.claim_all() == ["a0"]


def test_a_lane_is_free_when_its_run_was_cancelled(database: Database, process: Process) -> None:
    enqueue(database, *(waiting(run, queue_partition_key="k") for run in ids("r", 2)))
    process.claim_all()

    with database.write() as tx:
        management.cancel_all(tx, [Command(("r0",))])

    assert process.claim_all() == ["r1"]


def test_a_lane_waits_for_its_begun_run_through_recovery(
    database: Database, process: Process
) -> None:
    enqueue(database, waiting("begun", queue_partition_key="k", priority=5))
    process.claim_all()
    enqueue(database, waiting("urgent", queue_partition_key="k", priority=1))
    with database.write() as tx:
        recovery.take_over_all(tx, [TakeOver("shop", "token", 10)])
    change(database, "begun", "not_before_epoch_ms = 1000000000000000")
    assert process.claim_all() == []

    change(database, "begun", "not_before_epoch_ms = NULL")

    assert process.claim_all() == ["begun"]
    assert find(database, "begun", "queue_name, queue_partition_key, priority") == (QUEUE, "k", 5)


@pytest.mark.parametrize(
    ("assignments", "value"),
    [
        ("application_version = :value", "v2"),
        ("not_before_epoch_ms = 1000000000000000, claim_error = :value", "internal: x"),
        ("status = :value", "DELAYED"),
    ],
)
def test_a_lane_passes_by_what_may_not_run_now(
    database: Database, process: Process, assignments: str, value: str
) -> None:
    enqueue(database, *(waiting(run, queue_partition_key="k") for run in ids("r", 2)))
    change(database, "r0", assignments, value=value)

    assert process.claim_all() == ["r1"]


def test_lanes_compete_in_the_order_of_the_queue(database: Database, process: Process) -> None:
    limits = QueueLimits(QUEUE, global_concurrency=1)
    enqueue(
        database,
        waiting("z", queue_partition_key="z"),
        waiting("plain"),
        waiting("a", queue_partition_key="a"),
    )
    order = list[str]()

    while taken := process.claim_all(limits):
        order += taken
        finish(database, *taken)

    assert order == ["z", "plain", "a"]


def test_every_partition_has_limits_of_its_own(database: Database, process: Process) -> None:
    limits = QueueLimits(QUEUE, partition_concurrency=2, is_partitioned=True)
    for key in ("a", "b", None):
        enqueue(
            database,
            *(waiting(f"{key}{run}", queue_partition_key=key) for run in range(3)),
        )

    assert sorted(process.claim_all(limits)) == ["None0", "None1", "a0", "a1", "b0", "b1"]
    finish(database, "a0", "None1")
    assert sorted(process.claim_all(limits)) == ["None2", "a2"]


def test_a_partition_has_a_limit_for_each_process(database: Database, process: Process) -> None:
    limits = QueueLimits(QUEUE, partition_worker_concurrency=1, is_partitioned=True)
    other = process.with_other("two")
    enqueue(database, *(waiting(run, queue_partition_key="k") for run in ids("r", 3)))

    assert process.claim_all(limits) == ["r0"]
    assert other.claim_all(limits) == ["r1"]


def test_a_partition_has_a_rate_of_its_own(database: Database, process: Process) -> None:
    limits = QueueLimits(QUEUE, partition_rate=RateLimit(1, 1000), is_partitioned=True)
    for key in ("a", "b"):
        enqueue(database, *(waiting(f"{key}{run}", queue_partition_key=key) for run in range(2)))

    assert sorted(process.claim_all(limits)) == ["a0", "b0"]
    finish(database, "a0", "b0")

    answer = process.claimed(limits)
    assert answer.runs == []
    assert answer.next_start_ms is not None


def test_partitions_take_turns_under_the_limit_of_the_queue(
    database: Database, process: Process
) -> None:
    limits = QueueLimits(QUEUE, global_concurrency=1, partition_concurrency=1, is_partitioned=True)
    enqueue(database, *(waiting(f"a{run}", queue_partition_key="a") for run in range(4)))
    enqueue(database, *(waiting(f"b{run}", queue_partition_key="b") for run in range(2)))
    enqueue(database, waiting("plain"))
    order = list[str]()

    while taken := process.claim_all(limits):
        order += taken
        finish(database, *taken)

    assert order == ["plain", "a0", "b0", "a1", "b1", "a2", "a3"]


def test_a_sync_run_is_claimed_only_when_a_thread_is_free(
    database: Database, process: Process
) -> None:
    process.functions = (Runnable("ship", "h1"), Runnable("sail", "h2", is_async=True))
    enqueue(
        database,
        waiting("s1"),
        waiting("s2"),
        waiting("a1", name="sail"),
        waiting("lane s", queue_partition_key="k"),
        waiting("lane a", name="sail", queue_partition_key="k"),
    )

    assert process.claim(threads=0) == ["a1"]
    assert process.claim(threads=1) == ["s1"]
    assert process.claim(threads=2) == ["s2", "lane s"]


def test_a_delay_ends_by_the_clock_of_the_database(database: Database, process: Process) -> None:
    enqueue(
        database,
        waiting("due", status="DELAYED", delay_until_epoch_ms=1000),
        waiting("later", status="DELAYED", delay_until_epoch_ms=10**15),
        waiting("theirs", status="DELAYED", delay_until_epoch_ms=1000, application_name="other"),
    )

    with database.write() as tx:
        promoted = served.promote_all(tx, [served.Promotion("shop", 10)])

    assert promoted == [[QUEUE]]
    assert process.claim() == ["due"]
    with database.read() as tx:
        assert served.look(tx, "shop", []).next_due_ms == 10**15


def test_a_debounced_run_frees_its_deduplication_id_when_its_delay_ends(
    database: Database,
) -> None:
    for run in ("debounced", "plain"):
        enqueue(
            database,
            waiting(run, status="DELAYED", delay_until_epoch_ms=1000, deduplication_id=run),
        )
    change(database, "debounced", "is_debounced = TRUE")

    with database.write() as tx:
        served.promote_all(tx, [served.Promotion("shop", 10)])

    assert find(database, "debounced", "status, deduplication_id") == ("ENQUEUED", None)
    assert find(database, "plain", "status, deduplication_id") == ("ENQUEUED", "plain")


RATE = QueueLimits(QUEUE, rate=RateLimit(2, 1000))


def test_a_start_counts_after_its_run_was_cancelled(database: Database, process: Process) -> None:
    enqueue(database, *(waiting(run) for run in ids("r", 3)))
    assert process.claim_all(RATE) == ["r0", "r1"]

    with database.write() as tx:
        management.cancel_all(tx, [Command(("r0", "r1"))])

    assert process.claim_all(RATE) == []
    (cancelled,) = _listed(database, "r0")
    assert (cancelled.queue_name, cancelled.dequeued_at) == (None, None)
    assert _listed(database, queue_name=(QUEUE,)) == _listed(database, "r2")


def test_a_start_counts_after_its_run_was_dead_lettered(
    database: Database, process: Process
) -> None:
    enqueue(database, *(waiting(run) for run in ids("r", 3)))
    assert process.claim_all(RATE) == ["r0", "r1"]
    letters = [
        workflows.DeadLetter(run, find(database, run, "owner_xid")[0], None) for run in ("r0", "r1")
    ]

    with database.write() as tx:
        workflows.dead_letter_rows(tx, letters)

    assert process.claim_all(RATE) == []
    assert [run.queue_name for run in _listed(database, "r0", "r1")] == [None, None]


@pytest.mark.parametrize("change_of", ["resume", "rewind", "delete", "collect"])
@pytest.mark.parametrize("key", [None, "k"])
def test_a_start_counts_after_its_row_was_given_another_life_or_none(
    database: Database, process: Process, change_of: str, key: str | None
) -> None:
    rate = RateLimit(2, 1000)
    limits = RATE if key is None else QueueLimits(QUEUE, partition_rate=rate, is_partitioned=True)
    enqueue(database, *(waiting(run, queue_partition_key=key) for run in ids("r", 3)))
    assert process.claim_all(limits) == ["r0", "r1"]
    finish(database, "r0")
    with database.write() as tx:
        management.cancel_all(tx, [Command(("r1",))])

    with database.write() as tx:
        match change_of:
            case "resume":
                management.resume_all(tx, [Command(("r1",))])
            case "rewind":
                given = [Rewinding(run, 1, f"w{run}", "other", None, None) for run in ("r0", "r1")]
                rewinding.rewind_all(tx, given)
            case "delete":
                management.delete_all(tx, [Command(("r0", "r1"))])
            case _:
                retention.collect_all(tx, [retention.Collection("shop", 2**60, None, 10)])

    assert process.claim_all(limits) == []
    change_kept(database, "started_at_epoch_ms = 1")
    if change_of == "resume":
        change(database, "r0", "started_at_epoch_ms = 1")
    assert process.claim_all(limits) == ["r2"]
    assert kept_starts(database) == []


def test_both_starts_of_a_recovered_run_count(database: Database, process: Process) -> None:
    enqueue(database, *(waiting(run) for run in ids("r", 3)))
    assert process.claim(RATE, batch=1) == ["r0"]
    with database.write() as tx:
        recovery.take_over_all(tx, [TakeOver("shop", "token", 10)])

    again = process.claim(RATE, batch=1)

    assert again == ["r0"]
    assert process.claim_all(RATE) == []


def test_a_returned_claim_counts_no_start_but_those_before_it(
    database: Database, process: Process
) -> None:
    enqueue(database, *(waiting(run) for run in ids("r", 4)))
    assert process.claim(RATE, batch=1) == ["r0"]
    _give_back(database, "r0")
    assert process.claim_all(RATE) == ["r1", "r2"]
    with database.write() as tx:
        recovery.take_over_all(tx, [TakeOver("shop", "token", 10)])
    change(database, "r2", "status = 'SUCCESS', started_at_epoch_ms = 1")
    assert process.claim(RATE) == ["r1"]

    _give_back(database, "r1")

    assert find(database, "r1", "recovery_attempts, rate_limited") == (1, True)
    assert process.claim_all(RATE) == ["r3"]


def _give_back(database: Database, workflow_id: str) -> None:
    claim = find(database, workflow_id, "owner_xid")[0]
    with database.write() as tx:
        returns.give_back_rows(
            tx, [returns.GivenBack(workflow_id, claim, "internal: x", 1, 100_000_000)]
        )


def _listed(
    database: Database, *workflow_ids: str, queue_name: tuple[str, ...] | None = None
) -> list[listing.RunRow]:
    wanted = WorkflowFilter(workflow_ids=workflow_ids or None, queue_name=queue_name)
    with database.read() as tx:
        return listing.page(tx, wanted, lambda kinds, _: list(kinds)).rows


KEPT = Statement("SELECT queue_name, starts FROM {perdure_starts}")


def kept_starts(database: Database) -> list[Row]:
    with database.read() as tx:
        return tx.all(KEPT)


def change_kept(database: Database, assignments: str) -> None:
    with database.write() as tx:
        tx.run(Statement(f"UPDATE {{perdure_starts}} SET {assignments}"))
