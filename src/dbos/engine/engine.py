"""The parts an operation may touch, behind protocols that the outer layers implement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from dbos.config import Settings
from dbos.engine.execution import Execution
from dbos.engine.io import Hub, Io
from dbos.engine.registry import Registry
from dbos.engine.transactions import Transactions
from dbos.models import Health
from dbos.serialization.codec import Codec


class Lease(Protocol):
    """This incarnation's right to run what it claimed."""

    @property
    def term(self) -> int:
        """How often it lapsed. A run that was claimed in an earlier term may have been taken."""
        ...

    def is_trusted(self) -> bool:
        """Whether peers are sure not to have taken over yet."""
        ...

    async def regain(self, io: Io) -> None:
        """Wait for the lease to be renewed, for a second at the most."""
        ...


class Launcher(Protocol):
    """Where background runs find a thread or a loop."""

    def start(self, run: Execution, *, on_callers_loop: bool = False) -> None: ...

    def start_all(
        self, runs: Sequence[Execution], group: str
    ) -> list[tuple[Execution, BaseException]]:
        """Start runs, which take turns with those of other groups; those that found no place."""
        ...


@dataclass(slots=True)
class Identity:
    """Who this engine is. The incarnation owns runs; the label is for display."""

    incarnation_id: str
    executor_id: str
    application_version: str
    is_latest_version: bool = True


@dataclass(slots=True)
class Engine:
    """One launched engine. Several may live in a process; they share the registry alone."""

    settings: Settings
    identity: Identity
    registry: Registry
    codec: Codec
    hub: Hub
    lease: Lease
    launcher: Launcher
    new_id: Callable[[], str]
    new_token: Callable[[], str]
    blocking_io: Io
    async_io: Io
    transactor: Transactions | None = None
    """None: this engine runs no transactions."""
    check_up: Callable[[], Health] = lambda: Health(False, False, ())
    """How the process is. It may take a moment, but waits for no database that is away."""
    running: dict[str, Execution] = field(default_factory=dict[str, Execution])
    served_until: dict[str, int] = field(default_factory=dict[str, int])
    """Undeclared queues that were enqueued to: until when they count as served; 0: warned of."""
    blocking: Runtime = field(init=False)
    """This engine for sync callers."""
    aio: Runtime = field(init=False)
    """This engine for asyncio callers."""

    def __post_init__(self) -> None:
        self.blocking = Runtime(self, self.blocking_io)
        self.aio = Runtime(self, self.async_io)

    def enter(self, run: Execution) -> None:
        """Count an attempt among the running ones; a former one of the run has no part in it."""
        former = self.running.get(run.workflow_id)
        self.running[run.workflow_id] = run
        if former is not None and former is not run:
            self.dismiss(former, "lost")

    def dismiss(self, run: Execution, reason: Literal["cancelled", "lost"]) -> None:
        """Tell an attempt at once that it is not to go on."""
        if run.stop is None:
            run.stop = reason
        run.tell()


@dataclass(frozen=True, slots=True)
class Runtime:
    """An engine seen through one driver."""

    engine: Engine
    io: Io
