"""Step ids that are taken now, for a step that runs later."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from dbos.api.slot import around
from dbos.api.starting import FunctionAsStep, prepared_step
from dbos.api.twins import refuse_under_a_loop
from dbos.engine.context import current_scope
from dbos.engine.execution import Execution
from dbos.engine.site import here, only_in_workflow
from dbos.engine.steps import StepCall, run_step
from dbos.errors import DBOSUsageError
from dbos.models import StepOptions
from dbos.runtime.drive import drive

P = ParamSpec("P")
R = TypeVar("R")


class StepReservation:
    """A step id that was taken by `DBOS.reserve_step()`: one step runs at it, once.

    A replay finds the step at the same id, whichever task runs it and when. One that is never used
    leaves its id empty.
    """

    __slots__ = ("_is_used", "_run", "_step_id")

    def __init__(self, run: Execution, step_id: int) -> None:
        self._run = run
        self._step_id = step_id
        self._is_used = False

    @property
    def step_id(self) -> int:
        """The reserved step id."""
        return self._step_id

    def run(
        self,
        dbos_step_options: StepOptions | None,
        func: Callable[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run a function as the reserved step; its outcome is committed before this returns.

        Args:
            dbos_step_options: the options of `@DBOS.step`, or None for the defaults.
            func: plain or decorated; its own step options are not used.

        Raises:
            DBOSUsageError: the reservation was used, or the call is not made in workflow code of
                the workflow that made it.
            DBOSEventLoopError: called while an event loop is running.
            DBOSInvalidInputError: an option is out of range.
        """
        __tracebackhide__ = True
        engine = around()
        refuse_under_a_loop("run")
        step = prepared_step(dbos_step_options, func, args, kwargs, blocking=True)
        result: R = drive(run_step(engine.blocking, self._place(step)))
        return result

    @overload
    def run_async(
        self,
        dbos_step_options: StepOptions | None,
        func: Callable[P, Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def run_async(
        self,
        dbos_step_options: StepOptions | None,
        func: Callable[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]: ...

    def run_async(
        self,
        dbos_step_options: StepOptions | None,
        func: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]:
        """As `run`, awaited; a sync function runs on a thread."""
        engine = around()
        step = prepared_step(dbos_step_options, func, args, kwargs, blocking=False)
        return run_step(engine.aio, self._place(step))

    def _place(self, step: FunctionAsStep) -> StepCall:
        """The step at the reserved id, which is used up by it."""
        if current_scope().workflow is not self._run:
            raise DBOSUsageError(
                f"Step {self._step_id} was reserved by workflow {self._run.workflow_id}: run it in "
                "the code of that workflow, and not from a step or from elsewhere."
            )
        if self._is_used:
            raise DBOSUsageError(
                f"The reservation of step {self._step_id} was used already: reserve one step for "
                "each step to run."
            )
        self._is_used = True
        return step.place_at(self._run, self._step_id)


def reserve_step() -> StepReservation:
    """Take the next step id now, for a step that runs later, for example in another task.

    Raises:
        DBOSUsageError: called outside workflow code.
    """
    site = here(1)
    return StepReservation(only_in_workflow(site, "reserve_step"), site.step_id)
