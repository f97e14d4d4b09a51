"""Calls at the wrong time and declarations that clash: each has its own clear error."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from dbos.error import (
    DBOSConflictingRegistrationError,
    DBOSEventLoopError,
    DBOSException,
    DBOSInvalidInputError,
    DBOSWorkflowFunctionNotFoundError,
)
from tests.behaviour.application import Application
from tests.behaviour.flavours import Flavour


def test_without_an_instance_calls_say_that_none_was_created(
    shop: Application, api: Flavour
) -> None:
    async def status() -> None:
        await api.status_of("x")

    async def result() -> None:
        await api.result_of("x")

    async def retrieve() -> None:
        await api.retrieve("x")

    async def sleep() -> None:
        await api.sleep(1)

    for scenario in (status, result, retrieve, sleep):
        with pytest.raises(DBOSException, match="No DBOS was created yet"):
            api.run(scenario)


def test_without_an_instance_a_workflow_says_that_it_was_invoked_too_early(
    shop: Application, api: Flavour
) -> None:
    @api.workflow()
    async def early() -> None:
        raise AssertionError("must not run")

    async def call() -> None:
        await early()

    with pytest.raises(DBOSException, match="invoked before DBOS initialized"):
        api.run(call)


def test_before_launch_the_database_is_not_there(shop: Application, api: Flavour) -> None:
    DBOS(config=shop.config())

    @api.workflow()
    async def early() -> None:
        raise AssertionError("must not run")

    async def call() -> None:
        await early()

    async def status() -> None:
        await api.status_of("x")

    for scenario in (call, status):
        with pytest.raises(
            DBOSException, match="System database accessed before DBOS was launched"
        ):
            api.run(scenario)


def test_before_launch_nothing_can_be_started(shop: Application, api: Flavour) -> None:
    DBOS(config=shop.config())

    @api.workflow()
    async def early() -> None:
        raise AssertionError("must not run")

    async def start() -> None:
        await api.start(early)

    with pytest.raises(DBOSException, match="Executor accessed before DBOS was launched"):
        api.run(start)


def test_one_name_cannot_be_two_kinds(shop: Application) -> None:
    @DBOS.workflow(name="both")
    def workflow() -> None:
        return None

    with pytest.raises(
        DBOSConflictingRegistrationError,
        match="is already registered with a conflicting function type",
    ):

        @DBOS.step(name="both")
        def step() -> None:
            return None


def test_one_name_twice_is_a_warning_and_the_last_one_counts(
    app: Application, log: pytest.LogCaptureFixture
) -> None:
    is_first = app.once()

    @DBOS.workflow(name="twice")
    def first() -> str:
        if is_first():
            app.cut_power()
        return "first"

    with pytest.raises(BaseException), SetWorkflowID("run"):  # noqa: B017, PT011
        first()

    @DBOS.workflow(name="twice")
    def second() -> str:
        return "second"

    app.launch(version_policy="any")

    assert DBOS.get_result("run") == "second"
    warnings = [r.getMessage() for r in log.records if r.levelname == "WARNING"]
    assert any("Duplicate registration of function 'twice'" in line for line in warnings)


def test_an_undecorated_function_cannot_be_started(app: Application) -> None:
    def plain() -> None:
        return None

    with pytest.raises(DBOSWorkflowFunctionNotFoundError, match="is not registered"):
        DBOS.start_workflow(plain)


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_workflow_id_is_refused(app: Application, blank: str) -> None:
    with pytest.raises(DBOSInvalidInputError, match="workflow IDs must be non-empty"):
        SetWorkflowID(blank)
    with pytest.raises(DBOSInvalidInputError, match="workflow IDs must be non-empty"):
        DBOS.get_workflow_status(blank)
    with pytest.raises(DBOSInvalidInputError, match="workflow IDs must be non-empty"):
        DBOS.get_result(blank)
    with pytest.raises(DBOSInvalidInputError, match="workflow IDs must be non-empty"):
        DBOS.retrieve_workflow(blank)


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", None, 7, b"id"])
def test_an_id_that_cannot_be_stored_is_refused_before_anything_is_written(
    app: Application, bad: Any
) -> None:
    for call in (SetWorkflowID, DBOS.get_workflow_status, DBOS.get_result, DBOS.retrieve_workflow):
        with pytest.raises(DBOSInvalidInputError) as caught:
            call(bad)
        assert isinstance(caught.value, ValueError)
        assert not [w for w in ("INSERT", "SELECT", "psycopg", "sqlite") if w in str(caught.value)]


def test_an_id_of_a_thousand_characters_fits_and_a_longer_one_is_served_or_refused(
    app: Application, api: Flavour
) -> None:
    @api.workflow()
    async def run() -> Any:
        return DBOS.workflow_id

    async def named(workflow_id: str) -> Any:
        with SetWorkflowID(workflow_id):
            return await run()

    for letter in ("x", "ü", "😀"):
        assert api.run(named, letter * 1000) == letter * 1000
    with pytest.raises(DBOSInvalidInputError):
        api.run(named, "x" * 100_000)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 4e9, "1", None])
def test_a_sleep_that_cannot_be_is_refused_and_takes_no_id(
    app: Application, api: Flavour, seconds: Any
) -> None:
    @api.workflow()
    async def run() -> None:
        with pytest.raises(DBOSInvalidInputError):
            await api.sleep(seconds)
        await api.sleep(0.001)

    async def scenario() -> None:
        with SetWorkflowID("run"):
            await run()

    api.run(scenario)

    assert app.steps("run") == [(1, "DBOS.sleep")]


def test_odd_text_in_arguments_and_results_is_stored_on_both_databases(
    app: Application, api: Flavour
) -> None:
    odd = "nul \0 surrogate \ud800 quote ' \" \\ emoji 😀"

    @api.workflow()
    async def echo(text: str) -> str:
        return text

    async def scenario() -> Any:
        with SetWorkflowID("odd"):
            await echo(odd)
        return await api.result_of("odd"), (await api.status_of("odd")).input

    assert api.run(scenario) == (odd, {"args": (odd,), "kwargs": {}})


class TestGuard:
    """Sync calls that may block are refused where an event loop runs."""

    CALLS = (
        ("run_step", (None, print)),
        ("get_workflow_status", ("x",)),
        ("get_result", ("x",)),
        ("retrieve_workflow", ("x",)),
        ("sleep", (1,)),
    )

    @pytest.mark.parametrize(("name", "arguments"), CALLS)
    def test_a_sync_call_in_a_running_loop_names_its_twin(
        self, app: Application, name: str, arguments: tuple[Any, ...]
    ) -> None:
        @DBOS.workflow()
        async def run() -> None:
            with pytest.raises(DBOSEventLoopError) as caught:
                getattr(DBOS, name)(*arguments)
            assert isinstance(caught.value, RuntimeError)
            assert f"`{name}()` was called while an event loop is running" in str(caught.value)
            assert f"Use await `{name}_async(...)` instead" in str(caught.value)
            await DBOS.sleep_async(0.001)

        async def scenario() -> None:
            with pytest.raises(DBOSEventLoopError):
                getattr(DBOS, name)(*arguments)
            with SetWorkflowID("run"):
                await run()

        asyncio.run(scenario())

        assert app.steps("run") == [(1, "DBOS.sleep")]

    def test_a_handle_is_guarded_too(self, app: Application) -> None:
        @DBOS.workflow()
        def run() -> int:
            return 1

        async def scenario() -> Any:
            handle = DBOS.start_workflow(run)
            with pytest.raises(DBOSEventLoopError, match="get_result"):
                handle.get_result()
            with pytest.raises(DBOSEventLoopError, match="get_status"):
                handle.get_status()
            return handle

        assert asyncio.run(scenario()).get_result() == 1

    def test_sync_workflows_and_steps_may_be_called_from_a_coroutine(
        self, app: Application
    ) -> None:
        @DBOS.step()
        def step() -> int:
            return 1

        @DBOS.workflow()
        def run() -> int:
            return step()

        async def scenario() -> int:
            return run()

        assert asyncio.run(scenario()) == 1

    def test_run_step_async_needs_a_loop(self, app: Application) -> None:
        with pytest.raises(DBOSEventLoopError, match="run_step_async"):
            _ = DBOS.run_step_async(None, print)

    def test_a_sync_workflow_called_from_a_coroutine_may_start_async_ones(
        self, app: Application
    ) -> None:
        @DBOS.workflow()
        async def mine() -> int:
            await asyncio.sleep(0)
            return 1

        @DBOS.workflow()
        def starts(workflow_id: str) -> None:
            with SetWorkflowID(workflow_id):
                DBOS.start_workflow(mine)

        async def scenario() -> None:
            handle = await DBOS.start_workflow_async(mine)
            starts("other")
            assert await handle.get_result() == 1
            assert await DBOS.get_result_async("other") == 1

        asyncio.run(scenario())


def test_an_alert_handler_is_declared_once_and_before_launch(shop: Application) -> None:
    def handler(name: str, message: str, metadata: dict[str, str]) -> None: ...

    shop.launch()
    with pytest.raises(DBOSException, match="declare it before the launch"):
        DBOS.alert_handler(handler)
    DBOS.destroy()

    assert DBOS.alert_handler(handler) is handler
    with pytest.raises(DBOSException, match="already defined"):
        DBOS.alert_handler(handler)


def test_conductor_arguments_are_ignored_with_one_line(
    shop: Application, log: pytest.LogCaptureFixture
) -> None:
    DBOS(config=shop.config(), conductor_url="wss://example", conductor_key="key")

    assert "Ignoring conductor_key, conductor_url" in log.text


@pytest.mark.parametrize("ids", [5, None, "one-id"])
@pytest.mark.parametrize("verb", ["cancel_workflows", "resume_workflows", "delete_workflows"])
def test_what_is_no_list_of_ids_is_refused(app: Application, verb: str, ids: Any) -> None:
    with pytest.raises(DBOSInvalidInputError, match="put one id in a list"):
        getattr(DBOS, verb)(ids)


def test_resuming_ids_that_come_one_by_one_gives_a_handle_of_each(app: Application) -> None:
    @DBOS.workflow()
    def done() -> None:
        return None

    ids = [DBOS.start_workflow(done).workflow_id for _ in range(2)]

    handles = DBOS.resume_workflows(workflow_id for workflow_id in ids)  # type: ignore[arg-type]

    assert [handle.workflow_id for handle in handles] == ids


@pytest.mark.parametrize("messages", [5, None])
def test_what_is_no_list_of_messages_is_refused(app: Application, messages: Any) -> None:
    with pytest.raises(DBOSInvalidInputError, match="must be a list of SendMessage"):
        DBOS.send_bulk(messages)


@pytest.mark.parametrize("name", ["status", "workflow_id", "workflow_id_prefix", "name"])
def test_a_filter_of_a_wrong_type_is_refused(app: Application, name: str) -> None:
    with pytest.raises(DBOSInvalidInputError, match=f"{name} must be a str or a list of str"):
        DBOS.list_workflows(**{name: 5})  # type: ignore[arg-type]


@pytest.mark.parametrize("options", ["", "name", 5, ["name"]])
def test_step_options_of_a_wrong_type_are_refused(app: Application, options: Any) -> None:
    with pytest.raises(DBOSInvalidInputError, match="Step options must be a dict"):
        DBOS.run_step(options, lambda: 1)


def test_what_is_no_function_cannot_be_a_step(app: Application) -> None:
    with pytest.raises(DBOSInvalidInputError, match="func must be a function, not int"):
        DBOS.run_step(None, 5)  # type: ignore[call-overload]
    with pytest.raises(DBOSInvalidInputError, match="should_retry must be a function, not int"):
        DBOS.step(should_retry=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["workflow", "step", "transaction"])
def test_what_is_no_function_cannot_be_decorated(shop: Application, kind: str) -> None:
    with pytest.raises(DBOSInvalidInputError, match=f"@DBOS.{kind}.. needs a function, not int"):
        getattr(DBOS, kind)()(5)


@pytest.mark.parametrize(
    "name",
    ["workflow", "step", "transaction", "dbos_class", "required_roles", "default_required_roles"],
)
def test_a_decorator_without_parentheses_says_what_to_write(name: str) -> None:
    decorator: Any = getattr(DBOS, name)

    class Subject:
        pass

    with pytest.raises(DBOSInvalidInputError, match=rf"write @DBOS\.{name}\("):
        decorator(Subject)


@pytest.mark.parametrize("decorator", [DBOS.workflow, DBOS.step])
def test_a_decorator_takes_its_name_as_a_keyword(decorator: Any) -> None:
    with pytest.raises(DBOSInvalidInputError, match="keyword arguments only, such as name="):
        decorator("checkout")
