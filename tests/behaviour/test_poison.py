"""Rows that can never run, on a queue that runs one at a time: what else waits there is served."""

from __future__ import annotations

import pytest

from dbos import DBOS
from dbos.errors import DBOSException, DBOSStoredDataError
from dbos.storage import workflows
from tests.behaviour.application import Application
from tests.behaviour.test_dispatching import declare, engine, enqueue, result


def test_rows_that_cannot_run_hold_up_nothing_and_say_what_became_of_them(
    app: Application,
) -> None:
    @DBOS.workflow(name="known")
    def known(number: int) -> int:
        return number

    declare(global_concurrency=1)
    enqueue("unknown-name", "unheard-of")
    enqueue("unknown-class", "Nobody.known", class_name="Nobody")
    enqueue("bad-roles", "known", 1, authenticated_roles="{no list")
    enqueue("held", "known", 2, status="DELAYED", delay_until_epoch_ms=2**52)
    app.change("UPDATE {workflow_status} SET inputs = '{' WHERE workflow_uuid = 'held'")
    DBOS.set_workflow_delay("held", delay_seconds=0)
    for number in range(3):
        enqueue(f"sound-{number}", "known", number)

    served = [result(f"sound-{number}") for number in range(3)]
    with pytest.raises(DBOSStoredDataError, match="authenticated_roles"):
        result("bad-roles")
    with pytest.raises(DBOSStoredDataError, match="inputs"):
        result("held")

    assert served == [0, 1, 2]
    listed = {run.workflow_id: run for run in DBOS.list_workflows()}
    assert {workflow_id: run.status for workflow_id, run in listed.items()} == {
        "unknown-name": "ENQUEUED",
        "unknown-class": "ENQUEUED",
        "bad-roles": "ERROR",
        "held": "ERROR",
        **{f"sound-{number}": "SUCCESS" for number in range(3)},
    }
    for workflow_id in ("unknown-name", "unknown-class"):
        assert listed[workflow_id].stranded
        assert listed[workflow_id].stranded_reason == "not_registered"
    assert "authenticated_roles" in str(listed["bad-roles"].error)
    assert set(listed["held"].payload_errors or {}) == {"input"}


def test_a_row_that_nobody_ever_knew_says_at_its_end_what_is_missing(app: Application) -> None:
    declare(global_concurrency=1)
    enqueue("unknown-name", "unheard-of")
    enqueue("unknown-class", "Nobody.known", class_name="Nobody")

    app.change("UPDATE {workflow_status} SET claim_returns = 99, not_before_epoch_ms = NULL")
    engine().hub.publish([workflows.SLOT_FREED])

    for workflow_id in ("unknown-name", "unknown-class"):
        with pytest.raises(DBOSException):
            result(workflow_id)
    ended = DBOS.list_workflows(status="MAX_RECOVERY_ATTEMPTS_EXCEEDED")
    assert {run.workflow_id for run in ended} == {"unknown-name", "unknown-class"}
    assert all("is not registered" in str(run.error) for run in ended)
