"""The rules that are checked after a crash, one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dbos.storage.management import Command, Commanded
from dbos.storage.rewinding import Rewinding, Rewound
from dbos.storage.rows import FinishRow, Recorded
from dbos.storage.snapshots import RunState, Snapshot, StepState
from dbos.testing import invariants
from dbos.testing.asks import Ask
from dbos.testing.ledger import Ledger
from dbos.testing.report import Ending, Outcome

STEP = StepState("order", 1, "charge", "10", None, None)
ENDED = RunState("order", "SUCCESS", "checkout", "10", None)
SNAPSHOT = Snapshot({"order": ENDED}, {("order", 1): STEP}, frozenset(), frozenset(), ())
OUTCOME = Outcome(Ending(10), SNAPSHOT, {("order", 1): 1})


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    found = invariants.of_a_crash(OUTCOME, (), Ledger(), OUTCOME)

    assert list(found) == []


def test_a_scenario_that_raises_without_a_crash_is_found() -> None:
    raising = replace(OUTCOME, ending=Ending(error="TypeError: none"))

    found = list(invariants.without_a_crash(Ledger(), raising))

    assert found == [("the scenario returns", "it raised TypeError: none, even without a crash")]


def test_an_acknowledged_outcome_that_is_not_stored_is_found() -> None:
    ledger = Ledger(outcomes={"order": FinishRow("order", "SUCCESS", "11", None, "claim")})

    found = invariants.acknowledged_is_durable(ledger, SNAPSHOT)

    assert list(found) == [
        ("acknowledged means durable", "the outcome of workflow order is not the acknowledged one")
    ]


def test_an_acknowledged_run_that_is_not_stored_is_found() -> None:
    ledger = Ledger(admitted={"other"})

    found = list(invariants.acknowledged_is_durable(ledger, SNAPSHOT))

    assert found == [
        ("acknowledged means durable", "workflow other was acknowledged and is not there")
    ]


def test_a_run_that_never_ends_is_found() -> None:
    pending = replace(SNAPSHOT, runs={"order": ENDED._replace(status="PENDING")})

    found = list(invariants.nothing_left(pending))

    assert found == [("every run ends", "workflow order (checkout) is PENDING")]


def test_a_changed_record_is_found() -> None:
    changed = replace(SNAPSHOT, steps={("order", 1): STEP._replace(output="11")})

    found = list(invariants.written_is_kept(SNAPSHOT, changed))

    assert found == [
        ("a record never changes", "step 1 of workflow order (charge) changed after the crash")
    ]


def test_a_changed_outcome_is_found() -> None:
    changed = replace(SNAPSHOT, runs={"order": ENDED._replace(output="11")})

    found = list(invariants.written_is_kept(SNAPSHOT, changed))

    assert found == [("an outcome never changes", "that of workflow order did")]


def test_a_record_without_a_body_that_ran_is_found() -> None:
    invented = replace(OUTCOME, bodies={})

    found = list(invariants.bodies_ran(OUTCOME, invented))

    assert found == [("a recorded step has run", "step 1 of workflow order (charge) never did")]


def test_lost_and_surplus_runs_are_found() -> None:
    other = replace(SNAPSHOT, runs={"order": ENDED._replace(name="refund")})

    found = list(invariants.same_content(SNAPSHOT, other))

    assert found == [
        ("same runs", "no workflow checkout ended as SUCCESS"),
        ("same runs", "one workflow refund too many ended as SUCCESS"),
    ]


def test_lost_messages_events_and_stream_entries_are_found() -> None:
    full = replace(
        SNAPSHOT,
        events=frozenset({("order", "state", "paid")}),
        streams=frozenset({("order", "log", 0, "begun")}),
        messages=(("order", "approval", "yes", True),),
    )

    found = {rule for rule, _ in invariants.same_content(full, SNAPSHOT)}

    assert found == {"same events", "same stream entries", "same messages"}


def test_a_write_to_a_run_that_was_taken_away_is_found() -> None:
    fresh = replace(SNAPSHOT, steps={})

    found = list(invariants.fenced(fresh, SNAPSHOT))

    assert found == [("a replaced process writes nothing", "it wrote step 1 of workflow order")]


def test_a_run_of_its_own_is_no_fault_of_a_replaced_process() -> None:
    empty = replace(SNAPSHOT, runs={}, steps={})

    assert list(invariants.fenced(empty, SNAPSHOT)) == []


CANCELLED = ENDED._replace(status="CANCELLED", output=None)
STOPPED = replace(SNAPSHOT, runs={"order": CANCELLED})
GONE = replace(SNAPSHOT, runs={}, steps={})
DELETE = Ask("delete", ("order",))
OTHER_DELETE = Ask("delete", ("other",))


@pytest.mark.parametrize(
    ("left", "later", "final", "is_kept"),
    [
        (STOPPED, [], SNAPSHOT, False),
        (STOPPED, [Ask("resume", ("order",))], SNAPSHOT, True),
        (STOPPED, [Ask("rewind", ("order",), 1)], SNAPSHOT, True),
        (STOPPED, [Ask("resume", ("other",))], SNAPSHOT, False),
        (SNAPSHOT, [Ask("resume", ("order",))], STOPPED, False),
        (SNAPSHOT, [DELETE], GONE, True),
        (SNAPSHOT, [OTHER_DELETE], GONE, False),
        (SNAPSHOT, [Ask("rewind", ("order",), 1)], GONE, False),
        (SNAPSHOT, [DELETE], replace(SNAPSHOT, steps={}), False),
    ],
)
def test_only_what_was_asked_for_changes_what_was_written(
    left: Snapshot, later: list[Ask], final: Snapshot, is_kept: bool
) -> None:
    found = list(invariants.written_is_kept(left, final, later))

    assert (found == []) is is_kept


def test_a_child_goes_with_its_parent_only_where_that_was_asked_for() -> None:
    child = replace(SNAPSHOT, runs={"order": ENDED._replace(parent="day"), "day": ENDED})
    alone, family = Ask("delete", ("day",)), Ask("delete", ("day",), with_children=True)

    assert list(invariants.written_is_kept(child, GONE, [family])) == []
    assert list(invariants.written_is_kept(child, GONE, [alone])) != []


def test_a_step_of_a_fork_may_have_run_in_its_source_only_if_it_was_copied() -> None:
    fork = ENDED._replace(workflow_id="fork", forked_from="order")
    copy = STEP._replace(workflow_id="fork")
    runs, steps = {**SNAPSHOT.runs, "fork": fork}, {**SNAPSHOT.steps, ("fork", 1): copy}
    forked = replace(OUTCOME, snapshot=replace(SNAPSHOT, runs=runs, steps=steps))

    above = list(invariants.bodies_ran(OUTCOME, forked, [Ask("fork", ("fork", "order"), 2)]))
    below = list(invariants.bodies_ran(OUTCOME, forked, [Ask("fork", ("fork", "order"), 1)]))

    assert above == []
    assert below == [("a recorded step has run", "step 1 of workflow fork (charge) never did")]


@pytest.mark.parametrize(
    ("ask", "after", "is_fenced"),
    [
        (Ask("cancel", ("order",)), STOPPED, True),
        (Ask("cancel", ("order",), caller_id="order"), STOPPED, False),
        (Ask("cancel", ("other",)), STOPPED, False),
        (Ask("resume", ("order",)), SNAPSHOT, False),
        (DELETE, GONE, True),
        (OTHER_DELETE, GONE, False),
    ],
)
def test_a_replaced_process_may_only_steer_from_outside(
    ask: Ask, after: Snapshot, is_fenced: bool
) -> None:
    pending = ENDED._replace(status="PENDING", output=None)
    before = replace(SNAPSHOT, runs={"order": pending})

    found = list(invariants.fenced(before, after, [ask]))

    assert (found == []) is is_fenced


def test_a_process_does_not_count_on_what_it_asked_to_be_taken_away() -> None:
    ledger = Ledger(recorded={("order", 1), ("order", 2)}, admitted={"order"})

    ledger.ask("rewind", Rewinding("order", 2, "claim", "queue", None, None))
    after_rewind = set(ledger.recorded)
    ledger.ask("delete", Command(("order",)))

    assert after_rewind == {("order", 1)}
    assert (ledger.recorded, ledger.admitted) == (set(), set())


@pytest.mark.parametrize(
    ("write", "arg", "answer"),
    [
        ("delete", Command(("order",)), Commanded(Recorded("lost", "PENDING"))),
        ("rewind", Rewinding("order", 1, "claim", "queue", None, None), Rewound("active")),
    ],
)
def test_what_was_refused_takes_nothing_away(write: str, arg: object, answer: object) -> None:
    ledger = Ledger(recorded={("order", 1)}, admitted={"order"})

    ledger.ask(write, arg)
    ledger.acknowledge(arg, answer)

    assert (ledger.recorded, ledger.admitted, ledger.asks) == ({("order", 1)}, {"order"}, [])
