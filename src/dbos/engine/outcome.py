"""What user code came to: a value or an error."""

from __future__ import annotations

from typing import Any

import msgspec


class Success(msgspec.Struct, frozen=True):
    """User code returned."""

    value: Any

    def resolve(self) -> Any:
        return self.value


class Failure(msgspec.Struct, frozen=True):
    """User code raised."""

    error: BaseException

    def resolve(self) -> Any:
        __tracebackhide__ = True
        raise self.error


Outcome = Success | Failure
