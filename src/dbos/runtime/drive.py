"""Running an operation on the caller's thread."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol, TypeVar

R = TypeVar("R")


class Settles(Protocol):
    """What an operation may wait for without its thread."""

    on_settled: Callable[[], None] | None


class Parked:
    """Suspends a background operation until a write is settled; `begin` hands the write over."""

    def __init__(self, begin: Callable[[], None], awaited: Settles) -> None:
        self.begin = begin
        self.awaited = awaited

    def __await__(self) -> Generator[Parked, None, None]:
        yield self


def drive(operation: Coroutine[Any, Any, R]) -> R:
    """Run an operation that the blocking driver never lets suspend, and return its result."""
    __tracebackhide__ = True
    try:
        operation.send(None)
    except StopIteration as done:
        result: R = done.value
        return result
    operation.close()
    raise AssertionError("an operation suspended under the blocking driver")


def drive_parking(operation: Coroutine[Any, Any, None]) -> None:
    """Run a background operation, of which nobody here waits for the end.

    Where it waits for its last write this returns, and the thread is free: the rest runs on the
    thread that settles the write, so it may neither block nor raise.
    """
    try:
        parked = operation.send(None)
    except StopIteration:
        return
    assert isinstance(parked, Parked), "a background operation waits for nothing but its last write"
    parked.awaited.on_settled = lambda: drive_parking(operation)
    parked.begin()
