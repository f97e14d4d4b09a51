"""The process's registry of decorated functions, by name."""

from __future__ import annotations

import hashlib
import inspect
import io
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from dbos.engine.classes import REGISTRATION, Classes
from dbos.errors import DBOSConflictingRegistrationError, DBOSException
from dbos.serialization.codec import WorkflowSerializationFormat
from dbos.storage.queue_limits import QueueLimits
from dbos.telemetry import log

Kind = Literal["workflow", "step", "transaction"]

TEMPORARY_PREFIX = "<temp>."


@dataclass(slots=True, eq=False)
class Registration:
    """A decorated function: what to call, and how it wants to be run."""

    name: str
    kind: Kind
    function: Callable[..., Any]
    is_async: bool
    max_recovery_attempts: int | None = 100
    serialization: WorkflowSerializationFormat | None = None
    validate_args: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None = None
    options: Any = None
    """The step's policy; None for a workflow."""
    any_version: bool = False
    """Whether a run of it that another version began may go on here."""
    roles: tuple[str, ...] | None = None
    """The roles of which a caller needs one; None: what its class says."""
    class_roles: tuple[str, ...] = ()
    """What the class says in whose body the function stands."""
    classes: Classes = field(default_factory=Classes)
    """Where its class and instance are looked up: those of the registry that it is in."""
    body: Callable[..., Any] = field(init=False)
    """What a run of it calls: a workflow's own function; for a step its wrapper, which records it.
    """

    def __post_init__(self) -> None:
        self.body = self.function

    @property
    def is_in_class(self) -> bool:
        """Whether the function stands in the body of a class, so that it may be a method."""
        outer, _, _ = getattr(self.function, "__qualname__", "").rpartition(".")
        return bool(outer) and not outer.endswith("<locals>")

    @property
    def run_name(self) -> str:
        """The name of a run of this function: steps and transactions run under a temporary name."""
        return self.name if self.kind == "workflow" else TEMPORARY_PREFIX + self.name


@dataclass(slots=True)
class Registry:
    """Decorated functions and declared queues. It belongs to the process and outlives engines."""

    classes: Classes = field(default_factory=Classes)
    alert_handler: Callable[..., Any] | None = None

    _by_name: dict[str, Registration] = field(default_factory=dict[str, Registration])
    scheduled: dict[str, str] = field(default_factory=dict[str, str])
    """Cron expressions of `@DBOS.scheduled`, by registered function name."""
    _hashes: dict[Callable[..., Any], str | None] = field(
        default_factory=dict[Callable[..., Any], "str | None"]
    )
    queues: dict[str, QueueLimits] = field(default_factory=dict[str, QueueLimits])
    """The queues that this process declares."""
    listened: frozenset[str] | None = None
    """The only queues to serve; None for all. The internal ones are served in any case."""

    def add(self, registration: Registration) -> None:
        """Register a function; the last one of a name and kind wins."""
        known = self._by_name.get(registration.name)
        if known is not None and known.kind != registration.kind:
            raise DBOSConflictingRegistrationError(registration.name)
        if known is not None:
            log.duplicate_registration(registration.name)
        registration.classes = self.classes
        self._by_name[registration.name] = registration

    def named(self, name: str) -> Registration | None:
        """The function of a registered name, of whatever kind."""
        return self._by_name.get(name)

    def find(self, run_name: str) -> Registration | None:
        """The function that a run of this name calls, steps under their temporary name included."""
        name = run_name.removeprefix(TEMPORARY_PREFIX)
        found = self._by_name.get(name)
        if found is None or found.run_name != run_name:
            return None
        return found

    def all(self) -> Iterator[Registration]:
        return iter(list(self._by_name.values()))

    def instances(self) -> list[tuple[str, str]]:
        """Class and config name of every registered instance."""
        return self.classes.instances()

    def declare_queue(self, limits: QueueLimits) -> None:
        """Declare a queue of this process; once for each name."""
        if self.queues.setdefault(limits.name, limits) is not limits:
            raise DBOSException(
                f"Queue {limits.name} has already been declared: declare each queue once, and use "
                "that object everywhere."
            )

    def declared_queues(self) -> list[QueueLimits]:
        return list(self.queues.values())

    def listens_to(self, queue: str) -> bool:
        """Whether this process serves a queue of this name."""
        return self.listened is None or queue in self.listened or queue.startswith("_dbos_")

    def clear(self) -> None:
        self._by_name.clear()
        self.classes.clear()
        self.alert_handler = None
        self.scheduled.clear()
        self._hashes.clear()
        self.queues.clear()
        self.listened = None

    def code_hash(self, registration: Registration) -> str | None:
        """Hash of the function's own source (contract, core 6.4); None if it is not readable."""
        function = registration.function
        if function not in self._hashes:
            self._hashes[function] = source_hash(function)
        return self._hashes[function]

    def computed_version(self, app_name: str, package_version: str) -> str | None:
        """The application version of this code (contract, core 1.5); None without source."""
        parts = [app_name, package_version]
        for registration in sorted(self._by_name.values(), key=lambda known: known.name):
            if registration.kind == "workflow":
                own = self.code_hash(registration)
                if own is None:
                    return None
                parts.append(f"{registration.name}={own}")
            else:
                parts.append(registration.name)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def registration_of(function: Callable[..., Any]) -> Registration | None:
    """What a decorated function, or a bound method of one, is registered as."""
    found: Registration | None = getattr(function, REGISTRATION, None)
    return found


def source_hash(function: Callable[..., Any]) -> str | None:
    """32 hex digits over the text of a function, without comments, blank lines and outer
    indentation.
    """
    try:
        text = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
        normal = "\n".join(_meaningful_lines(text))
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return None
    return hashlib.sha256(normal.encode()).hexdigest()[:32]


def _meaningful_lines(text: str) -> Iterator[str]:
    """Source lines without comments and blank lines; the lines inside a string stay as they are.

    Only the positions of tokens are used: their division differs between Python's minor versions.
    """
    lines = text.splitlines()
    inside_string: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
        elif token.start[0] != token.end[0]:
            inside_string.update(range(token.start[0], token.end[0]))
    for row, line in enumerate(lines, start=1):
        if row in inside_string:
            yield line
        elif line.strip():
            yield line.rstrip()
