"""The explorer notices a broken engine: each test breaks one promise and expects to be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dbos.engine import starts
from dbos.engine import steps as engine_steps
from dbos.engine.io import Io
from dbos.engine.replay import Replay
from dbos.ops import sleep as ops_sleep
from dbos.runtime.aio import AsyncIo
from dbos.runtime.blocking import BlockingIo
from dbos.storage import rewinding, steps, workflows
from dbos.storage.protocol import Statement, Write
from dbos.storage.rows import Recorded, RecordedStep, StepRow
from dbos.testing import Moment, Report, explore_crashes
from tests.crash.whole import CORPUS

Commit = Callable[..., Any]


def rules_broken(report: Report) -> set[str]:
    return {violation.rule for violation in report.violations}


def test_a_record_acknowledged_before_its_commit_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BlockingIo, "commit", acknowledging_early(BlockingIo.commit))

    report = explore_crashes(CORPUS["steps_in_sequence"], moments=("before", "after"))

    assert "acknowledged means durable" in rules_broken(report)


def test_a_record_that_does_not_check_its_owner_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statement = without(steps.RECORD, " AND owned.owner_xid = r.claim")
    monkeypatch.setattr(steps, "RECORD", statement)

    report = explore_crashes(CORPUS["steps_in_sequence"], moments=("frozen",))

    assert "a replaced process writes nothing" in rules_broken(report)


def test_an_outcome_that_does_not_check_its_owner_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statement = without(workflows.FINISH, "AND {workflow_status}.owner_xid = r.claim ")
    monkeypatch.setattr(workflows, "FINISH", statement)

    report = explore_crashes(CORPUS["steps_in_sequence"], moments=("frozen",))

    assert "a replaced process writes nothing" in rules_broken(report)


def test_an_outcome_that_checks_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    unowned = without(workflows.FINISH, "AND {workflow_status}.owner_xid = r.claim ")
    unchecked = without(unowned, "AND {workflow_status}.status = 'PENDING'")
    monkeypatch.setattr(workflows, "FINISH", unchecked)

    report = explore_crashes(CORPUS["direct_children_three_deep"], moments=("frozen",))

    assert "a replaced process writes nothing" in rules_broken(report)


@pytest.mark.parametrize("moment", ["before", "after", "frozen"])
def test_a_replay_that_ignores_the_records_is_noticed(
    monkeypatch: pytest.MonkeyPatch, moment: Moment
) -> None:
    for module in (engine_steps, starts, ops_sleep):
        monkeypatch.setattr(module, "recorded_step", nothing_recorded)

    report = explore_crashes(CORPUS["steps_in_sequence"], moments=(moment,))

    assert "a recorded step never runs again" in rules_broken(report)
    assert "a finished history replays without a write" in rules_broken(report)


@pytest.mark.parametrize("name", ["gathered_chains", "chains_with_children", "task_group"])
def test_a_replay_that_delivers_in_another_order_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Replay, "turn", no_turn)
    monkeypatch.setattr(AsyncIo, "settle", no_settling)

    report = explore_crashes(CORPUS[name], moments=("before",))

    assert "same result" in rules_broken(report)


def test_a_rewind_that_takes_back_too_much_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = without(rewinding.DROP_STEPS, " AND function_id >= :start_step")
    monkeypatch.setattr(rewinding, "DROP_STEPS", everything)

    report = explore_crashes(CORPUS["rewind_from_a_workflow"], moments=("before",))

    assert "a recorded step never runs again" in rules_broken(report)


def test_an_invariant_of_the_user_is_checked_at_every_point() -> None:
    seen: list[object] = []

    def steps_are_added_up(baseline: object, outcome: object) -> None:
        seen.append(outcome)
        assert len(seen) != 3, "three is one too many"

    report = explore_crashes(
        CORPUS["uncaught_step_error"], moments=("before",), invariants=[steps_are_added_up]
    )

    assert len(seen) == report.points == len(report.effects)
    assert [violation.rule for violation in report.violations] == ["steps_are_added_up"]
    assert "three is one too many" in str(report)


def without(statement: Statement, condition: str) -> Statement:
    assert condition in statement.text
    return Statement(statement.text.replace(condition, ""), statement.columns)


def acknowledging_early(commit: Commit) -> Commit:
    """Answer a record at once, and apply it with the next write."""
    delayed: dict[int, list[tuple[Write[StepRow, Recorded], StepRow, str]]] = {}

    async def commit_late(self: Io, write: Write[Any, Any], arg: Any, lane_key: str) -> Any:
        waiting = delayed.setdefault(id(self), [])
        if write is steps.record:
            waiting.append((write, arg, lane_key))
            return steps.KEPT
        while waiting:
            await commit(self, *waiting.pop(0))
        return await commit(self, write, arg, lane_key)

    return commit_late


def nothing_recorded(_: object, __: int, ___: str) -> RecordedStep | None:
    return None


async def no_turn(self: Replay, io: Io, place: int, made_at_ms: int) -> None:
    self.abandon(place)


async def no_settling(self: AsyncIo) -> None:
    return None
