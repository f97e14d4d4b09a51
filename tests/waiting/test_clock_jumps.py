"""A wall clock that jumps by an hour, either way, moves no wait, no deadline and no timeout."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from dbos import DBOS, SetWorkflowID, SetWorkflowTimeout
from dbos.error import DBOSAwaitedWorkflowCancelledError
from tests.behaviour.application import Application
from tests.behaviour.flavours import Body, Flavour, registered
from tests.waiting.verbs import Verbs, start, until_recorded

HOUR_S = 3600
SHORT_S = 0.5
# Shorter than the jump: a wait that followed the wall clock forward would be over at once. One that
# followed it back would outlast this test by an hour.
LONG_S = 1800
KINDS = ("sleep", "recv", "get_event")

Jump = Callable[[], None]


@pytest.fixture(params=[HOUR_S, -HOUR_S], ids=["forward", "back"])
def jump(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Jump:
    """Set the wall clock that Python programs read, for the rest of the test."""
    read_s, read_ns, by_s = time.time, time.time_ns, int(request.param)

    def jump() -> None:
        monkeypatch.setattr(time, "time", lambda: read_s() + by_s)
        monkeypatch.setattr(time, "time_ns", lambda: read_ns() + by_s * 1_000_000_000)

    return jump


@pytest.fixture
def wait(app: Application, api: Flavour, verbs: Verbs) -> Body:
    """A workflow that waits in one of the ways for so many seconds."""

    @api.workflow()
    async def wait(kind: str, seconds: float) -> str:
        if kind == "sleep":
            await verbs.sleep(seconds)
        elif kind == "recv":
            assert await verbs.recv("t", seconds) is None
        else:
            assert await verbs.get_event("nobody", "key", seconds) is None
        return "over"

    return wait


def test_waits_under_way_and_new_ones_last_as_long_as_they_were_told(
    app: Application, wait: Body, jump: Jump
) -> None:
    for kind in KINDS:
        start(wait, f"{kind}-long", kind, LONG_S)
        start(wait, f"{kind}-short", kind, SHORT_S)
    until_recorded(app, *(f"{kind}-long" for kind in KINDS))

    jump()
    for kind in KINDS:
        start(wait, f"{kind}-new", kind, SHORT_S)

    for kind in KINDS:
        assert DBOS.get_result(f"{kind}-short") == "over"
        assert DBOS.get_result(f"{kind}-new") == "over"
        assert app.column(f"{kind}-long", "status") == "PENDING"


def test_a_restart_under_another_wall_clock_moves_no_wait(
    app: Application, wait: Body, jump: Jump
) -> None:
    for kind in KINDS:
        start(wait, f"{kind}-long", kind, LONG_S)
        start(wait, f"{kind}-short", kind, SHORT_S)
    until_recorded(app, *(f"{kind}-{length}" for kind in KINDS for length in ("long", "short")))

    DBOS.destroy()
    jump()
    app.launch()

    for kind in KINDS:
        assert DBOS.get_result(f"{kind}-short") == "over"
        assert app.column(f"{kind}-long", "status") in ("PENDING", "ENQUEUED")


def test_timeouts_keep_to_elapsed_time(app: Application, wait: Body, jump: Jump) -> None:
    with SetWorkflowTimeout(LONG_S):
        start(wait, "long", "sleep", LONG_S)
    with SetWorkflowTimeout(SHORT_S):
        start(wait, "short", "sleep", LONG_S)
    until_recorded(app, "long", "short")

    jump()
    with SetWorkflowTimeout(SHORT_S), SetWorkflowID("new"):
        DBOS.start_workflow(registered(wait), "sleep", LONG_S)

    for workflow_id in ("short", "new"):
        with pytest.raises(DBOSAwaitedWorkflowCancelledError):
            DBOS.get_result(workflow_id)
    assert app.column("long", "status") == "PENDING"
