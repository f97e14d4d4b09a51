"""An answer that came too late: the attempt it begins must not end the one that has the run now."""

from __future__ import annotations

import threading

from dbos import DBOS, SetWorkflowID
from dbos.api.slot import SLOT
from dbos.engine.execution import Execution, execute
from dbos.runtime.drive import drive
from tests.behaviour.application import Application
from tests.support.postgres import wait_until

WITHIN_S = 30.0


def of_a_lost_claim(former: Execution) -> Execution:
    """An attempt of the same run, as an admission began it whose answer was long on its way."""
    return Execution(
        former.engine,
        former.workflow_id,
        former.name,
        "a claim from before",
        former.call,
        format=former.format,
        authentication=former.authentication,
        term=former.term,
        is_background=False,
    )


def test_an_attempt_whose_claim_was_lost_leaves_the_later_one_alone(app: Application) -> None:
    entries: list[int] = []
    may_end = threading.Event()

    @DBOS.workflow(name="job")
    def job() -> str:
        entries.append(1)
        may_end.wait(WITHIN_S)
        return DBOS.run_step({"name": "last"}, lambda: "done")

    with SetWorkflowID("job"):
        handle = DBOS.start_workflow(job)
    wait_until(lambda: len(entries) == 1, WITHIN_S)
    assert SLOT.instance is not None
    assert SLOT.instance.engine is not None
    engine = SLOT.instance.engine.engine
    late = of_a_lost_claim(engine.running["job"])
    answers: list[object] = []
    caller = threading.Thread(
        target=lambda: answers.append(drive(execute(engine.blocking, late))), daemon=True
    )
    caller.start()
    wait_until(lambda: late.stop == "lost" or len(entries) == 2, WITHIN_S)
    may_end.set()

    assert handle.get_result() == "done"
    caller.join(WITHIN_S)
    assert answers == ["done"]
    assert entries == [1]
    assert late.stop == "lost"
    assert app.column("job", "status") == "SUCCESS"
