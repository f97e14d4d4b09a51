"""Retries, time limits and the status of steps."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from dbos.error import (
    DBOSException,
    DBOSInvalidInputError,
    DBOSMaxStepRetriesExceeded,
    DBOSStepTimeoutError,
)
from tests.behaviour.application import Application, PowerCut
from tests.behaviour.flavours import Body, Flavour


async def called(workflow: Body, *args: Any) -> Any:
    with SetWorkflowID("run"):
        return await workflow(*args)


class Flaky:
    """Fails with numbered errors until it was tried often enough."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.attempts = 0

    def attempt(self) -> str:
        self.attempts += 1
        if self.attempts <= self.failures:
            raise ConnectionError(f"failure {self.attempts}")
        return "worked"


def test_without_retries_a_step_is_attempted_once(app: Application, api: Flavour) -> None:
    flaky = Flaky(1)

    @api.step(max_attempts=5, interval_seconds=0)
    async def fetch() -> str:
        return flaky.attempt()

    @api.workflow()
    async def run() -> Any:
        return await fetch()

    with pytest.raises(ConnectionError, match="failure 1"):
        api.run(called, run)

    assert flaky.attempts == 1


def test_a_step_is_retried_until_it_works_and_recorded_once(
    app: Application, api: Flavour, log: pytest.LogCaptureFixture
) -> None:
    flaky = Flaky(2)

    @api.step(retries_allowed=True, max_attempts=3, interval_seconds=0)
    async def fetch() -> str:
        return flaky.attempt()

    @api.workflow()
    async def run() -> Any:
        return await fetch()

    assert api.run(called, run) == "worked"
    assert app.steps("run") == [(1, "fetch")]
    warnings = [r.getMessage() for r in log.records if r.levelname == "WARNING"]
    assert len(warnings) == 2
    assert all("fetch" in line and "failure" not in line for line in warnings)


def test_exhausted_retries_carry_one_error_per_attempt_and_are_recorded(
    app: Application, api: Flavour, log: pytest.LogCaptureFixture
) -> None:
    flaky = Flaky(99)
    caught: list[DBOSMaxStepRetriesExceeded] = []
    is_first = app.once()

    @api.step(retries_allowed=True, max_attempts=3, interval_seconds=0)
    async def fetch() -> str:
        return flaky.attempt()

    @api.workflow()
    async def run() -> str:
        try:
            await fetch()
        except DBOSMaxStepRetriesExceeded as error:
            caught.append(error)
        if is_first():
            app.cut_power()
        return "gave up"

    with pytest.raises(PowerCut):
        api.run(called, run)
    app.launch()

    assert DBOS.get_result("run") == "gave up"
    assert flaky.attempts == 3
    for error in caught:
        assert (error.step_name, error.max_retries) == ("fetch", 3)
        assert [str(e) for e in error.errors] == ["failure 1", "failure 2", "failure 3"]
    assert len(caught) == 2
    retries = [r for r in log.records if r.levelname == "WARNING" and "fetch" in r.getMessage()]
    assert len(retries) == 2


def test_waits_grow_by_the_backoff_rate_and_none_follows_the_last_attempt(
    app: Application, api: Flavour
) -> None:
    moments: list[float] = []

    @api.step(retries_allowed=True, max_attempts=3, interval_seconds=0.1, backoff_rate=3)
    async def fetch() -> None:
        moments.append(time.monotonic())
        raise ConnectionError

    @api.workflow()
    async def run() -> None:
        await fetch()

    with pytest.raises(DBOSMaxStepRetriesExceeded):
        api.run(called, run)
    ended = time.monotonic()

    first, second = moments[1] - moments[0], moments[2] - moments[1]
    assert first >= 0.1
    assert second >= 0.3
    assert ended - moments[2] < 0.9


def test_should_retry_gives_up_with_the_original_error(app: Application, api: Flavour) -> None:
    asked: list[str] = []
    flaky = Flaky(99)

    def transient(error: BaseException) -> bool:
        asked.append(str(error))
        return len(asked) < 2

    @api.step(retries_allowed=True, max_attempts=5, interval_seconds=0, should_retry=transient)
    async def fetch() -> str:
        return flaky.attempt()

    @api.workflow()
    async def run() -> Any:
        return await fetch()

    with pytest.raises(ConnectionError, match="failure 2"):
        api.run(called, run)

    assert asked == ["failure 1", "failure 2"]
    assert "failure 2" in app.records("run")[0][3]


def test_should_retry_is_asked_after_the_last_failure_too(app: Application, api: Flavour) -> None:
    flaky = Flaky(99)

    def before_the_third(error: BaseException) -> bool:
        return str(error) != "failure 3"

    @api.step(
        retries_allowed=True, max_attempts=3, interval_seconds=0, should_retry=before_the_third
    )
    async def fetch() -> str:
        return flaky.attempt()

    @api.workflow()
    async def run() -> Any:
        return await fetch()

    with pytest.raises(ConnectionError, match="failure 3"):
        api.run(called, run)


def test_an_async_predicate_serves_async_steps_only(app: Application) -> None:
    async def never(_: BaseException) -> bool:
        return False

    @DBOS.step(retries_allowed=True, should_retry=never)
    async def asynchronous() -> None:
        raise ConnectionError("async")

    @DBOS.step(retries_allowed=True, should_retry=never)
    def sync() -> None:
        raise ConnectionError("sync")

    @DBOS.workflow()
    async def run() -> None:
        await asynchronous()

    @DBOS.workflow()
    def run_sync() -> None:
        sync()

    with pytest.raises(ConnectionError, match="async"):
        asyncio.run(run())
    with pytest.raises(DBOSException, match="sync but should_retry is async"):
        run_sync()


