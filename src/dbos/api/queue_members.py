"""The members of a queue that read and change one setting each."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, Protocol, TypeVar, overload

from dbos.api.slot import runtime
from dbos.engine.engine import Engine, Runtime
from dbos.errors import DBOSException
from dbos.ops import queues
from dbos.ops.queue_settings import Setting
from dbos.runtime.drive import drive
from dbos.runtime.loops import running_loop
from dbos.storage.queues import QueueSettings
from dbos.telemetry import log

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Home:
    """Where a queue's settings are: fixed by a declaration, or in the database."""

    settings: QueueSettings
    is_registered: bool
    client: Engine | None = None

    def runtime(self, *, is_async: bool = False) -> Runtime:
        """How the stored settings are reached."""
        if self.client is None:
            return runtime(is_async=is_async)
        return self.client.aio if is_async else self.client.blocking


class Housed:
    """A queue, as far as its settings go."""

    @property
    def name(self) -> str:
        """The name of the queue."""
        return home_of(self).settings.name


def house(queue: Housed, home: Home) -> None:
    """Give a queue the place of its settings."""
    queue.__dict__["home"] = home


def home_of(queue: Housed) -> Home:
    """The place of a queue's settings; no attribute of the class, since it is not for users."""
    home: Home = queue.__dict__["home"]
    return home


class AsyncReader(Protocol[T_co]):
    """`get_<setting>_async()`."""

    def __call__(self) -> Coroutine[Any, Any, T_co]: ...


class Changer(Protocol[T_contra]):
    """`set_<setting>(value)`."""

    def __call__(self, value: T_contra) -> None: ...


class AsyncChanger(Protocol[T_contra]):
    """`set_<setting>_async(value)`."""

    def __call__(self, value: T_contra) -> Coroutine[Any, Any, None]: ...


class Read(Generic[T]):
    """The setting as an attribute; of a registered queue it is read from the database.

    Raises:
        DBOSException: "not found in the database": the queue was deleted.
    """

    def __init__(self, setting: Setting[T]) -> None:
        self._setting = setting

    @overload
    def __get__(self, queue: None, owner: type[Housed]) -> Read[T]: ...

    @overload
    def __get__(self, queue: Housed, owner: type[Housed]) -> T: ...

    def __get__(self, queue: Housed | None, owner: type[Housed]) -> T | Read[T]:
        if queue is None:
            return self
        home = home_of(queue)
        if not home.is_registered:
            return self._setting.read(home.settings)
        _warn_under_a_loop(self._setting.name, f"get_{self._setting.name}_async")
        rt = home.runtime()
        return self._setting.read(drive(queues.settings_of(rt, queue.name)))

    def __set__(self, queue: Housed, value: T) -> NoReturn:
        name = self._setting.name
        raise AttributeError(f"Queue.{name} cannot be assigned: call set_{name}(...)")


class ReadAsync(Generic[T]):
    """As the attribute, awaited."""

    def __init__(self, setting: Setting[T]) -> None:
        self._setting = setting

    def __get__(self, queue: Housed, owner: type[Housed]) -> AsyncReader[T]:
        setting = self._setting

        async def read() -> T:
            home = home_of(queue)
            if not home.is_registered:
                return setting.read(home.settings)
            return setting.read(await queues.settings_of(home.runtime(is_async=True), queue.name))

        return _named(read, f"get_{setting.name}_async")


class Change(Generic[T]):
    """Give a registered queue another value; durable when this returns, and followed at once.

    Raises:
        DBOSInvalidInputError: the value is out of range, or contradicts another setting.
        DBOSException: the queue is declared, or was deleted.
    """

    def __init__(self, setting: Setting[T]) -> None:
        self._setting = setting

    def __get__(self, queue: Housed, owner: type[Housed]) -> Changer[T]:
        setting = self._setting

        def change(value: T) -> None:
            _refuse_declared(queue, setting.name)
            _warn_under_a_loop(f"set_{setting.name}", f"set_{setting.name}_async")
            drive(queues.change(home_of(queue).runtime(), queue.name, setting, value))

        return _named(change, f"set_{setting.name}")


class ChangeAsync(Generic[T]):
    """As the setter, awaited."""

    def __init__(self, setting: Setting[T]) -> None:
        self._setting = setting

    def __get__(self, queue: Housed, owner: type[Housed]) -> AsyncChanger[T]:
        setting = self._setting

        async def change(value: T) -> None:
            _refuse_declared(queue, setting.name)
            await queues.change(home_of(queue).runtime(is_async=True), queue.name, setting, value)

        return _named(change, f"set_{setting.name}_async")


def _refuse_declared(queue: Housed, setting: str) -> None:
    if not home_of(queue).is_registered:
        raise DBOSException(
            f"set_{setting} is only supported for queues registered via DBOS.register_queue; "
            f"queue {queue.name} is declared in code: change its declaration."
        )


def _warn_under_a_loop(name: str, twin: str) -> None:
    if running_loop() is not None:
        log.blocking_under_a_loop(f"Queue.{name}", f"Queue.{twin}")


F = TypeVar("F", bound=Callable[..., Any])


def _named(function: F, name: str) -> F:
    function.__name__ = name
    function.__qualname__ = f"Queue.{name}"
    return function
