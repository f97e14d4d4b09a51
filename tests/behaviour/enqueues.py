"""Enqueueing in either flavour: a scenario is written once, with the way to enqueue as a value."""

from __future__ import annotations

from typing import Any, cast

from dbos import DBOS, EnqueueOptions, Queue
from tests.behaviour.flavours import Body, Flavour, registered


async def through_queue(
    api: Flavour, queue: Queue, workflow: Body, *args: Any, **kwargs: Any
) -> Any:
    """`queue.enqueue(...)`."""
    function = registered(workflow)
    if api.is_async:
        return await queue.enqueue_async(function, *args, **kwargs)
    return queue.enqueue(function, *args, **kwargs)


async def by_name(api: Flavour, queue: str, workflow: Body, *args: Any, **kwargs: Any) -> Any:
    """`DBOS.enqueue_workflow(...)`."""
    function = registered(workflow)
    if api.is_async:
        return await DBOS.enqueue_workflow_async(queue, function, *args, **kwargs)
    return DBOS.enqueue_workflow(queue, function, *args, **kwargs)


async def with_options(api: Flavour, options: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    """`DBOS.enqueue_workflow_with_options(...)`."""
    typed = cast("EnqueueOptions", options)
    if api.is_async:
        return await DBOS.enqueue_workflow_with_options_async(typed, *args, **kwargs)
    return DBOS.enqueue_workflow_with_options(typed, *args, **kwargs)


async def call(api: Flavour, name: str, *args: Any, **kwargs: Any) -> Any:
    """A call of `DBOS` by its name, in the flavour's form."""
    if api.is_async:
        return await getattr(DBOS, f"{name}_async")(*args, **kwargs)
    return getattr(DBOS, name)(*args, **kwargs)