def test_the_status_of_a_step_counts_its_attempts(app: Application, api: Flavour) -> None:
    seen: list[Any] = []

    @api.step(retries_allowed=True, max_attempts=3, interval_seconds=0)
    async def fetch() -> None:
        status = DBOS.step_status
        assert status is not None
        seen.append((DBOS.step_id, status.step_id, status.current_attempt, status.max_attempts))
        raise ConnectionError

    @api.step()
    async def plain() -> Any:
        status = DBOS.step_status
        assert status is not None
        return status.step_id, status.current_attempt, status.max_attempts

    @api.workflow()
    async def run() -> Any:
        with pytest.raises(DBOSMaxStepRetriesExceeded):
            await fetch()
        assert DBOS.step_id is None
        assert DBOS.step_status is None
        return await plain()

    assert api.run(called, run) == (2, None, None)
    assert seen == [(1, 1, number, 3) for number in range(3)]


def test_run_step_retries_as_a_decorated_step_does(app: Application, api: Flavour) -> None:
    flaky = Flaky(2)

    async def fetch() -> str:
        return flaky.attempt()

    @api.workflow()
    async def run() -> Any:
        return await api.run_step({"retries_allowed": True, "interval_seconds": 0}, fetch)

    assert api.run(called, run) == "worked"
    assert flaky.attempts == 3


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": 1.5},
        {"interval_seconds": -1},
        {"interval_seconds": float("nan")},
        {"backoff_rate": 0},
        {"backoff_rate": float("inf")},
        {"timeout_seconds": 0},
        {"timeout_seconds": float("inf")},
    ],
)
def test_options_out_of_range_are_refused_at_the_edge(
    app: Application, api: Flavour, options: dict[str, Any]
) -> None:
    async def fetch() -> None:
        raise AssertionError("must not run")

    @api.workflow()
    async def run() -> None:
        await api.run_step(options, fetch)

    [name] = options
    with pytest.raises(DBOSInvalidInputError):
        api.step(**options)(fetch)
    with pytest.raises(DBOSInvalidInputError, match=r"positive and finite|" + name):
        api.run(called, run)
    assert app.steps("run") == []


@pytest.mark.parametrize("options", [{"preemptible": True}, {"timeout_seconds": 1.0}])
def test_preemption_and_time_limits_are_for_async_steps(
    app: Application, options: dict[str, Any]
) -> None:
    def plain() -> None:
        raise AssertionError("must not run")

    with pytest.raises(DBOSException, match="only supported for async steps"):
        DBOS.step(**options)(plain)
    with pytest.raises(DBOSException, match="only supported for async steps"):
        DBOS.run_step(options, plain)  # type: ignore[call-overload]


class TestTimeLimits:
    """Each attempt of an async step may be limited."""

    def test_a_step_that_takes_too_long_fails_and_is_recorded(self, app: Application) -> None:
        ended: list[str] = []

        @DBOS.step(name="slow", timeout_seconds=0.05)
        async def slow() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("awaited")

        @DBOS.workflow()
        async def run() -> tuple[str, float]:
            try:
                await slow()
            except DBOSStepTimeoutError as error:
                return error.step_name, error.timeout_seconds
            raise AssertionError("no time-out")

        assert asyncio.run(called(run)) == ("slow", 0.05)
        assert ended == ["awaited"]
        assert "DBOSStepTimeoutError" in app.records("run")[0][3]

    def test_a_time_out_is_retried_like_any_failure(self, app: Application) -> None:
        attempts: list[int] = []

        @DBOS.step(timeout_seconds=0.2, retries_allowed=True, interval_seconds=0)
        async def slow() -> str:
            attempts.append(1)
            if len(attempts) == 1:
                await asyncio.sleep(60)
            return "in time"

        @DBOS.workflow()
        async def run() -> str:
            return await slow()

        assert asyncio.run(called(run)) == "in time"

    def test_a_body_that_swallows_the_cancellation_still_times_out(self, app: Application) -> None:
        @DBOS.step(timeout_seconds=0.05)
        async def stubborn() -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "swallowed"
            return "slept"

        @DBOS.workflow()
        async def run() -> str:
            return await stubborn()

        with pytest.raises(DBOSStepTimeoutError):
            asyncio.run(called(run))

    def test_a_limit_that_is_not_reached_changes_nothing(self, app: Application) -> None:
        @DBOS.step(timeout_seconds=30, preemptible=True)
        async def quick() -> Any:
            await asyncio.sleep(0)
            return DBOS.step_id

        @DBOS.workflow()
        async def run() -> Any:
            return await quick()

        assert asyncio.run(called(run)) == 1

    def test_outside_a_workflow_there_is_no_limit(self, app: Application) -> None:
        @DBOS.step(timeout_seconds=0.001)
        async def slow() -> str:
            await asyncio.sleep(0.02)
            return "plain"

        assert asyncio.run(slow()) == "plain"

    def test_sync_steps_of_threads_do_not_block_the_loop(self, app: Application) -> None:
        go = threading.Event()

        def wait() -> bool:
            return go.wait(10)

        @DBOS.workflow()
        async def run() -> Any:
            waiting = asyncio.create_task(DBOS.run_step_async({"name": "wait"}, wait))
            await asyncio.sleep(0)
            go.set()
            return await waiting

        assert asyncio.run(called(run)) is True
