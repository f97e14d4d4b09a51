"""Running an operation on the caller's thread."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


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
