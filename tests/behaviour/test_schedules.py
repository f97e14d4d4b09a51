"""Schedules: stored ones, decorated functions, and the ticks that start their runs."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dbos import DBOS, DBOSConfiguredInstance, ScheduleInput, SetWorkflowID
from dbos.api.assembly import LaunchedEngine
from dbos.api.slot import SLOT
from dbos.errors import (
    DBOSException,
    DBOSInvalidInputError,
    DBOSWorkflowFunctionNotFoundError,
)
from tests.behaviour.application import Application

YEARLY = "0 0 1 1 *"
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Report:
    """A workflow that keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[datetime, Any]] = []
        self.enough = threading.Event()

        @DBOS.workflow(name="report")
        def report(scheduled_at: datetime, context: Any) -> str:
            self.calls.append((scheduled_at, context))
            if len({at for at, _ in self.calls}) >= 3:
                self.enough.set()
            return scheduled_at.isoformat()

        self.workflow = report

    def create(self, schedule: str = YEARLY, name: str = "reports", **options: Any) -> None:
        DBOS.create_schedule(
            schedule_name=name, workflow_fn=self.workflow, schedule=schedule, **options
        )


@pytest.fixture
def report(shop: Application) -> Report:
    return Report()


def ids(app: Application) -> list[str]:
    return [row[0] for row in app.rows("SELECT workflow_uuid FROM {workflow_status} ORDER BY 1")]


def test_a_schedule_starts_a_run_at_each_tick_and_remembers_the_last(
    report: Report, app: Application
) -> None:
    report.create("* * * * * *", context={"region": "eu"})

    assert report.enough.wait(30)
    DBOS.delete_schedule("reports")

    started = ids(app)
    at = [datetime.fromisoformat(run.removeprefix("sched-reports-")) for run in started]
    assert at == [at[0] + timedelta(seconds=number) for number in range(len(at))]
    assert {context["region"] for _, context in report.calls} == {"eu"}
    assert {moment for moment, _ in report.calls} <= set(at)
    assert app.column(started[0], "schedule_name") == "reports"


def test_two_processes_fire_each_tick_once(report: Report, app: Application) -> None:
    assert SLOT.instance is not None
    second = LaunchedEngine(SLOT.instance.settings, SLOT.registry)
    second.launch()
    try:
        report.create("* * * * * *")
        assert report.enough.wait(30)
        DBOS.delete_schedule("reports")
    finally:
        second.close(5)
    DBOS.destroy(workflow_completion_timeout_sec=5)

    moments = [at for at, _ in report.calls]
    assert len(moments) == len(set(moments))


def test_a_decorated_function_of_any_kind_starts_at_once(app: Application) -> None:
    ran = threading.Event()
    given: list[datetime] = []

    @DBOS.scheduled("* * * * * *")
    @DBOS.step(name="look")
    def look(scheduled_time: datetime, actual_time: datetime) -> None:
        given.extend((scheduled_time, actual_time))
        ran.set()

    assert ran.wait(30)
    assert [moment.utcoffset() for moment in given[:2]] == [timedelta(), timedelta()]
    assert given[0] <= given[1]
    assert f"sched-look-{given[0].isoformat()}" in ids(app)


def test_a_schedule_is_listed_as_it_was_created(report: Report, app: Application) -> None:
    report.create(context=(1, 2), cron_timezone="Europe/Berlin", automatic_backfill=True)

    found = DBOS.get_schedule("reports")

    assert found is not None
    assert DBOS.list_schedules(schedule_name_prefix="rep", status=["ACTIVE"]) == [found]
    assert DBOS.list_schedules(workflow_name="other") == []
    assert dict(found) | {"schedule_id": ""} == {
        "schedule_id": "",
        "schedule_name": "reports",
        "workflow_name": "report",
        "workflow_class_name": None,
        "schedule": YEARLY,
        "status": "ACTIVE",
        "context": (1, 2),
        "last_fired_at": None,
        "automatic_backfill": True,
        "cron_timezone": "Europe/Berlin",
        "queue_name": None,
        "application_name": "shop",
    }


def test_backfill_starts_every_tick_between_and_none_twice(
    report: Report, app: Application
) -> None:
    report.create("0 * * * *")

    first = DBOS.backfill_schedule("reports", START, START + 3 * HOUR)
    naive = START.replace(tzinfo=None)
    second = DBOS.backfill_schedule("reports", naive, naive + 3 * HOUR)

    wanted = [f"sched-reports-{(START + number * HOUR).isoformat()}" for number in (1, 2)]
    assert [handle.workflow_id for handle in first] == wanted
    assert [handle.workflow_id for handle in second] == wanted
    assert [handle.get_result() for handle in second] == [run[14:] for run in wanted]
    assert len(report.calls) == 2


def test_a_trigger_starts_a_paused_schedule_once_per_call(report: Report, app: Application) -> None:
    report.create(context="now")
    DBOS.pause_schedule("reports")

    handles = [DBOS.trigger_schedule("reports") for _ in range(2)]

    for handle in handles:
        assert handle.workflow_id == f"sched-reports-trigger-{handle.get_result()}"
    assert len(report.calls) == 2


