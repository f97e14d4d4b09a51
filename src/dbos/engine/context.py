"""Where a call is made: the run and step around it, and the ambient options of `with` blocks."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from dbos.engine.execution import Execution
    from dbos.engine.io import Io


@dataclass(slots=True)
class ArmedId:
    """The id of a `with SetWorkflowID` block: the first workflow started in it takes it."""

    workflow_id: str
    reuse: Literal["return-existing", "reject"] = "return-existing"
    used: bool = False


@dataclass(frozen=True, slots=True)
class EnqueueSettings:
    """The six fields of a `with SetEnqueueOptions` block."""

    deduplication_id: str | None = None
    priority: int | None = None
    app_version: str | None = None
    queue_partition_key: str | None = None
    delay_until_ms: int | None = None
    duplication_policy: str | None = None


@dataclass(frozen=True, slots=True)
class Timeout:
    """An explicit timeout; None clears an inherited one."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Options:
    """What the surrounding `with` blocks say about workflows started inside them."""

    armed_id: ArmedId | None = None
    timeout: Timeout | None = None
    enqueue: EnqueueSettings | None = None
    attributes: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Authentication:
    """The user a call is made for."""

    user: str | None = None
    roles: tuple[str, ...] | None = None
    assumed_role: str | None = None


@dataclass(slots=True)
class Session:
    """Whom the calls of a context are made for.

    It is shared by the copies of the context, so that what a web framework's dependency sets on a
    thread of its own counts for the handler.
    """

    authentication: Authentication


class OpenTransaction(Protocol):
    """The database transaction around the body of a transaction."""

    @property
    def session(self) -> Any:
        """What `DBOS.sql_session` gives."""
        ...

    @property
    def io(self) -> Io | None:
        """On the system database: how our own statements join the transaction."""
        ...


class StepScope(msgspec.Struct):
    """The step or transaction whose body is running."""

    step_id: int
    kind: Literal["step", "transaction"] = "step"
    attempt: int | None = None
    """The attempt, from 0; None without retries."""
    max_attempts: int | None = None
    transaction: OpenTransaction | None = None
    stream_writes: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """How often this attempt wrote to each stream."""


NO_OPTIONS = Options()
NOBODY = Authentication()
NO_SESSION = Session(NOBODY)
"""The session where there is no context. Never changed."""


class Scope(msgspec.Struct, frozen=True):
    """Everything that surrounds a call. Replaced, never changed."""

    run: Execution | None = None
    step: StepScope | None = None
    options: Options = NO_OPTIONS
    session: Session = NO_SESSION
    explicit: bool = False
    block: object | None = None
    """The innermost `with` block around it, and the scope around that block."""
    outer: Scope | None = None

    @property
    def authentication(self) -> Authentication:
        """The user a call is made for."""
        return self.session.authentication

    @property
    def is_context(self) -> bool:
        """Whether there is a context: a run, a web request or a `with` block."""
        return self.explicit or self.run is not None

    @property
    def workflow(self) -> Execution | None:
        """The run, if the call is made in workflow code: not inside a step or transaction."""
        return self.run if self.step is None else None


OUTSIDE = Scope()

_current: ContextVar[Scope] = ContextVar("dbos_scope", default=OUTSIDE)

current_scope: Final = _current.get


class entered:
    """Make a scope the current one for a block.

    The former scope is set again rather than reset by token: a coroutine that is closed by another
    context than the one it started in must end without a complaint.
    """

    __slots__ = ("_former", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __enter__(self) -> Scope:
        self._former = _current.get()
        _current.set(self._scope)
        return self._scope

    def __exit__(self, *_: object) -> None:
        _current.set(self._former)


def enter_block(scope: Scope, block: object) -> None:
    """Make a scope the current one for a `with` block.

    What is around the block is kept here and not in it: one block may be entered again within
    itself, and by several threads and tasks at once.
    """
    _current.set(msgspec.structs.replace(scope, block=block, outer=_current.get()))


def leave_block(block: object) -> None:
    """Restore the scope around a block; of no effect in a context that did not enter it."""
    scope = _current.get()
    if scope.block is block and scope.outer is not None:
        _current.set(scope.outer)


def with_options(scope: Scope, **changes: Any) -> Scope:
    """The same scope under other ambient options."""
    options = replace(scope.options, **changes)
    session = scope.session if scope.is_context else Session(NOBODY)
    return msgspec.structs.replace(scope, options=options, session=session, explicit=True)


def on_behalf_of(scope: Scope, authentication: Authentication) -> Scope:
    """The same scope for another user."""
    return msgspec.structs.replace(scope, session=Session(authentication), explicit=True)
