"""A fork at every step of a random workflow has exactly what the contract says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbos import DBOS, SetWorkflowID
from tests.behaviour.application import Application

ELSEWHERE = "a-queue-that-nobody-serves"
KINDS = ("step", "event", "event_in_step", "entry", "entry_in_step", "child", "receive")
Script = list[tuple[str, str]]
scripts = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from("ab")), min_size=1, max_size=6)


@dataclass
class Expected:
    """What a run of a script has made durable, by step id."""

    steps: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    events: list[tuple[int, str, int]] = field(default_factory=list[tuple[int, str, int]])
    entries: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])

    def below(self, step: int) -> Expected:
        """What a fork at a step takes over."""
        return Expected(
            [row for row in self.steps if row[0] < step],
            [row for row in self.events if row[0] < step],
            [row for row in self.entries if row[0] < step],
        )

    def latest_events(self) -> dict[str, int]:
        return {key: value for _, key, value in self.events}

    def stream_rows(self) -> list[tuple[str, int, int]]:
        """Key, offset and step id of each entry."""
        return [
            (key, offset, step)
            for key in "ab"
            for offset, step in enumerate(step for step, written in self.entries if written == key)
        ]


NAMES = {
    "step": ("work",),
    "event": ("DBOS.setEvent",),
    "event_in_step": ("announce",),
    "entry": ("DBOS.writeStream",),
    "entry_in_step": ("append",),
    "child": ("child", "DBOS.getResult"),
    "receive": ("DBOS.recv", "DBOS.sleep"),
}


def expected(script: Script) -> Expected:
    model = Expected()
    for index, (kind, key) in enumerate(script):
        first = len(model.steps) + 1
        model.steps += enumerate(NAMES[kind], first)
        if kind.startswith("event"):
            model.events.append((first, key, index))
        if kind.startswith("entry"):
            model.entries.append((first, key))
    return model


@pytest.fixture
def perform(app: Application) -> Callable[[str, str, int], Any]:
    """Each kind of operation, as workflow code calls it."""

    @DBOS.step(name="work")
    def work(value: int) -> int:
        return value

    @DBOS.step(name="announce")
    def announce(key: str, value: int) -> None:
        DBOS.set_event(key, value)

    @DBOS.step(name="append")
    def append(key: str, value: int) -> None:
        DBOS.write_stream(key, value)

    @DBOS.workflow(name="child")
    def child(value: int) -> int:
        return value

    operations: dict[str, Callable[[str, int], Any]] = {
        "step": lambda _, value: work(value),
        "event": DBOS.set_event,
        "event_in_step": announce,
        "entry": DBOS.write_stream,
        "entry_in_step": append,
        "child": lambda _, value: child(value),
        "receive": lambda key, _: DBOS.recv(key, 30),
    }
    return lambda kind, key, value: operations[kind](key, value)


def with_messages(workflow_id: str, script: Script, model: Expected) -> Any:
    """Have a run receive what it has not received yet, and end."""
    recorded = len([name for _, name in model.steps if name == "DBOS.recv"])
    receiving = [(index, key) for index, (kind, key) in enumerate(script) if kind == "receive"]
    for index, key in receiving[recorded:]:
        DBOS.send(workflow_id, index, key)
    return DBOS.get_result(workflow_id)


def check_fork(app: Application, source_id: str, fork_id: str, model: Expected) -> None:
    """A fork that has not begun has what the model says, and nothing else."""
    history = app.rows(
        "SELECT function_id, key FROM {workflow_events_history} WHERE workflow_uuid = ?"
        " ORDER BY function_id",
        fork_id,
    )
    entries = app.rows(
        'SELECT key, "offset", function_id FROM {streams} WHERE workflow_uuid = ?'
        ' ORDER BY key, "offset"',
        fork_id,
    )
    waiting = app.rows("SELECT COUNT(*) FROM {notifications} WHERE destination_uuid = ?", fork_id)
    assert app.steps(fork_id) == model.steps
    assert app.records(fork_id) == app.records(source_id)[: len(model.steps)]
    assert history == [(step, key) for step, key, _ in model.events]
    assert DBOS.get_all_events(fork_id) == model.latest_events()
    assert entries == model.stream_rows()
    assert waiting == [(0,)]


def test_a_fork_at_each_step_has_what_was_recorded_below_it_and_comes_to_the_same_end(
    app: Application, perform: Callable[[str, str, int], Any]
) -> None:
    @DBOS.workflow(name="scripted")
    def scripted(script: Script) -> list[Any]:
        return [perform(kind, key, index) for index, (kind, key) in enumerate(script)]

    numbers = iter(range(1_000_000))

    @settings(
        max_examples=4,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(scripts)
    def check(script: Script) -> None:
        source_id = f"source-{next(numbers)}"
        with SetWorkflowID(source_id):
            DBOS.start_workflow(scripted, script)
        result = with_messages(source_id, script, Expected())
        whole = expected(script)
        assert app.steps(source_id) == whole.steps

        for step in range(len(whole.steps) + 3):
            with SetWorkflowID(f"{source_id}-fork-{step}"):
                fork_id = DBOS.fork_workflow(source_id, step, queue_name=ELSEWHERE).workflow_id
            check_fork(app, source_id, fork_id, whole.below(step))
            DBOS.resume_workflow(fork_id)
            assert with_messages(fork_id, script, whole.below(step)) == result
            # The deadline of a wait whose end was copied is not needed any more.
            skipped = (step, "DBOS.sleep")
            assert app.steps(fork_id) == [row for row in whole.steps if row != skipped]
            assert DBOS.get_all_events(fork_id) == whole.latest_events()

    check()
