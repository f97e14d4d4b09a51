"""A fork at every step of a random workflow has exactly what the contract says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbos import DBOS, SetWorkflowID
from tests.behaviour.application import Application

ELSEWHERE = "a-queue-that-nobody-serves"
KINDS = ("step", "event", "event_in_step", "entry", "entry_in_step", "child", "receive")
Script = list[tuple[str, str]]
scripts = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from("ab")), min_size=1, max_size=7)


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


def taken_over(app: Application, fork_id: str) -> Expected:
    """What a fork has, without its values."""
    history = app.rows(
        "SELECT function_id, key FROM {workflow_events_history} WHERE workflow_uuid = ?"
        " ORDER BY function_id",
        fork_id,
    )
    events = DBOS.get_all_events(fork_id)
    return Expected(app.steps(fork_id), [(row[0], row[1], events[row[1]]) for row in history])


def test_a_fork_at_each_step_has_what_was_recorded_below_it_and_comes_to_the_same_end(
    app: Application,
) -> None:
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

    @DBOS.workflow(name="scripted")
    def scripted(script: Script) -> list[Any]:
        return [perform(kind, key, index) for index, (kind, key) in enumerate(script)]

    def perform(kind: str, key: str, index: int) -> Any:
        match kind:
            case "step":
                return work(index)
            case "event":
                return DBOS.set_event(key, index)
            case "event_in_step":
                return announce(key, index)
            case "entry":
                return DBOS.write_stream(key, index)
            case "entry_in_step":
                return append(key, index)
            case "child":
                return child(index)
            case _:
                return DBOS.recv(key, 30)

    def with_messages(workflow_id: str, script: Script, model: Expected) -> Any:
        """Have a run receive what it has not received yet, and end."""
        recorded = len([name for _, name in model.steps if name == "DBOS.recv"])
        waiting = [(index, key) for index, (kind, key) in enumerate(script) if kind == "receive"][
            recorded:
        ]
        for index, key in waiting:
            DBOS.send(workflow_id, index, key)
        return DBOS.get_result(workflow_id)

    numbers = iter(range(1_000_000))

    @settings(
        max_examples=8,
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
                fork = DBOS.fork_workflow(source_id, step, queue_name=ELSEWHERE)
            model = whole.below(step)
            fork_id = fork.workflow_id
            has = taken_over(app, fork_id)
            assert has.steps == model.steps
            assert [row[:2] for row in has.events] == [row[:2] for row in model.events]
            assert DBOS.get_all_events(fork_id) == model.latest_events()
            assert (
                app.rows(
                    'SELECT key, "offset", function_id FROM {streams} WHERE workflow_uuid = ?'
                    ' ORDER BY key, "offset"',
                    fork_id,
                )
                == model.stream_rows()
            )
            assert app.records(fork_id) == app.records(source_id)[: len(model.steps)]
            waiting = "SELECT COUNT(*) FROM {notifications} WHERE destination_uuid = ?"
            assert app.rows(waiting, fork_id) == [(0,)]
            DBOS.resume_workflow(fork_id)
            assert with_messages(fork_id, script, model) == result
            assert app.steps(fork_id) == whole.steps
            assert DBOS.get_all_events(fork_id) == whole.latest_events()

    check()
