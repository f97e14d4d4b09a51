"""The public values and the lifecycle table."""

from __future__ import annotations

import copy
import json
import pickle
from itertools import pairwise

import pytest

from dbos import lifecycle
from dbos.models import (
    ClientScheduleInput,
    EnqueueOptions,
    ScheduleInput,
    SendMessage,
    StepInfo,
    StepStatus,
    WorkflowStatus,
    WorkflowStatusString,
)

FIELDS = [
    "workflow_id",
    "status",
    "name",
    "class_name",
    "config_name",
    "authenticated_user",
    "assumed_role",
    "authenticated_roles",
    "input",
    "output",
    "error",
    "created_at",
    "updated_at",
    "queue_name",
    "executor_id",
    "app_version",
    "app_id",
    "workflow_timeout_ms",
    "workflow_deadline_epoch_ms",
    "deduplication_id",
    "priority",
    "queue_partition_key",
    "forked_from",
    "was_forked_from",
    "parent_workflow_id",
    "dequeued_at",
    "delay_until_epoch_ms",
    "completed_at",
    "attributes",
    "schedule_name",
    "application_name",
    "recovery_attempts",
    "incarnation_id",
    "stranded",
    "stranded_reason",
    "payload_errors",
]


def test_a_status_has_exactly_the_fields_of_the_contract() -> None:
    status = WorkflowStatus(workflow_id="w", status="PENDING", name="f")

    assert list(vars(status)) == FIELDS


def test_a_status_keeps_what_it_is_given() -> None:
    status = WorkflowStatus(workflow_id="w", status="SUCCESS", name="f", output=5, priority=3)

    assert (status.workflow_id, status.status, status.name) == ("w", "SUCCESS", "f")
    assert (status.output, status.priority, status.was_forked_from) == (5, 3, False)


def test_a_status_can_be_returned_as_json() -> None:
    status = WorkflowStatus(
        workflow_id="w", status="SUCCESS", name="f", input={"args": (1,), "kwargs": {}}
    )

    assert json.loads(json.dumps(vars(status)))["input"] == {"args": [1], "kwargs": {}}


def test_a_web_framework_encodes_a_status_with_an_error_that_cannot_be_copied() -> None:
    from fastapi.encoders import jsonable_encoder

    class Picky(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__("only one")

    status = WorkflowStatus(workflow_id="w", status="ERROR", name="f", error=Picky(1, 2))

    assert jsonable_encoder(status)["workflow_id"] == "w"


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="no field named colour"):
        WorkflowStatus(workflow_id="w", status="PENDING", name="f", colour="red")


def test_the_text_of_a_status_shows_no_payload() -> None:
    status = WorkflowStatus(workflow_id="w", status="SUCCESS", name="f", output="secret")

    assert repr(status) == "WorkflowStatus(workflow_id='w', status='SUCCESS', name='f')"


def test_statuses_compare_by_value_and_survive_copies() -> None:
    status = WorkflowStatus(workflow_id="w", status="SUCCESS", name="f", output=[1])
    other = WorkflowStatus(workflow_id="w", status="SUCCESS", name="f", output=[2])

    assert pickle.loads(pickle.dumps(status)) == status
    assert copy.deepcopy(status) == status
    assert WorkflowStatus(**vars(status)) == status
    assert status != other
    assert status != "w"


def test_the_seven_statuses_are_named_as_they_are_stored() -> None:
    assert {member.name for member in WorkflowStatusString} == lifecycle.ALL
    assert all(member.name == member.value for member in WorkflowStatusString)


def test_step_info_has_the_fields_of_the_contract() -> None:
    assert list(StepInfo.__annotations__) == [
        "function_id",
        "function_name",
        "output",
        "error",
        "child_workflow_id",
        "started_at_epoch_ms",
        "completed_at_epoch_ms",
        "payload_errors",
    ]
    assert StepInfo.__optional_keys__ == {"payload_errors"}


def test_an_enqueue_needs_a_workflow_and_a_queue_alone() -> None:
    assert EnqueueOptions.__required_keys__ == {"workflow_name", "queue_name"}


def test_a_schedule_needs_a_name_a_workflow_and_a_cron_expression_alone() -> None:
    assert ScheduleInput.__required_keys__ == {"schedule_name", "workflow_fn", "schedule"}
    assert ClientScheduleInput.__required_keys__ == {"schedule_name", "workflow_name", "schedule"}


def test_messages_and_step_statuses_are_plain_values() -> None:
    message = SendMessage("w", {"a": 1})

    assert message == SendMessage("w", {"a": 1}, None, None)
    assert StepStatus(1, None, None).step_id == 1


def test_every_status_is_either_active_or_terminal() -> None:
    assert lifecycle.ACTIVE | lifecycle.TERMINAL == lifecycle.ALL
    assert not lifecycle.ACTIVE & lifecycle.TERMINAL
    assert len(lifecycle.ALL) == 7


def test_an_outcome_is_left_only_by_rewind() -> None:
    for event, moves in lifecycle.TRANSITIONS.items():
        if event != "rewind":
            assert not lifecycle.FINAL & set(moves), event


def test_only_a_claim_makes_a_run_pending() -> None:
    makers = {e for e, moves in lifecycle.TRANSITIONS.items() if "PENDING" in moves.values()}

    assert makers == {"claim"}


def test_every_active_run_can_be_cancelled_and_every_cancelled_one_resumed() -> None:
    for status in lifecycle.TRANSITIONS["cancel"]:
        assert lifecycle.after("cancel", status) == "CANCELLED"
    assert lifecycle.ACTIVE.issubset(lifecycle.TRANSITIONS["cancel"])
    assert lifecycle.after("resume", "CANCELLED") == "ENQUEUED"


def test_an_event_that_does_not_concern_a_status_leads_nowhere() -> None:
    assert lifecycle.after("cancel", "SUCCESS") is None
    assert lifecycle.after("succeed", "CANCELLED") is None


def test_a_delayed_run_reaches_its_end_through_the_table() -> None:
    path: list[lifecycle.Status] = ["DELAYED"]
    events: list[lifecycle.Event] = ["delay_ends", "claim", "take_over", "claim", "succeed"]

    for event in events:
        status = lifecycle.after(event, path[-1])
        assert status is not None
        path.append(status)

    assert path[-1] == "SUCCESS"
    assert all(before != after for before, after in pairwise(path))
