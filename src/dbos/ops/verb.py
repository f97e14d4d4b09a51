"""What makes a coroutine a public verb: how many step ids it takes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from dbos.engine.engine import Runtime
from dbos.engine.site import Site

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Verb(Generic[P, R]):
    """An operation as the facade declares it: `blocking(verb)` and `awaitable(verb)`."""

    run: Callable[Concatenate[Runtime, Site, P], Coroutine[Any, Any, R]]
    step_ids: int | Callable[P, int]
    """Step ids taken when the call is made in workflow code (contract, core 3.7)."""

    def ids_for(self, *args: P.args, **kwargs: P.kwargs) -> int:
        return self.step_ids if isinstance(self.step_ids, int) else self.step_ids(*args, **kwargs)


class Declaration(Protocol):
    """What `verb(...)` returns: it turns a coroutine function into a `Verb`."""

    def __call__(
        self, run: Callable[Concatenate[Runtime, Site, P], Coroutine[Any, Any, R]], /
    ) -> Verb[P, R]: ...


def verb(*, step_ids: int) -> Declaration:
    """Declare a public verb that takes a fixed number of step ids."""

    def declare(
        run: Callable[Concatenate[Runtime, Site, P], Coroutine[Any, Any, R]], /
    ) -> Verb[P, R]:
        return Verb(run, step_ids)

    return declare


def counted_verb(
    step_ids: Callable[P, int],
) -> Callable[[Callable[Concatenate[Runtime, Site, P], Coroutine[Any, Any, R]]], Verb[P, R]]:
    """Declare a public verb whose number of step ids depends on its arguments."""

    def declare(
        run: Callable[Concatenate[Runtime, Site, P], Coroutine[Any, Any, R]],
    ) -> Verb[P, R]:
        return Verb(run, step_ids)

    return declare
