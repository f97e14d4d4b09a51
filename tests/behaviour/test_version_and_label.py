"""The version and label of a process, and what the version means for runs left behind."""

from __future__ import annotations

import re

import pytest

from dbos import DBOS, SetWorkflowID
from dbos.errors import DBOSException, DBOSInvalidInputError
from tests.behaviour.application import Application, PowerCut


def computed(shop: Application) -> str:
    """The version that a launch computes for what is registered now."""
    shop.relaunch(application_version=None)
    return DBOS.application_version


def test_an_explicit_version_is_used_as_it_is(
    shop: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBOS__APPVERSION", "from-env")
    DBOS(config=shop.config(application_version="from-config"))
    before = DBOS.application_version
    DBOS.launch()

    assert before == DBOS.application_version == "from-config"


def test_the_environment_gives_version_and_label_when_the_configuration_does_not(
    shop: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBOS__APPVERSION", "from-env")
    monkeypatch.setenv("DBOS__VMID", "machine-7")
    monkeypatch.setenv("DBOS__APPID", "app-id")
    shop.launch(application_version=None)

    @DBOS.workflow()
    def run() -> None:
        return None

    with SetWorkflowID("run"):
        run()
    status = DBOS.get_workflow_status("run")

    assert (DBOS.application_version, DBOS.executor_id) == ("from-env", "machine-7")
    assert status is not None
    assert (status.app_version, status.executor_id, status.app_id) == (
        "from-env",
        "machine-7",
        "app-id",
    )
    DBOS.destroy()
    assert (DBOS.application_version, DBOS.executor_id) == ("from-env", "machine-7")


def test_patching_fixes_the_version(shop: Application) -> None:
    shop.launch(application_version=None, enable_patching=True)

    assert DBOS.application_version == "PATCHING_ENABLED"


def test_before_launch_and_after_destroy_there_is_no_computed_version(shop: Application) -> None:
    DBOS(config=shop.config(application_version=None))
    before = DBOS.application_version
    DBOS.launch()
    during = DBOS.application_version
    DBOS.destroy()

    assert (before, DBOS.application_version) == ("", "")
    assert re.fullmatch(r"[0-9a-f]{32}", during)
    assert DBOS.executor_id == "local"


def test_a_computed_version_follows_the_workflows_and_the_names_of_steps(
    shop: Application,
) -> None:
    DBOS.workflow(name="w")(lambda: 1)
    first = computed(shop)
    same = computed(shop)

    @DBOS.step(name="s")
    def step() -> int:
        return 1

    with_a_step = computed(shop)

    @DBOS.step(name="s")
    def another_body() -> int:
        return 2

    with_another_body = computed(shop)

    @DBOS.workflow(name="w2")
    def more() -> None:
        return None

    assert first == same
    assert with_a_step != first
    assert with_another_body == with_a_step
    assert computed(shop) not in (first, with_a_step)


def test_editing_a_workflow_changes_the_computed_version(shop: Application) -> None:
    @DBOS.workflow(name="w")
    def one() -> int:
        return 1

    first = computed(shop)

    @DBOS.workflow(name="w")
    def two() -> int:
        return 2

    assert computed(shop) != first


def test_the_name_of_the_application_is_part_of_its_computed_version(shop: Application) -> None:
    first = computed(shop)
    shop.relaunch(application_version=None, name="another-shop")

    assert DBOS.application_version != first


def test_each_launch_is_a_new_incarnation(app: Application) -> None:
    first = DBOS.incarnation_id
    app.relaunch()

    assert first is not None
    assert DBOS.incarnation_id not in (None, first)


def test_a_version_that_is_not_the_latest_is_reported(
    app: Application, log: pytest.LogCaptureFixture
) -> None:
    app.relaunch(application_version="v2")
    quiet = [r for r in log.records if r.levelname == "WARNING"]
    app.relaunch(application_version="v1")

    assert quiet == []
    [warning] = [r.getMessage() for r in log.records if r.levelname == "WARNING"]
    assert "v1" in warning
    assert "v2" in warning


def test_a_version_of_another_application_is_refused(app: Application) -> None:
    DBOS.destroy()

    with pytest.raises(DBOSException, match="already registered by application"):
        app.launch(name="another-shop")


@pytest.mark.parametrize(("policy", "recovers"), [("compatible", False), ("any", True)])
def test_an_edited_workflow_of_another_version_recovers_only_where_any_version_may(
    app: Application, policy: str, recovers: bool
) -> None:
    @DBOS.workflow(name="edited")
    def before() -> str:
        app.cut_power()

    with pytest.raises(PowerCut), SetWorkflowID("run"):
        before()
    DBOS.destroy(destroy_registry=True)

    @DBOS.workflow(name="edited")
    def after() -> str:
        return "after the edit"

    app.launch(application_version="v2", version_policy=policy)
    if recovers:
        assert DBOS.get_result("run") == "after the edit"
    else:
        assert app.column("run", "status") == "ENQUEUED"


@pytest.mark.parametrize(("upgrades", "recovers"), [(None, False), (False, False), (True, True)])
def test_a_workflow_that_upgrades_takes_on_runs_of_every_version(
    app: Application, upgrades: bool | None, recovers: bool
) -> None:
    @DBOS.workflow(name="edited")
    def before() -> str:
        app.cut_power()

    with pytest.raises(PowerCut), SetWorkflowID("run"):
        before()
    DBOS.destroy(destroy_registry=True)

    @DBOS.workflow(name="edited", auto_upgrade=upgrades)
    def after() -> str:
        return "after the edit"

    app.launch(application_version="v2")
    if recovers:
        assert DBOS.get_result("run") == "after the edit"
    found = DBOS.list_workflows(workflow_ids=["run"])[0]

    assert found.status == ("SUCCESS" if recovers else "ENQUEUED")
    assert found.stranded_reason == (None if recovers else "version")


def test_whether_a_workflow_upgrades_is_a_bool() -> None:
    with pytest.raises(DBOSInvalidInputError, match="auto_upgrade must be a bool"):
        DBOS.workflow(auto_upgrade="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_equal_explicit_versions_resume_each_other_whatever_the_code(app: Application) -> None:
    @DBOS.workflow(name="edited")
    def before() -> str:
        app.cut_power()

    with pytest.raises(PowerCut), SetWorkflowID("run"):
        before()
    DBOS.destroy(destroy_registry=True)

    @DBOS.workflow(name="edited")
    def after() -> str:
        return "after the edit"

    app.launch(version_policy="exact")

    assert DBOS.get_result("run") == "after the edit"


def test_an_unknown_function_is_not_claimed_and_disturbs_nobody(app: Application) -> None:
    @DBOS.workflow(name="forgotten")
    def forgotten() -> None:
        app.cut_power()

    with pytest.raises(PowerCut), SetWorkflowID("run"):
        forgotten()
    DBOS.destroy(destroy_registry=True)

    @DBOS.workflow(name="other")
    def other() -> str:
        return "served"

    app.launch()

    assert DBOS.start_workflow(other).get_result() == "served"
    assert app.column("run", "status") == "ENQUEUED"
    assert app.column("run", "recovery_attempts") == 1
