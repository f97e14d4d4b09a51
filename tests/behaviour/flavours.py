"""The two flavours of the interface: scenarios are written once, and run blocking and on a loop.

A scenario and the bodies of its workflows and steps are coroutines. The blocking flavour registers
sync functions around them and drives them without an event loop; the asyncio flavour registers and
awaits them as they are.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from dbos import DBOS

Body = Callable[..., Coroutine[Any, Any, Any]]
Decorate = Callable[[Body], Body]


class Flavour(Protocol):
    """One way to use the package. Names of workflows and steps are plain function names."""

    is_async: bool

    def run(self, scenario: Body, *args: Any) -> Any: ...
    def workflow(self, **options: Any) -> Decorate: ...
    def step(self, **options: Any) -> Decorate: ...
    async def start(self, workflow: Body, *args: Any, **kwargs: Any) -> Any: ...
    async def result(self, handle: Any) -> Any: ...
    async def status(self, handle: Any) -> Any: ...
    async def retrieve(self, workflow_id: str, existing_workflow: bool = True) -> Any: ...
    async def result_of(self, workflow_id: str) -> Any: ...
    async def status_of(self, workflow_id: str) -> Any: ...
    async def sleep(self, seconds: float) -> None: ...
    async def run_step(self, options: Any, body: Body, *args: Any, **kwargs: Any) -> Any: ...


class Blocking:
    """`DBOS.x(...)` and sync functions, without an event loop."""

    is_async = False

    def run(self, scenario: Body, *args: Any) -> Any:
        return driven(scenario(*args))

    def workflow(self, **options: Any) -> Decorate:
        return self._decorate(DBOS.workflow, options)

    def step(self, **options: Any) -> Decorate:
        return self._decorate(DBOS.step, options)

    def _decorate(self, decorator: Callable[..., Any], options: dict[str, Any]) -> Decorate:
        def decorate(body: Body) -> Body:
            sync = blocking(body)
            registered = decorator(**({"name": body.__name__} | options))(sync)

            async def call(*args: Any, **kwargs: Any) -> Any:
                return registered(*args, **kwargs)

            call.__dict__.update(registered.__dict__, registered=registered)
            return call

        return decorate

    async def start(self, workflow: Body, *args: Any, **kwargs: Any) -> Any:
        return DBOS.start_workflow(registered(workflow), *args, **kwargs)

    async def result(self, handle: Any) -> Any:
        return handle.get_result()

    async def status(self, handle: Any) -> Any:
        return handle.get_status()

    async def retrieve(self, workflow_id: str, existing_workflow: bool = True) -> Any:
        return DBOS.retrieve_workflow(workflow_id, existing_workflow)

    async def result_of(self, workflow_id: str) -> Any:
        return DBOS.get_result(workflow_id)

    async def status_of(self, workflow_id: str) -> Any:
        return DBOS.get_workflow_status(workflow_id)

    async def sleep(self, seconds: float) -> None:
        DBOS.sleep(seconds)

    async def run_step(self, options: Any, body: Body, *args: Any, **kwargs: Any) -> Any:
        return DBOS.run_step(options, blocking(body), *args, **kwargs)


class Asyncio:
    """`await DBOS.x_async(...)` and coroutine functions, each scenario on a loop of its own."""

    is_async = True

    def run(self, scenario: Body, *args: Any) -> Any:
        return asyncio.run(scenario(*args))

    def workflow(self, **options: Any) -> Decorate:
        return self._decorate(DBOS.workflow, options)

    def step(self, **options: Any) -> Decorate:
        return self._decorate(DBOS.step, options)

    def _decorate(self, decorator: Callable[..., Any], options: dict[str, Any]) -> Decorate:
        def decorate(body: Body) -> Body:
            decorated: Body = decorator(**({"name": body.__name__} | options))(body)
            return decorated

        return decorate

    async def start(self, workflow: Body, *args: Any, **kwargs: Any) -> Any:
        return await DBOS.start_workflow_async(workflow, *args, **kwargs)

    async def result(self, handle: Any) -> Any:
        return await handle.get_result()

    async def status(self, handle: Any) -> Any:
        return await handle.get_status()

    async def retrieve(self, workflow_id: str, existing_workflow: bool = True) -> Any:
        return await DBOS.retrieve_workflow_async(workflow_id, existing_workflow)

    async def result_of(self, workflow_id: str) -> Any:
        return await DBOS.get_result_async(workflow_id)

    async def status_of(self, workflow_id: str) -> Any:
        return await DBOS.get_workflow_status_async(workflow_id)

    async def sleep(self, seconds: float) -> None:
        await DBOS.sleep_async(seconds)

    async def run_step(self, options: Any, body: Body, *args: Any, **kwargs: Any) -> Any:
        return await DBOS.run_step_async(options, body, *args, **kwargs)


def blocking(body: Body) -> Callable[..., Any]:
    """A sync function that runs a coroutine function which never has to wait."""

    @functools.wraps(body)
    def sync(*args: Any, **kwargs: Any) -> Any:
        return driven(body(*args, **kwargs))

    return sync


def driven(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never has to wait to its end."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("A blocking scenario waited for an event loop")


def registered(body: Body) -> Any:
    """What was decorated, as `start_workflow` wants it."""
    return body.__dict__.get("registered", body)
