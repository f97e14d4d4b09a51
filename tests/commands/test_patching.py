"""Patches and reserved steps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos import DBOS, StepReservation
from dbos.error import DBOSException, DBOSPatchNondeterminismError, DBOSUsageError
from tests.behaviour.application import Application
from tests.behaviour.flavours import Flavour
from tests.waiting.verbs import Verbs, start


def test_new_runs_take_the_patched_way_and_old_ones_go_on_as_they_began(
    shop: Application, api: Flavour, verbs: Verbs
) -> None:
    shop.launch(enable_patching=True)
    version = ["old"]

    @api.step()
    async def before() -> str:
        return "before"

    @api.step()
    async def after() -> str:
        return "after"

    @api.workflow()
    async def worker() -> Any:
        if version[0] == "old":
            return [await before()]
        if version[0] == "patched":
            is_new = await verbs.patch("better")
            return [is_new, await (after() if is_new else before())]
        return [await verbs.deprecate_patch("better"), await after()]

    start(worker, "old").get_result()
    version[0] = "patched"
    start(worker, "new").get_result()

    def replay(workflow_id: str) -> Any:
        return DBOS.fork_workflow(workflow_id, 99).get_result()

    assert replay("old") == [False, "before"]
    assert replay("new") == [True, "after"]
    assert shop.steps("new") == [(1, "DBOS.patch-better"), (2, "after")]
    version[0] = "deprecated"
    assert replay("new") == [True, "after"]
    assert start(worker, "newest").get_result() == [True, "after"]
    assert shop.steps("newest") == [(1, "after")]


def test_patching_must_be_enabled_and_is_for_workflow_code(
    shop: Application, api: Flavour, verbs: Verbs
) -> None:
    @api.workflow()
    async def worker() -> None:
        for call in (verbs.patch, verbs.deprecate_patch):
            with pytest.raises(DBOSException, match="enable_patching"):
                await call("p")

    @api.step()
    async def step() -> None:
        for call in (verbs.patch, verbs.deprecate_patch):
            with pytest.raises(DBOSUsageError, match="from within a workflow"):
                await call("p")

    @api.workflow()
    async def around_step() -> None:
        await step()

    shop.launch()
    start(worker, "worker").get_result()
    shop.relaunch(version_policy="any")
    start(around_step, "around").get_result()
    api.run(step)

    assert shop.steps("worker") == []


def test_overlapping_patches_are_refused(shop: Application) -> None:
    shop.launch(enable_patching=True)

    @DBOS.workflow()
    async def worker() -> Any:
        answers = await asyncio.gather(
            DBOS.patch_async("one"), DBOS.patch_async("two"), return_exceptions=True
        )
        return [type(answer).__name__ for answer in answers] + [await DBOS.patch_async("three")]

    assert start(worker, "worker").get_result() == [
        "bool",
        DBOSPatchNondeterminismError.__name__,
        True,
    ]
    assert shop.steps("worker") == [(1, "DBOS.patch-one"), (2, "DBOS.patch-three")]


def test_a_reserved_step_runs_later_under_its_id_and_is_replayed(
    app: Application, api: Flavour
) -> None:
    ran: list[int] = []

    @api.step()
    async def work(number: int) -> int:
        ran.append(number)
        return number

    @api.workflow()
    async def worker() -> list[int]:
        late, never = DBOS.reserve_step(), DBOS.reserve_step()
        first = await work(1)
        second = await run_reserved(api, late, work, 2)
        with pytest.raises(DBOSUsageError, match="used already"):
            await run_reserved(api, late, work, 3)
        return [late.step_id, never.step_id, first, second]

    assert start(worker, "worker").get_result() == [1, 2, 1, 2]
    assert app.steps("worker") == [(1, "work"), (3, "work")]
    assert DBOS.fork_workflow("worker", 99).get_result() == [1, 2, 1, 2]
    assert ran == [1, 2]


def test_a_reservation_belongs_to_its_workflow(app: Application, api: Flavour) -> None:
    kept: list[StepReservation] = []

    @api.step()
    async def work(number: int) -> int:
        return number

    @api.step()
    async def reserving() -> None:
        with pytest.raises(DBOSUsageError, match="from within a workflow"):
            DBOS.reserve_step()
        with pytest.raises(DBOSUsageError, match="was reserved by"):
            await run_reserved(api, kept[0], work, 1)

    @api.workflow()
    async def worker() -> None:
        kept.append(DBOS.reserve_step())
        await reserving()

    @api.workflow()
    async def thief() -> None:
        with pytest.raises(DBOSUsageError, match="was reserved by"):
            await run_reserved(api, kept[0], work, 1)

    start(worker, "worker").get_result()
    start(thief, "thief").get_result()

    async def outside() -> None:
        with pytest.raises(DBOSUsageError):
            DBOS.reserve_step()
        with pytest.raises(DBOSUsageError):
            await run_reserved(api, kept[0], work, 1)

    api.run(outside)

    assert app.steps("worker") == [(2, "reserving")]
    assert app.steps("thief") == []


async def run_reserved(api: Flavour, reservation: StepReservation, body: Any, number: int) -> Any:
    if api.is_async:
        return await reservation.run_async(None, body, number)
    return reservation.run(None, body.__dict__["registered"], number)
