"""The verbs of the facade in either flavour, and how tests follow what runs in the background."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from dbos import DBOS, SetWorkflowID
from dbos.api.slot import SLOT
from dbos.runtime.wakeups import WakeupHub
from dbos.storage.protocol import Topic
from tests.behaviour.application import Application
from tests.behaviour.flavours import Body, Flavour, registered

PATIENCE_S = 30.0


class Verbs:
    """`await verbs.send(...)` is `DBOS.send(...)` or `await DBOS.send_async(...)`."""

    def __init__(self, api: Flavour) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        is_async = self._api.is_async
        twin: Callable[..., Any] = getattr(DBOS, f"{name}_async" if is_async else name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            answer = twin(*args, **kwargs)
            return await answer if is_async else answer

        return call

    async def read_all(self, *args: Any, **kwargs: Any) -> list[Any]:
        """All values of a stream."""
        if self._api.is_async:
            return [value async for value in DBOS.read_stream_async(*args, **kwargs)]
        return list(DBOS.read_stream(*args, **kwargs))


async def paused(api: Flavour, gate: threading.Event) -> None:
    """Code of a user that waits for something which is no operation."""
    if api.is_async:
        await asyncio.to_thread(gate.wait, PATIENCE_S)
    else:
        gate.wait(PATIENCE_S)


def start(body: Body, workflow_id: str, *args: Any) -> Any:
    """Start a workflow in the background: on a thread, or on the loop of the engine."""
    with SetWorkflowID(workflow_id):
        return DBOS.start_workflow(registered(body), *args)


def until(is_true: Callable[[], object]) -> None:
    """Wait until something has become true in the background."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < give_up_at, "It did not happen"
        time.sleep(0.005)


def until_recorded(app: Application, *workflow_ids: str, count: int = 1) -> None:
    """Wait until each of these runs has recorded so many operations."""
    for workflow_id in workflow_ids:

        def is_recorded(workflow_id: str = workflow_id) -> bool:
            return len(app.steps(workflow_id)) >= count

        until(is_recorded)


def until_waited_for(kind: str, key: str) -> None:
    """Wait until somebody waits for a change: `message`, `event`, `stream` or `done`."""

    def is_waited_for() -> bool:
        return any("::".join(subject) == key for subject in _hub().subjects(kind))

    until(is_waited_for)


def until_looked_for(kind: str, key: str) -> None:
    """Wait until somebody has looked for a change, and now waits for its bell."""

    def is_armed() -> bool:
        bells = _hub()._bells.get(Topic(kind, key), set())
        return any(bell._wake is not None for bell in bells.copy())

    until(is_armed)


def _hub() -> WakeupHub:
    assert SLOT.instance is not None
    assert SLOT.instance.engine is not None
    return cast("WakeupHub", SLOT.instance.engine.engine.hub)
