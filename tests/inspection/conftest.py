"""Fixtures of the tests of listing: an application with a few runs of every kind."""

from __future__ import annotations

import pytest

from dbos import DBOS, Queue, SetEnqueueOptions, SetWorkflowAttributes, SetWorkflowID
from tests.behaviour.application import Application
from tests.behaviour.conftest import app, log, shop

__all__ = ["app", "log", "populated", "shop"]


@pytest.fixture
def populated(app: Application) -> Application:
    """Four runs: `greet` with a step, `fail`, its child, and one that waits on a queue."""
    app.launch()
    waiting = Queue("never", worker_concurrency=0)

    @DBOS.step()
    def shout(word: str) -> str:
        return word.upper()

    @DBOS.workflow(name="greet")
    def greet(word: str) -> str:
        return shout(word)

    @DBOS.workflow(name="fail")
    def fail() -> None:
        greet("child")
        raise ValueError("no")

    with SetWorkflowID("a_1"), SetWorkflowAttributes({"kind": "first", "n": 1}):
        greet("one")
    with SetWorkflowID("fails"), pytest.raises(ValueError, match="no"):
        fail()
    with SetWorkflowID("queued"), SetEnqueueOptions(priority=5):
        waiting.enqueue(greet, "later")
    return app
