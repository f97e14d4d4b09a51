"""What the engine knows of transactions: a call of one, and who runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from dbos.engine.context import Authentication, current_scope
from dbos.engine.io import Call
from dbos.errors import DBOSUsageError

if TYPE_CHECKING:
    from dbos.engine.engine import Runtime
    from dbos.engine.execution import Execution

IsolationLevel = Literal["SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"]


class TransactionCall(msgspec.Struct, frozen=True):
    """A transaction as it was called in workflow code: its step id was taken at that moment."""

    name: str
    call: Call
    isolation: IsolationLevel
    run: Execution
    step_id: int
    caller: Authentication
    """For whom the body works, in the role that was assumed for it."""


class Transactor(Protocol):
    """Runs the transactions of one engine."""

    async def run(self, rt: Runtime, placed: TransactionCall) -> Any: ...

    def close(self) -> None: ...


class Transactions(Transactor, Protocol):
    """What an engine has: its transactor, and what is kept where its transactions run."""

    async def forget(self, rt: Runtime, workflow_ids: Sequence[str], start_step: int = 0) -> None:
        """Remove the outcomes kept beside the user's rows, of runs that are deleted or rewound."""
        ...


def place_transaction(
    name: str, call: Call, isolation: IsolationLevel, caller: Authentication
) -> TransactionCall | None:
    """Take the step id of a call made in workflow code; None outside of any run."""
    scope = current_scope()
    if scope.step is not None:
        raise DBOSUsageError(
            f"Transactions must be called from within workflows: {name} was called from a "
            f"{scope.step.kind}."
        )
    if scope.run is None:
        return None
    return TransactionCall(name, call, isolation, scope.run, scope.run.take_step_ids(1), caller)
