"""Where a stored payload belongs, and the error for one that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

from dbos.errors import DBOSException, DBOSSerializationError, DBOSStoredDataError
from dbos.serialization.tree import ClassUnavailable


@dataclass(frozen=True, slots=True)
class Stored:
    """The place of a payload: workflow, step and field such as `inputs`, as far as they apply."""

    workflow_id: str | None = None
    step_id: int | None = None
    field: str | None = None

    def __str__(self) -> str:
        parts = [self.field or "a stored value"]
        if self.step_id is not None:
            parts.append(f"of step {self.step_id}")
        if self.workflow_id is not None:
            parts.append(f"of workflow {self.workflow_id}")
        return " ".join(parts)


NOWHERE = Stored()


def unreadable(error: Exception, where: Stored = NOWHERE) -> DBOSException:
    """The error to raise, in place of what a decoder raised, for a payload at a place."""
    if isinstance(error, DBOSSerializationError):
        return error
    if isinstance(error, ClassUnavailable):
        return DBOSSerializationError(
            f"cannot read {where}: {error}; import the module that defines it, as it was when the "
            "value was stored",
            type_name=error.name,
        )
    if isinstance(error, RecursionError):
        return DBOSSerializationError(
            f"cannot read {where}: it is nested too deeply to be read here"
        )
    return DBOSStoredDataError(
        f"{where} cannot be decoded ({type(error).__name__}); the stored text is damaged or was "
        "not written by this format",
        where.workflow_id,
        where.step_id,
        where.field,
    )
