"""What user code came to: a value or an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Success:
    """User code returned."""

    value: Any

    def resolve(self) -> Any:
        return self.value


@dataclass(frozen=True, slots=True)
class Failure:
    """User code raised."""

    error: BaseException

    def resolve(self) -> Any:
        __tracebackhide__ = True
        raise self.error


Outcome = Success | Failure
