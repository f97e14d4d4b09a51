"""Many cancels, resumes and forks at once: every run comes to its outcome."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from dbos import DBOS
from dbos.error import DBOSAwaitedWorkflowCancelledError
from tests.behaviour.application import Application
from tests.behaviour.flavours import Flavour
from tests.waiting.verbs import Verbs, start

RUNS = 12
COMMANDS = 25
THREADS = 3


@pytest.mark.parametrize("seed", [1, 2])
def test_no_run_is_left_without_an_outcome_by_a_storm_of_commands(
    app: Application, api: Flavour, verbs: Verbs, seed: int
) -> None:
    @api.step()
    async def work(number: int) -> int:
        return number

    @api.workflow()
    async def child(number: int) -> Any:
        return await work(number)

    @api.workflow()
    async def worker() -> list[Any]:
        done: list[Any] = []
        for number in range(4):
            done.append(await work(number))
            await verbs.sleep(0.002)
            await verbs.set_event("progress", number)
        done.append(await child(4))
        return done

    ids = [f"run-{number}" for number in range(RUNS)]
    for workflow_id in ids:
        start(worker, workflow_id)

    threads = [
        threading.Thread(target=storm, args=(ids, seed * 100 + number)) for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for workflow_id in ids:
        assert final_outcome(workflow_id) in ([0, 1, 2, 3, 4], "child cancelled")

    statuses = app.rows("SELECT status FROM {workflow_status} WHERE parent_workflow_id IS NULL")
    assert {row[0] for row in statuses} <= {"SUCCESS", "ERROR"}
    assert len(statuses) == len(ids)


def storm(ids: list[str], seed: int) -> None:
    """Cancel, resume and fork at random; forks are added to the ids."""
    chance = random.Random(seed)
    for _ in range(COMMANDS):
        target = chance.choice(ids)
        match chance.randrange(5):
            case 0 | 1:
                DBOS.cancel_workflow(target, cancel_children=chance.random() < 0.5)
            case 2 | 3:
                DBOS.resume_workflow(target)
            case _:
                ids.append(DBOS.fork_workflow(target, chance.randrange(12)).workflow_id)


def final_outcome(workflow_id: str) -> Any:
    """What a run comes to, resumed if it was cancelled itself."""
    while True:
        try:
            return DBOS.get_result(workflow_id)
        except DBOSAwaitedWorkflowCancelledError as error:
            if error.workflow_id != workflow_id:
                return "child cancelled"
            DBOS.resume_workflow(workflow_id)
