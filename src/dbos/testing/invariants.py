"""What must hold after every crash: pure comparisons of ledgers and snapshots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dbos.lifecycle import ERROR, SUCCESS, TERMINAL
from dbos.storage.snapshots import Snapshot
from dbos.testing.asks import Ask, Kind, are_about, parents_of
from dbos.testing.ledger import Ledger, StepKey
from dbos.testing.report import Ending, Outcome

FINAL = frozenset({SUCCESS, ERROR})

Finding = tuple[str, str]
"""The rule that was broken, and how."""


@dataclass(frozen=True, slots=True)
class Life:
    """A process that was interrupted: its books, and what was durable when it was."""

    ledger: Ledger
    left: Snapshot
    went_on: bool = False
    """Whether it was only paused, so that it was told more after that."""


def of_a_crash(
    baseline: Outcome, lives: Sequence[Life], last: Ledger, outcome: Outcome
) -> Iterator[Finding]:
    """Everything that was promised, after these interrupted lives and a last one."""
    yield from same_ending(baseline.ending, outcome.ending)
    yield from nothing_left(outcome.snapshot)
    yield from same_content(baseline.snapshot, outcome.snapshot)
    for index, life in enumerate(lives):
        later = [ask for after in lives[index + 1 :] for ask in after.ledger.asks] + last.asks
        if life.went_on:
            yield from acknowledged_is_durable(life.ledger, outcome.snapshot, later)
            later = [*life.ledger.asks, *later]
        else:
            yield from acknowledged_is_durable(life.ledger, life.left)
        yield from written_is_kept(life.left, outcome.snapshot, later)
        yield from no_repeats(life.ledger)
    yield from acknowledged_is_durable(last, outcome.snapshot)
    yield from no_repeats(last)
    asks = [ask for life in lives for ask in life.ledger.asks] + last.asks
    yield from bodies_ran(baseline, outcome, asks)


def without_a_crash(ledger: Ledger, outcome: Outcome) -> Iterator[Finding]:
    """What was promised when nothing is interrupted."""
    if outcome.ending.hangs:
        yield "the scenario ends", "its caller never got an answer, even without a crash"
    elif outcome.ending.error is not None:
        yield "the scenario returns", f"it {outcome.ending}, even without a crash"
    yield from nothing_left(outcome.snapshot)
    yield from acknowledged_is_durable(ledger, outcome.snapshot)
    yield from no_repeats(ledger)


def same_ending(expected: Ending, found: Ending | None) -> Iterator[Finding]:
    """The caller gets the result that it gets without a crash."""
    if found is None or found.hangs:
        yield "the scenario ends", "its caller never got an answer"
    elif found != expected:
        yield "same result", f"the scenario {found}, and without a crash it {expected}"


def nothing_left(snapshot: Snapshot) -> Iterator[Finding]:
    """Every run has ended, and no step has two rows."""
    for run in snapshot.runs.values():
        if run.status not in TERMINAL:
            yield "every run ends", f"workflow {run.workflow_id} ({run.name}) is {run.status}"
    for workflow_id, step_id in snapshot.repeated:
        yield "one row per step", f"workflow {workflow_id} has two rows for step {step_id}"


def same_content(expected: Snapshot, found: Snapshot) -> Iterator[Finding]:
    """The same runs ended in the same way, with the same events, streams and messages."""
    wanted, got = _endings(expected), _endings(found)
    for name, status in (wanted - got).elements():
        yield "same runs", f"no workflow {name} ended as {status}"
    for name, status in (got - wanted).elements():
        yield "same runs", f"one workflow {name} too many ended as {status}"
    for what, before, after in (
        ("events", expected.events, found.events),
        ("stream entries", expected.streams, found.streams),
    ):
        if before != after:
            yield f"same {what}", f"expected {sorted(before, key=repr)}, found {sorted(after)}"
    if expected.messages != found.messages:
        yield "same messages", f"expected {expected.messages}, found {found.messages}"


def acknowledged_is_durable(
    ledger: Ledger, snapshot: Snapshot, by_others: Sequence[Ask] = ()
) -> Iterator[Finding]:
    """What the process was told is recorded is in the database, as it was told.

    Unless others asked that the run be deleted, and it is not there at all.
    """
    rule = "acknowledged means durable"
    gone = _deleted(ledger, snapshot, by_others)
    for key, row in list(ledger.records.items()):
        step = snapshot.steps.get(key)
        if key[0] in gone:
            continue
        if step is None:
            yield rule, f"{_step(key)} ({row.function_name}) was acknowledged and is not there"
        elif (step.name, step.output, step.error) != (row.function_name, row.output, row.error):
            yield rule, f"{_step(key)} ({row.function_name}) differs from what was acknowledged"
    for workflow_id, outcome in list(ledger.outcomes.items()):
        run = snapshot.runs.get(workflow_id)
        told = (outcome.status, outcome.output, outcome.error)
        if workflow_id in gone:
            continue
        if run is None or (run.status, run.output, run.error) != told:
            yield rule, f"the outcome of workflow {workflow_id} is not the acknowledged one"
    for workflow_id in list(ledger.admitted):
        if workflow_id not in snapshot.runs and workflow_id not in gone:
            yield rule, f"workflow {workflow_id} was acknowledged and is not there"


def written_is_kept(
    left: Snapshot, final: Snapshot, later: Sequence[Ask] = ()
) -> Iterator[Finding]:
    """A recorded step never changes, and neither does an outcome, but by what was asked later.

    A deleted run goes with its steps. One that was resumed or rewound ends once more; the steps
    and the success or error of a run that is played again are the same again.
    """
    parents = parents_of(left.runs)
    for key, step in left.steps.items():
        if key[0] not in final.runs and are_about(later, ["delete"], key[0], parents):
            continue
        if final.steps.get(key) != step:
            yield "a record never changes", f"{_step(key)} ({step.name}) changed after the crash"
    for workflow_id, run in left.runs.items():
        now = final.runs.get(workflow_id)
        ways: list[Kind] = ["delete"] if now is None else ["resume", "rewind"]
        is_asked = are_about(later, ways, workflow_id, parents)
        if (
            now != run
            and run.status in TERMINAL
            and not (is_asked and (now is None or run.status not in FINAL))
        ):
            yield "an outcome never changes", f"that of workflow {workflow_id} did"


def no_repeats(ledger: Ledger) -> Iterator[Finding]:
    """No step body runs again once its record is known."""
    for key in ledger.repeats:
        yield "a recorded step never runs again", f"the body of {_step(key)} did"


def bodies_ran(baseline: Outcome, outcome: Outcome, asks: Sequence[Ask] = ()) -> Iterator[Finding]:
    """Every recorded step has run at least once; in its source if it was copied into a fork."""
    copied = {ask.workflow_ids[0]: ask for ask in asks if ask.kind == "fork"}
    with_body = {
        baseline.snapshot.steps[key].name
        for key in baseline.bodies
        if key in baseline.snapshot.steps
    }
    for key, step in outcome.snapshot.steps.items():
        origin = key
        while (fork := copied.get(origin[0])) is not None and key[1] < fork.start_step:
            origin = fork.workflow_ids[1], key[1]
        if step.name in with_body and not outcome.bodies.get(origin):
            yield "a recorded step has run", f"{_step(key)} ({step.name}) never did"


def fenced(before: Snapshot, after: Snapshot, asks: Sequence[Ask] = ()) -> Iterator[Finding]:
    """A process that was replaced writes nothing to the runs that were taken from it.

    As any other process it may still steer them, from outside of their code: that is no outcome.
    """
    rule = "a replaced process writes nothing"
    parents = parents_of(before.runs)
    outside = [ask for ask in asks if ask.caller_id not in before.runs]
    for workflow_id, run in before.runs.items():
        now = after.runs.get(workflow_id)
        ways: list[Kind] = ["delete"] if now is None else ["cancel", "resume", "rewind"]
        is_asked = are_about(outside, ways, workflow_id, parents)
        if now != run and not (is_asked and (now is None or now.status not in FINAL)):
            yield rule, f"it wrote an outcome of workflow {workflow_id}"
    for key in _changed(before, after):
        is_removed = key not in after.steps and any(ask.removes(key, parents) for ask in outside)
        if key[0] in before.runs and not is_removed:
            yield rule, f"it wrote {_step(key)}"
    for what, old, new in (
        ("an event", before.events, after.events),
        ("a stream entry", before.streams, after.streams),
    ):
        if any(row[0] in before.runs for row in old ^ new):
            yield rule, f"it wrote {what}"


def replayed(before: Snapshot, replay: Ledger, after: Snapshot) -> Iterator[Finding]:
    """Running a finished history once more runs no step, records nothing and ends alike."""
    rule = "a finished history replays without a write"
    for key in replay.bodies:
        yield rule, f"the body of {_step(key)} ran"
    for key in _changed(before, after):
        yield rule, f"{_step(key)} was written"
    if before.runs != after.runs:
        yield rule, "an outcome differs"


def _deleted(ledger: Ledger, snapshot: Snapshot, asks: Sequence[Ask]) -> frozenset[str]:
    """The runs a process heard of that are gone because somebody else asked for that."""
    parents = {row.child_workflow_id or "": key[0] for key, row in list(ledger.records.items())}
    known = {key[0] for key in list(ledger.records)} | ledger.outcomes.keys() | ledger.admitted
    return frozenset(
        run
        for run in known
        if run not in snapshot.runs and are_about(asks, ["delete"], run, parents)
    )


def _changed(before: Snapshot, after: Snapshot) -> Iterable[StepKey]:
    return [
        key
        for key in before.steps.keys() | after.steps.keys()
        if before.steps.get(key) != after.steps.get(key)
    ]


def _endings(snapshot: Snapshot) -> Counter[tuple[str, str]]:
    return Counter((run.name or "", run.status) for run in snapshot.runs.values())


def _step(key: StepKey) -> str:
    return f"step {key[1]} of workflow {key[0]}"