def test_an_update_keeps_id_status_and_last_firing(report: Report, app: Application) -> None:
    report.create()
    DBOS.pause_schedule("reports")
    app.change("UPDATE {workflow_schedules} SET last_fired_at = ?", START.isoformat())
    before = DBOS.get_schedule("reports")

    entry = ScheduleInput(
        schedule_name="reports", workflow_fn=report.workflow, schedule="5 * * * *", context=7
    )
    DBOS.apply_schedules([entry, {**entry, "schedule_name": "more"}])

    assert before is not None
    assert DBOS.get_schedule("reports") == {**before, "schedule": "5 * * * *", "context": 7}
    assert [found["schedule_name"] for found in DBOS.list_schedules()] == ["more", "reports"]


def test_a_bad_entry_applies_nothing(report: Report, app: Application) -> None:
    good: Any = {"schedule_name": "a", "workflow_fn": report.workflow, "schedule": YEARLY}

    with pytest.raises(DBOSException, match=r"schedules\[1\] is missing required field 'schedule'"):
        DBOS.apply_schedules([good, {"schedule_name": "b", "workflow_fn": report.workflow}])  # type: ignore[typeddict-item]

    with pytest.raises(DBOSInvalidInputError, match=r"schedules\[0\] has no key timezone; there"):
        DBOS.apply_schedules([good | {"timezone": "Europe/Berlin"}])

    assert DBOS.list_schedules() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "61 * * * *"}, "Invalid cron schedule"),
        ({"schedule": "0 0 31 2 *"}, "no future date"),
        ({"cron_timezone": "Mars/Base"}, "Invalid timezone"),
        ({"queue_name": "nowhere"}, "is not declared"),
        ({"name": "taken"}, "already exists"),
        ({"name": "foreign"}, "already registered by application other"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(
    report: Report, app: Application, options: dict[str, Any], message: str
) -> None:
    report.create(name="taken")
    report.create(name="foreign")
    app.change(
        "UPDATE {workflow_schedules} SET application_name = 'other' WHERE schedule_name = 'foreign'"
    )

    with pytest.raises(DBOSException, match=message):
        report.create(**options)

    assert app.count("workflow_schedules") == 2


@pytest.mark.parametrize("is_bound", [True, False], ids=["of an instance", "of its class"])
def test_a_method_that_needs_an_instance_is_not_scheduled(app: Application, is_bound: bool) -> None:
    @DBOS.dbos_class()
    class Press(DBOSConfiguredInstance):
        @DBOS.workflow()
        def bind(self, scheduled_at: datetime, context: Any) -> None: ...

        @staticmethod
        @DBOS.workflow()
        def cut(scheduled_at: datetime, context: Any) -> None: ...

    press = Press("big")
    DBOS.create_schedule(schedule_name="cut", workflow_fn=Press.cut, schedule=YEARLY)

    with pytest.raises(DBOSException, match="Configured instance methods cannot be used"):
        DBOS.create_schedule(
            schedule_name="bind",
            workflow_fn=press.bind if is_bound else Press.bind,
            schedule=YEARLY,
        )

    assert [listed["schedule_name"] for listed in DBOS.list_schedules()] == ["cut"]


def test_only_registered_functions_are_scheduled(app: Application) -> None:
    with pytest.raises(
        DBOSWorkflowFunctionNotFoundError,
        match="Workflow not scheduled: print is not a registered workflow function",
    ):
        DBOS.create_schedule(schedule_name="s", workflow_fn=print, schedule=YEARLY)
    with pytest.raises(DBOSInvalidInputError, match="Invalid crontab"):
        DBOS.scheduled("nonsense")
    with pytest.raises(DBOSException, match="does not exist"):
        DBOS.trigger_schedule("s")


def test_missed_ticks_are_made_up_only_if_asked(report: Report, app: Application) -> None:
    report.create("0 * * * *", name="all", automatic_backfill=True)
    report.create("0 * * * *", name="none")
    DBOS.pause_schedule("all")
    last = datetime.now(UTC) - 5 * HOUR
    app.change("UPDATE {workflow_schedules} SET last_fired_at = ?", last.isoformat())

    app.relaunch()
    DBOS.resume_schedule("all")

    assert report.enough.wait(30)
    hour = last.replace(minute=0, second=0, microsecond=0)
    wanted = [f"sched-all-{(hour + number * HOUR).isoformat()}" for number in range(1, 6)]
    assert ids(app)[:5] == wanted


def test_a_schedule_that_cannot_be_used_harms_no_other(
    report: Report, app: Application, log: pytest.LogCaptureFixture
) -> None:
    report.create("* * * * * *", name="a-bad")
    app.change("UPDATE {workflow_schedules} SET context = ?, schedule = 'broken'", "{")
    report.create("* * * * * *", name="good")

    assert report.enough.wait(30)

    listed = DBOS.get_schedule("a-bad")
    assert listed is not None
    assert listed["context"] == "{"
    assert set(listed["payload_errors"]) == {"context"}
    reported = [line for line in log.messages if "Schedule a-bad cannot be used" in line]
    assert len(reported) == 1


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("schedule", "broken", "it has 1 field and not 5, 6 or 7"),
        ("cron_timezone", "Nowhere/Never", "its time zone is unknown here"),
        ("workflow_name", "unheard-of", "its workflow is not registered here"),
    ],
)
def test_a_schedule_that_cannot_be_used_is_reported_once_with_its_reason(
    report: Report,
    app: Application,
    log: pytest.LogCaptureFixture,
    column: str,
    value: str,
    reason: str,
) -> None:
    report.create("* * * * * *", name="a-bad")
    DBOS.pause_schedule("a-bad")
    app.change(f"UPDATE {{workflow_schedules}} SET {column} = ?, status = 'ACTIVE'", value)
    report.calls.clear()
    report.enough.clear()
    report.create("* * * * * *", name="good")

    assert report.enough.wait(30)
    reported = [line for line in log.messages if "Schedule a-bad cannot be used" in line]
    assert len(reported) == 1
    assert reason in reported[0]


