"""The engine slot: the one instance of the facade, and the process's registry of functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dbos.engine.context import current_scope
from dbos.engine.engine import Runtime
from dbos.engine.registry import Registry
from dbos.errors import DBOSException

if TYPE_CHECKING:
    from dbos.api.assembly import Instance
    from dbos.engine.engine import Engine


@dataclass(slots=True)
class Slot:
    """What this process holds: at most one facade instance, and every decorated function."""

    instance: Instance | None = None
    registry: Registry = field(default_factory=Registry)


SLOT = Slot()


def created() -> Instance:
    """The facade's instance."""
    if SLOT.instance is None:
        raise DBOSException("No DBOS was created yet: call DBOS(config=...) first.")
    return SLOT.instance


def launched(accessed: str = "System database") -> Engine:
    """The facade's engine, for what needs the database."""
    engine = created().engine
    if engine is None:
        raise DBOSException(
            f"{accessed} accessed before DBOS was launched: call DBOS.launch() first."
        )
    return engine.engine


def around(accessed: str = "System database") -> Engine:
    """The engine of the run around a call; outside a workflow, the facade's."""
    run = current_scope().run
    return launched(accessed) if run is None else run.engine


def runtime(*, is_async: bool = False) -> Runtime:
    """How a call made here reaches the database: through the open transaction around it, if any."""
    engine = around()
    rt = engine.aio if is_async else engine.blocking
    step = current_scope().step
    if step is None or step.transaction is None or step.transaction.io is None:
        return rt
    return Runtime(engine, step.transaction.io)
