"""Registered classes and configured instances, and whose method a decorated function is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from dbos import validation
from dbos.errors import DBOSException

if TYPE_CHECKING:
    from dbos.engine.registry import Registration

REGISTRATION = "__dbos_registration__"
"""The attribute by which a decorated function tells its registration."""

MethodKind = Literal["instance", "class", "static"]


@dataclass(frozen=True, slots=True)
class Receiver:
    """The class or instance that a method was called on, as the row of its run names it."""

    class_name: str
    config_name: str | None


@dataclass(slots=True)
class Classes:
    """Classes by their registered names, and their instances by their configuration's names."""

    _by_name: dict[str, type] = field(default_factory=dict[str, type])
    _names: dict[type, str] = field(default_factory=dict[type, str])
    _instances: dict[tuple[str, str], object] = field(default_factory=dict[tuple[str, str], object])

    def add(self, kind: type, name: str) -> None:
        """Register a class under a name of its own."""
        if self._by_name.get(name, kind) is not kind:
            raise DBOSException(
                f"Duplicate type registration for class '{name}': "
                "give one of the two another class_name."
            )
        self._by_name[name] = kind
        self._names[kind] = name

    def name_of(self, kind: type) -> str | None:
        """The registered name that a class counts under: its own, else its nearest ancestor's."""
        return next((self._names[known] for known in kind.__mro__ if known in self._names), None)

    def add_instance(self, instance: object) -> Receiver | None:
        """Register an instance under its `config_name`; None if its class is not registered."""
        config_name = _config_name(instance)
        class_name = self.name_of(type(instance))
        if class_name is None:
            return None
        if self._instances.setdefault((class_name, config_name), instance) is not instance:
            raise DBOSException(
                f"Duplicate instance registration for class '{class_name}' instance "
                f"'{config_name}': give each instance of a class a config_name of its own."
            )
        return Receiver(class_name, config_name)

    def all(self) -> list[tuple[type, str]]:
        """Every registered class and its name."""
        return list(self._names.items())

    def all_instances(self) -> list[object]:
        return list(self._instances.values())

    def instances(self) -> list[tuple[str, str]]:
        """Class and config name of every registered instance."""
        return list(self._instances)

    def receiver(self, target: Registration, args: Sequence[Any]) -> Receiver | None:
        """What a method is called on, which is its first argument; None for a plain function."""
        called_on = called_class(target, args)
        if called_on is None:
            return None
        class_name = self.name_of(called_on)
        subject = args[0]
        if subject is called_on:
            if class_name is None:
                raise DBOSException(
                    f"{target.name}: {called_on.__qualname__} appears to be a class, but is not "
                    "properly registered: decorate it with @DBOS.dbos_class()."
                )
            return Receiver(class_name, None)
        if class_name is None:
            raise DBOSException(
                f"{target.name}: its first argument appears to be a class instance, but is not "
                f"properly registered: decorate {called_on.__qualname__} with @DBOS.dbos_class()."
            )
        config_name = _config_name(subject)
        if self._instances.get((class_name, config_name)) is not subject:
            raise DBOSException(
                f"{target.name}: its first argument appears to be a class instance, but is not "
                "properly registered: derive its class from DBOSConfiguredInstance, or pass it "
                "to DBOS.register_instance()."
            )
        return Receiver(class_name, config_name)

    def subject(
        self, target: Registration, class_name: str | None, config_name: str | None
    ) -> object:
        """What a recorded method is to be called on; None for a plain function.

        Raises:
            LookupError: the class or the instance is not registered here.
        """
        if class_name is None:
            return None
        if config_name is not None:
            instance = self._instances.get((class_name, config_name))
            if instance is None:
                raise LookupError(f"instance '{config_name}' of class '{class_name}'")
            return instance
        kind = self._by_name.get(class_name)
        if kind is None:
            raise LookupError(f"class '{class_name}'")
        holders = (known for known in self._family(kind) if method_kind(known, target) == "class")
        return next(holders, kind)

    def class_names(self, target: Registration) -> list[str | None]:
        """The names under which runs of a function may be recorded; None for a plain function."""
        if not target.is_in_class:
            return [None]
        names: list[str | None] = [
            name
            for name, kind in self._by_name.items()
            if any(
                method_kind(known, target) in ("instance", "class") for known in self._family(kind)
            )
        ]
        return names or [None]

    def clear(self) -> None:
        self._by_name.clear()
        self._names.clear()
        self._instances.clear()

    def _family(self, kind: type) -> Iterator[type]:
        """A registered class, and the subclasses that count as it."""
        yield kind
        subclasses: list[type] = type.__subclasses__(kind)
        for subclass in subclasses:
            if subclass not in self._names:
                yield from self._family(subclass)


def called_class(target: Registration, args: Sequence[Any]) -> type | None:
    """The class whose method is called with these arguments; None if it is no method of one."""
    if not target.is_in_class or not args:
        return None
    subject: object = args[0]
    kind: type = type(subject)
    if method_kind(kind, target) == "instance":
        return kind
    if isinstance(subject, type) and method_kind(subject, target) == "class":
        return subject
    return None


def method_kind(kind: type, target: Registration) -> MethodKind | None:
    """How a class holds a function, itself or by inheritance; None if it does not."""
    name = getattr(target.function, "__name__", "")
    for holder in kind.__mro__:
        members = vars(holder)
        for member in (members.get(name), *members.values()):
            if registration_in(member) is target:
                return _kind_of(member)
    return None


def registration_in(member: object) -> Registration | None:
    """The registration of what a class holds: a function, or a class or static method of one."""
    is_wrapped = isinstance(member, staticmethod | classmethod)
    inner: Any = cast("Any", member).__func__ if is_wrapped else member
    found: Registration | None = getattr(inner, "__dict__", {}).get(REGISTRATION)
    return found


def _kind_of(member: object) -> MethodKind:
    if isinstance(member, classmethod):
        return "class"
    return "static" if isinstance(member, staticmethod) else "instance"


def _config_name(instance: object) -> str:
    name = getattr(instance, "config_name", None)
    if name is None:
        raise DBOSException(
            f"An instance of {type(instance).__qualname__} does not have `config_name` set: set "
            "it before the instance is registered and its workflows are called."
        )
    return validation.config_name(name)
