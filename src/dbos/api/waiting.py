"""Waiting for several things at once: handles, and awaitables with a recorded split."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Generator, Sequence
from typing import Any, TypeVar

from dbos import validation
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync, listed
from dbos.api.slot import around, runtime
from dbos.api.twins import refuse_under_a_loop
from dbos.engine.engine import Runtime
from dbos.engine.site import Site, here, recorded_operation
from dbos.ops import results, streams
from dbos.runtime.drive import drive

T = TypeVar("T")

ASYNCIO_WAIT = "DBOS.asyncio_wait"


def wait_first(
    handles: Sequence[WorkflowHandle[Any]], *, polling_interval_sec: float = 1.0
) -> WorkflowHandle[Any]:
    """Wait until the first of several workflows has ended, and return its handle.

    Its result is not fetched, so an error in it is not raised. In workflow code the winner is
    recorded.

    Raises:
        DBOSInvalidInputError: "must not be empty", "duplicate workflow IDs".
    """
    recheck_s = validation.polling_interval(polling_interval_sec)
    refuse_under_a_loop("wait_first")
    given = listed(handles)
    by_id = {handle.workflow_id: handle for handle in given}
    ids = [handle.workflow_id for handle in given]
    engine = around()
    return by_id[drive(results.first_ended(engine.blocking, here(1), ids, recheck_s))]


def wait_first_async(
    handles: Sequence[WorkflowHandleAsync[Any]], *, polling_interval_sec: float = 1.0
) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
    """As `wait_first`, awaited."""
    recheck_s = validation.polling_interval(polling_interval_sec)
    given = listed(handles)
    by_id = {handle.workflow_id: handle for handle in given}
    ids = [handle.workflow_id for handle in given]
    engine, site = around(), here(1)

    async def wait() -> WorkflowHandleAsync[Any]:
        return by_id[await results.first_ended(engine.aio, site, ids, recheck_s)]

    return wait()


def asyncio_wait(
    fs: Sequence[Awaitable[T]],
    *,
    timeout: float | None = None,
    return_when: str = asyncio.ALL_COMPLETED,
) -> Coroutine[Any, Any, tuple[set[asyncio.Future[T]], set[asyncio.Future[T]]]]:
    """`asyncio.wait` for workflow code: which awaitables were done is recorded, and replayed.

    Takes its step id when it is called. Outside a workflow it is `asyncio.wait`.

    Args:
        fs: awaitables; coroutines become tasks.
        timeout: in seconds; None waits without limit.
        return_when: as for `asyncio.wait`.

    Returns:
        The done and the pending futures.

    Raises:
        DBOSInvalidInputError: in workflow code, if the timeout is not a finite number.
    """
    site = here(1)
    if site.run is not None and timeout is not None:
        timeout = validation.finite_number(timeout, "timeout")
    rt = around().aio if site.run is not None else None
    return _wait(rt, site, fs, timeout, return_when)


async def _wait(
    rt: Runtime | None,
    site: Site,
    fs: Sequence[Awaitable[T]],
    timeout_s: float | None,
    return_when: str,
) -> tuple[set[asyncio.Future[T]], set[asyncio.Future[T]]]:
    futures: list[asyncio.Future[T]] = [asyncio.ensure_future(awaitable) for awaitable in fs]
    run = site.run
    if rt is None or run is None:
        return await asyncio.wait(futures, timeout=timeout_s, return_when=return_when)
    is_replay = site.step_id in run.replay.steps

    async def split() -> list[int]:
        done, _ = await asyncio.wait(futures, timeout=timeout_s, return_when=return_when)
        # What a cancel has ended is not done: the wait is not recorded, and happens after a resume.
        try:
            await run.ensure_alive(rt)
        except BaseException:
            for future in futures:
                future.add_done_callback(_dismiss)
            raise
        return sorted(index for index, future in enumerate(futures) if future in done)

    indices = await recorded_operation(rt, site, ASYNCIO_WAIT, split)
    done = {futures[index] for index in indices}
    if is_replay and done:
        # What was done then is replayed now; each awaitable delivers its own recorded outcome.
        await asyncio.wait(done)
    return done, {future for future in futures if future not in done}


def _dismiss(future: asyncio.Future[Any]) -> None:
    """Fetch an error that nobody will ask for, so that asyncio does not report it."""
    if not future.cancelled():
        future.exception()


def read_stream(
    workflow_id: str,
    key: str,
    *,
    offset: int = 0,
    polling_interval_sec: float | None = None,
    timeout_seconds: float | None = None,
) -> Generator[Any, None, None]:
    """The values of a workflow's stream, in order, until it ends; each is waited for.

    Ends when the stream is closed, or when the workflow has ended and nothing more is stored. In
    workflow code each value is recorded before it is handed out.

    Args:
        offset: where to begin, counted from 0.
        polling_interval_sec: how late an entry that rings no bell is noticed, at the most.
        timeout_seconds: how long to wait for each value; None waits without limit.

    Raises, at the first `next`:
        DBOSNonExistentWorkflowError: there is no such workflow.
        DBOSStreamTimeoutError: no value in time.
        DBOSStreamNondeterminismError: two reads overlap in one workflow.
        DBOSInvalidInputError: an argument is not valid.
    """
    refuse_under_a_loop("read_stream")
    wanted = streams.reading(workflow_id, key, polling_interval_sec, timeout_seconds)
    position = validation.stream_offset(offset)
    entries = streams.entries(runtime(), here(0).run, wanted, position)
    while True:
        try:
            value = drive(_next(entries))
        except StopAsyncIteration:
            return
        yield value


async def _next(entries: AsyncGenerator[T, None]) -> T:
    return await anext(entries)


async def read_stream_async(
    workflow_id: str,
    key: str,
    *,
    offset: int = 0,
    polling_interval_sec: float | None = None,
    timeout_seconds: float | None = None,
) -> AsyncGenerator[Any, None]:
    """As `read_stream`, for `async for`. The wait holds no thread."""
    wanted = streams.reading(workflow_id, key, polling_interval_sec, timeout_seconds)
    position = validation.stream_offset(offset)
    rt = runtime(is_async=True)
    async for value in streams.entries(rt, here(0).run, wanted, position):
        yield value
