"""Class-level properties: attributes of the facade that are read without an instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from dbos.engine.context import current_scope
from dbos.models import StepStatus

T = TypeVar("T")


class ClassProperty(Generic[T]):
    """A property of the class itself."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self.__doc__ = read.__doc__

    def __get__(self, instance: object, owner: type) -> T:
        return self._read()


def workflow_id() -> str | None:
    """The id of the workflow that this code runs in; None outside."""
    run = current_scope().run
    return None if run is None else run.workflow_id


def step_id() -> int | None:
    """The id of the step or transaction that this code runs in; None outside."""
    step = current_scope().step
    return None if step is None else step.step_id


def step_status() -> StepStatus | None:
    """Where the step stands that this code runs in: its id and attempt; None outside."""
    step = current_scope().step
    return None if step is None else StepStatus(step.step_id, step.attempt, step.max_attempts)
