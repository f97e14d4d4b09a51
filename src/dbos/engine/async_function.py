"""A plain callable that returns a coroutine and passes for the coroutine function it wraps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CodeType, MethodType
from typing import Any


class AsyncFunction:
    """Takes its step ids when it is called, not when the coroutine that it returns first runs.

    So it is no `async def`. `inspect.iscoroutinefunction` looks at the code, the defaults and the
    name of what it is given, so the wrapper shows those of the original.
    """

    def __init__(self, original: Callable[..., Any], call: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original)
        self._call = call
        self.__code__: CodeType = original.__code__
        self.__defaults__: tuple[Any, ...] | None = original.__defaults__
        self.__kwdefaults__: dict[str, Any] | None = original.__kwdefaults__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)