def test_in_a_workflow_schedule_calls_are_steps(report: Report, app: Application) -> None:
    @DBOS.workflow(name="plan")
    def plan() -> list[str]:
        report.create(name="planned")
        DBOS.pause_schedule("planned")
        DBOS.resume_schedule("planned")
        found = DBOS.get_schedule("planned")
        listed = DBOS.list_schedules()
        DBOS.delete_schedule("planned")
        assert found is not None
        return [found["status"], *(entry["schedule_name"] for entry in listed)]

    handle = DBOS.start_workflow(plan)

    assert handle.get_result() == ["ACTIVE", "planned"]
    assert [name for _, name in app.steps(handle.workflow_id)] == [
        "DBOS.createSchedule",
        "DBOS.pauseSchedule",
        "DBOS.resumeSchedule",
        "DBOS.getSchedule",
        "DBOS.listSchedules",
        "DBOS.deleteSchedule",
    ]


def test_a_workflow_may_not_apply_backfill_or_trigger(report: Report, app: Application) -> None:
    report.create()

    @DBOS.workflow(name="meddle")
    def meddle() -> list[str]:
        calls: list[Any] = [
            lambda: DBOS.apply_schedules([]),
            lambda: DBOS.backfill_schedule("reports", START, START),
            lambda: DBOS.trigger_schedule("reports"),
        ]
        answers: list[str] = []
        for call in calls:
            with pytest.raises(DBOSException) as refused:
                call()
            answers.append(str(refused.value))
        return answers

    assert all("cannot be called from within a workflow" in text for text in meddle())


@pytest.mark.parametrize("kind", ["step", "transaction"])
def test_a_step_or_transaction_may_backfill_or_trigger(
    report: Report, app: Application, kind: str
) -> None:
    report.create()

    def start() -> list[str]:
        backfilled = DBOS.backfill_schedule("reports", START - HOUR, START + HOUR)
        return [handle.workflow_id for handle in (*backfilled, DBOS.trigger_schedule("reports"))]

    starting = DBOS.step()(start) if kind == "step" else DBOS.transaction()(start)

    @DBOS.workflow(name="starter")
    def starter() -> list[str]:
        return starting()

    with SetWorkflowID("starter"):
        backfilled, triggered = starter()

    assert backfilled == f"sched-reports-{START.isoformat()}"
    assert triggered.startswith("sched-reports-trigger-")
    assert datetime.fromisoformat(DBOS.retrieve_workflow(triggered).get_result()) > START
    assert len(app.steps("starter")) == 1


def test_a_schedule_created_on_a_loop_fires(report: Report, app: Application) -> None:
    async def scenario() -> list[Any]:
        await DBOS.create_schedule_async(
            schedule_name="s", workflow_fn=report.workflow, schedule="* * * * * *"
        )
        listed = await DBOS.list_schedules_async()
        await asyncio.to_thread(report.enough.wait, 30)
        await DBOS.delete_schedule_async("s")
        return [listed[0]["schedule_name"], await DBOS.get_schedule_async("s")]

    assert asyncio.run(scenario()) == ["s", None]
    assert report.enough.is_set()


def test_schedule_and_version_calls_may_block_an_event_loop(
    report: Report, app: Application
) -> None:
    async def scenario() -> tuple[str, list[str], Any]:
        report.create(name="s")
        DBOS.pause_schedule("s")
        DBOS.resume_schedule("s")
        backfilled = DBOS.backfill_schedule("s", START - HOUR, START + HOUR)
        triggered = await asyncio.to_thread(DBOS.trigger_schedule("s").get_result)
        version = DBOS.get_latest_application_version()
        DBOS.set_latest_application_version(version["version_name"])
        ids = [handle.workflow_id for handle in backfilled]
        names = [schedule["schedule_name"] for schedule in DBOS.list_schedules()]
        return triggered, ids, (names, len(DBOS.list_application_versions()))

    triggered, ids, listed = asyncio.run(scenario())

    assert datetime.fromisoformat(triggered).tzinfo is not None
    assert ids == [f"sched-s-{START.isoformat()}"]
    assert listed == (["s"], 1)
