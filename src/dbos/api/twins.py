"""The two shells of a verb: `blocking(verb)` and `awaitable(verb)`, with the verb's own signature.

Both take the step ids and the ambient options when the call is made. An awaitable twin is
therefore a plain callable that returns a coroutine: what `gather` or a task group does with it
later changes no id.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar

from dbos.api.outside import OutsideCaller
from dbos.api.slot import runtime
from dbos.engine.site import NOWHERE, here
from dbos.errors import DBOSEventLoopError
from dbos.ops.verb import Verb
from dbos.runtime.drive import drive
from dbos.runtime.loops import running_loop

P = ParamSpec("P")
R = TypeVar("R")


class blocking(Generic[P, R]):
    """The sync twin of a verb, as an attribute of the facade or of a client.

    `under_a_loop`: the call may block an event loop, as in the contract, core 5 "Not guarded".
    """

    def __init__(self, verb: Verb[P, R], *, under_a_loop: bool = False) -> None:
        self._verb = verb
        self._under_a_loop = under_a_loop

    def __set_name__(self, owner: type, name: str) -> None:
        verb = self._verb

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            __tracebackhide__ = True
            rt = runtime()
            if not self._under_a_loop:
                refuse_under_a_loop(name)
            site = here(verb.ids_for(*args, **kwargs))
            return drive(verb.run(rt, site, *args, **kwargs))

        self._call: Callable[P, R] = _dressed(call, verb, name)

    def __get__(self, instance: object, owner: type) -> Callable[P, R]:
        if not isinstance(instance, OutsideCaller):
            return self._call
        verb, client, name = self._verb, instance, self._call.__name__

        @functools.wraps(self._call)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            __tracebackhide__ = True
            return client.now(name, lambda rt: verb.run(rt, NOWHERE, *args, **kwargs))

        return call


class awaitable(Generic[P, R]):
    """The async twin of a verb, as an attribute of the facade or of a client."""

    def __init__(self, verb: Verb[P, R]) -> None:
        self._verb = verb

    def __set_name__(self, owner: type, name: str) -> None:
        verb = self._verb

        def call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
            rt = runtime(is_async=True)
            site = here(verb.ids_for(*args, **kwargs))
            return verb.run(rt, site, *args, **kwargs)

        self._call: Callable[P, Coroutine[Any, Any, R]] = _dressed(call, verb, name)

    def __get__(self, instance: object, owner: type) -> Callable[P, Coroutine[Any, Any, R]]:
        if not isinstance(instance, OutsideCaller):
            return self._call
        verb, client = self._verb, instance

        @functools.wraps(self._call)
        def call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
            return client.later(lambda rt: verb.run(rt, NOWHERE, *args, **kwargs))

        return call


def refuse_under_a_loop(name: str) -> None:
    """A sync call that may block must not be made where it would block an event loop."""
    if running_loop() is not None:
        raise DBOSEventLoopError(
            f"`{name}()` was called while an event loop is running. "
            f"Use await `{name}_async(...)` instead."
        )


F = TypeVar("F", bound=Callable[..., Any])


def _dressed(call: F, verb: Verb[Any, Any], name: str) -> F:
    """Give a twin the name, documentation and signature of its verb, less what we supply."""
    signature = inspect.signature(verb.run)
    own = list(signature.parameters.values())[2:]
    call.__name__ = name
    call.__qualname__ = f"DBOS.{name}"
    call.__doc__ = verb.run.__doc__
    call.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    return call
