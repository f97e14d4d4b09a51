"""Lists of workflows: every filter, their scope, and rows that cannot be read whole."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from dbos.error import DBOSException, DBOSInvalidInputError, DBOSQueryTimeoutError
from tests.behaviour.application import Application

ALL = ["a_1", "fails", "fails-1", "queued"]


def ids(**filters: Any) -> list[str]:
    return [status.workflow_id for status in DBOS.list_workflows(**filters)]


def iso(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat()


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ALL),
    ({"workflow_ids": ["queued", "a_1"]}, ["a_1", "queued"]),
    ({"workflow_ids": []}, ALL),
    ({"workflow_id": "fails"}, ["fails"]),
    ({"workflow_id": ["fails"], "workflow_ids": ["a_1"]}, ["a_1", "fails"]),
    ({"status": "ERROR"}, ["fails"]),
    ({"status": ["ERROR", "ENQUEUED"]}, ["fails", "queued"]),
    ({"status": "no such status"}, []),
    ({"name": "greet"}, ["a_1", "fails-1", "queued"]),
    ({"name": ["fail", "nobody"]}, ["fails"]),
    ({"app_version": "v1"}, ALL),
    ({"app_version": "v2"}, []),
    ({"parent_workflow_id": "fails"}, ["fails-1"]),
    ({"has_parent": True}, ["fails-1"]),
    ({"has_parent": False}, ["a_1", "fails", "queued"]),
    ({"queue_name": "never"}, ["queued"]),
    ({"queues_only": True}, ["queued"]),
    ({"queues_only": True, "status": "SUCCESS"}, []),
    ({"executor_id": "local"}, ALL),
    ({"workflow_id_prefix": "a_"}, ["a_1"]),
    ({"workflow_id_prefix": "A_"}, []),
    ({"workflow_id_prefix": "fail%"}, []),
    ({"workflow_id_prefix": ["fail", "q"]}, ["fails", "fails-1", "queued"]),
    ({"forked_from": "a_1"}, []),
    ({"is_fork": False}, ALL),
    ({"was_forked_from": True}, []),
    ({"user": "nobody"}, []),
    ({"schedule_name": "nightly"}, []),
    ({"limit": 2}, ["a_1", "fails"]),
    ({"limit": 0}, ALL),
    ({"offset": 3}, ["queued"]),
    ({"limit": 1, "offset": 1}, ["fails"]),
    ({"sort_desc": True, "limit": 1}, ["queued"]),
    ({"start_time": "2020-01-01"}, ALL),
    ({"end_time": "2020-01-01T00:00:00Z"}, []),
    ({"completed_after": "2020-01-01"}, ["a_1", "fails", "fails-1"]),
    ({"completed_before": "2020-01-01"}, []),
    ({"dequeued_after": "2020-01-01"}, []),
    ({"application_name": "shop"}, ALL),
    ({"application_name": "elsewhere"}, []),
    ({"stranded": True}, []),
    ({"stranded": False}, ALL),
    ({"limit": 2**63 - 1, "offset": 2**63 - 1}, []),
    ({"limit": 2**63 - 1, "offset": 1}, ALL[1:]),
]
TEXTS = (
    "workflow_ids",
    "workflow_id",
    "status",
    "name",
    "app_version",
    "forked_from",
    "parent_workflow_id",
    "user",
    "queue_name",
    "executor_id",
    "schedule_name",
    "workflow_id_prefix",
    "application_name",
)
TIMES = (
    "start_time",
    "end_time",
    "completed_after",
    "completed_before",
    "dequeued_after",
    "dequeued_before",
)
QUESTIONS = ("was_forked_from", "has_parent", "stranded", "is_fork")
SWITCHES = ("queues_only", "sort_desc", "load_input", "load_output")
REFUSED: list[tuple[Sequence[str], Sequence[Any]]] = [
    (TEXTS, (5, b"bytes", [None], ["a", 5], "a\0b", "\ud800", "x" * 3000)),
    (TIMES, ("yesterday", "", 5, datetime(2026, 1, 31, tzinfo=UTC), "10000-01-01")),
    (("limit", "offset"), (-1, True, 1.5, "1", 2**63)),
    (QUESTIONS, ("yes", 1)),
    (SWITCHES, ("yes", 1, None)),
    (("workflow_id_prefix",), ([f"p{index}" for index in range(501)],)),
    (("attributes",), ([], {"a": float("nan")}, {"a": "\0"}, {"a": object()})),
]


def test_each_filter_lists_what_it_says(populated: Application) -> None:
    for filters, expected in FILTERS:
        assert ids(**filters) == expected, filters
    [created] = [status.created_at for status in DBOS.list_workflows(workflow_id="a_1")]
    assert "a_1" in ids(start_time=iso(created), end_time=iso(created))


def test_bad_filters_are_refused_by_name(app: Application) -> None:
    for names, values in REFUSED:
        for name, value in itertools.product(names, values):
            with pytest.raises(DBOSInvalidInputError, match=name) as refused:
                DBOS.list_workflows(**{name: value})
            assert len(str(refused.value)) < 200, (name, value)
    unusable: list[dict[str, Any]] = [
        {"limit": -1},
        {"offset": 2**63},
        {"limit": "1"},
        {"load_output": None},
    ]
    for page in unusable:
        with pytest.raises(DBOSInvalidInputError, match=next(iter(page))):
            DBOS.list_workflow_steps("any", **page)
    assert ids(workflow_id_prefix=[f"p{index}" for index in range(500)]) == []


def test_attributes_are_a_filter_on_postgresql_alone(populated: Application) -> None:
    if populated.is_sqlite:
        with pytest.raises(DBOSException, match="not supported on SQLite"):
            DBOS.list_workflows(attributes={"kind": "first"})
    else:
        assert ids(attributes={"kind": "first"}) == ["a_1"]
        assert ids(attributes={"kind": "other"}) == []


def test_counts_tell_what_the_list_of_the_same_filters_holds(populated: Application) -> None:
    of_a_page = {"limit", "offset", "sort_desc", "load_input", "load_output"}
    for filters, _ in FILTERS:
        if of_a_page.isdisjoint(filters):
            listed = Counter(status.status for status in DBOS.list_workflows(**filters))

            assert DBOS.count_workflows(**filters) == listed, filters
    assert DBOS.count_workflows() == {"ENQUEUED": 1, "SUCCESS": 2, "ERROR": 1}
    assert asyncio.run(DBOS.count_workflows_async(status="ERROR")) == {"ERROR": 1}


def test_a_count_has_no_parameter_of_a_page(app: Application) -> None:
    for name in ("limit", "offset", "sort_desc", "load_input", "load_output"):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            DBOS.count_workflows(**{name: True})


def test_a_count_in_a_workflow_is_recorded(app: Application) -> None:
    @DBOS.workflow()
    def counting() -> dict[str, int]:
        return DBOS.count_workflows()

    with SetWorkflowID("counting"):
        counted = counting()
    with SetWorkflowID("later"):
        counting()
    app.change("UPDATE {workflow_status} SET status = 'PENDING' WHERE workflow_uuid = 'counting'")
    app.kill()
    app.launch()

    assert DBOS.get_result("counting") == counted == {"PENDING": 1}
    [step] = DBOS.list_workflow_steps("counting")
    assert (step["function_id"], step["function_name"]) == (1, "DBOS.countWorkflows")


def test_payloads_are_left_out_on_demand(populated: Application) -> None:
    [whole] = DBOS.list_workflows(workflow_id="a_1")
    [bare] = DBOS.list_workflows(workflow_id="a_1", load_input=False, load_output=False)
    [failed] = DBOS.list_workflows(workflow_id="fails", load_output=False)

    assert (whole.input, whole.output) == ({"args": ("one",), "kwargs": {}}, "ONE")
    assert (bare.input, bare.output, failed.error) == (None, None, None)


def test_queued_lists_have_no_filter_that_makes_no_sense_there(populated: Application) -> None:
    listed = [status.workflow_id for status in DBOS.list_queued_workflows(name="greet")]

    assert listed == ["queued"]
    for name in ("queues_only", "was_forked_from", "schedule_name"):
        with pytest.raises(TypeError):
            DBOS.list_queued_workflows(**{name: None})


def test_by_id_any_application_is_reached(populated: Application) -> None:
    populated.change("UPDATE {workflow_status} SET application_name = 'other'")

    assert ids() == []
    assert ids(workflow_id="a_1") == ["a_1"]
    assert ids(application_name="other") == ALL


def test_a_corrupt_row_is_shown_as_stored_and_hides_no_other(
    app: Application, log: pytest.LogCaptureFixture
) -> None:
    changes = {
        "inputs = 'broken'": {"input"},
        "inputs = '[]'": {"input"},
        "inputs = NULL": set[str](),
        "output = '[broken'": {"output"},
        "output = NULL, error = 'broken'": {"error"},
        "authenticated_roles = '[broken'": {"authenticated_roles"},
        "authenticated_roles = '5'": {"authenticated_roles"},
        "attributes = '[\"broken\"]'": {"attributes"},
        "attributes = '\"text\"'": {"attributes"},
        "serialization = 'unheard'": {"input", "output"},
        "serialization = NULL": {"input", "output"},
        "inputs = 'broken', output = 'broken', authenticated_roles = 'broken'": {
            "input",
            "output",
            "authenticated_roles",
        },
        "status = 'strange'": set[str](),
        "status = NULL": set[str](),
        "name = NULL, class_name = '', config_name = ''": set[str](),
        "name = NULL, status = 'ENQUEUED', queue_name = ''": set[str](),
        "recovery_attempts = NULL, executor_id = NULL, completed_at = NULL": set[str](),
        "application_name = NULL, application_version = NULL, application_id = NULL": set[str](),
        "created_at = -1, updated_at = 9223372036854775807": set[str](),
        "parent_workflow_id = 'nobody', forked_from = 'nobody'": set[str](),
    }
    if app.is_sqlite:
        changes |= {
            "attributes = '[broken'": {"attributes"},
            "inputs = X'FF00'": {"input"},
            "output = CAST(X'22FF22' AS TEXT), executor_id = CAST(X'FF' AS TEXT)": {"output"},
            "created_at = 'yesterday', priority = 'high'": set[str](),
        }

    @DBOS.workflow()
    def greet(word: str) -> str:
        return word

    for change in changes:
        with SetWorkflowID(change):
            greet("one")
        app.change(f"UPDATE {{workflow_status}} SET {change} WHERE workflow_uuid = ?", change)

    listed = DBOS.list_workflows()
    faults = {status.workflow_id: set(status.payload_errors or {}) for status in listed}
    assert faults == changes
    [strange] = DBOS.list_workflows(workflow_id="serialization = 'unheard'")
    assert "unheard" in (strange.payload_errors or {})["output"]
    assert strange.output == '"one"'
    warnings = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
    undecoded = [line for line in warnings if "cannot be decoded" in line]
    assert len(undecoded) == 1 + len([fields for fields in changes.values() if fields])


def test_no_warning_shows_a_stored_text(app: Application, log: pytest.LogCaptureFixture) -> None:
    @DBOS.workflow()
    def greet(word: str) -> str:
        return word

    with SetWorkflowID("a"):
        greet("one")
    app.change("UPDATE {workflow_status} SET inputs = 'secret', output = '[secret'")

    [status] = DBOS.list_workflows()

    assert (status.input, status.output) == ("secret", "[secret")
    assert "secret" not in log.text + str(status.payload_errors)


def test_a_list_in_a_workflow_is_recorded(app: Application) -> None:
    @DBOS.workflow()
    def look() -> list[str]:
        return ids(workflow_id=["look", "later"])

    with SetWorkflowID("look"):
        first = look()
    with SetWorkflowID("later"):
        look()
    app.change("UPDATE {workflow_status} SET status = 'PENDING' WHERE workflow_uuid = 'look'")
    app.kill()
    app.launch()

    assert DBOS.get_result("look") == first == ["look"]
    assert [step["function_name"] for step in DBOS.list_workflow_steps("look")] == [
        "DBOS.listWorkflows"
    ]


def test_the_async_twins_list_the_same(populated: Application) -> None:
    async def scenario() -> tuple[list[str], list[str], int]:
        listed = await DBOS.list_workflows_async(status="ERROR")
        queued = await DBOS.list_queued_workflows_async()
        steps = await DBOS.list_workflow_steps_async("a_1")
        return [one.workflow_id for one in listed], [one.workflow_id for one in queued], len(steps)

    assert asyncio.run(scenario()) == (["fails"], ["queued"], 1)


def test_a_query_that_takes_too_long_is_stopped(shop: Application) -> None:
    shop.launch(observability_query_timeout_sec=0.2)
    if shop.is_sqlite:
        # SQLite has no such limit, and no lock of readers to wait for.
        assert DBOS.list_workflows() == []
        return

    with (
        shop.locked("ACCESS EXCLUSIVE", "{workflow_status}"),
        pytest.raises(DBOSQueryTimeoutError) as caught,
    ):
        DBOS.list_workflows()

    assert caught.value.timeout_seconds == 0.2
