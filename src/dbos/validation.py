"""The rules for values that users pass, checked at the edge with one verdict for both databases.

Each function checks one kind of value and returns it in the form that is stored: exact `str`, `int`
and `float`, never a subclass. A refusal is a `DBOSInvalidInputError` that names the parameter, what
is wrong and what to do. It shows numbers and ids, shortened, and never a payload.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from numbers import Integral, Number
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar, cast

from dbos.errors import DBOSException, DBOSInvalidInputError

NULL_TOPIC = "__null__topic__"
"""The stored form of the topic None."""

STREAM_CLOSED = "__DBOS_STREAM_CLOSED__"
"""The stored form of the end of a stream."""

RESERVED_QUEUE_PREFIX = "_dbos_"
RESERVED_STEP_PREFIX = "DBOS."

ALWAYS_FITTING_CHARACTERS = 1000
# A PostgreSQL index row holds about 2,700 bytes, and our primary keys are pairs of an id and a key:
# two texts of this size fit side by side even where they do not compress.
LONGEST_BYTES = 1300

NO_KEYS: Final[Mapping[str, Any]] = MappingProxyType({})
HUNDRED_YEARS_S = 100 * 365.25 * 86400
END_OF_TIME_MS = 253_402_300_799_999
LARGEST_INTEGER = 2**31 - 1
LARGEST_BIGINT = 2**63 - 1
SHORTEST_POLL_S = 0.001

# JSON text escapes NUL always, and a real backslash as two, so an odd one is the escape.
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

APPLICATION_NAME: Final = re.compile(r"[a-z0-9-_]{3,256}")

QueueConflictPolicy = Literal["update_if_latest_version", "always_update", "never_update"]

_Choice = TypeVar("_Choice", bound=str)


def identifier(value: object, name: str) -> str:
    """An id, key or name: text that is neither empty nor only white space."""
    # The fast lane: nearly every id is short, printable ASCII.
    if (
        type(value) is str
        and len(value) <= ALWAYS_FITTING_CHARACTERS
        and value.isascii()
        and value.isprintable()
        and value
        and not value.isspace()
    ):
        return value
    checked = label(value, name)
    if not checked or checked.isspace():
        raise DBOSInvalidInputError(f"{name} must not be empty or only white space")
    return checked


def optional_identifier(value: object, name: str) -> str | None:
    """An id, key or name, or None."""
    return None if value is None else identifier(value, name)


def config_name(value: object) -> str:
    """The name of a configured instance: any text that every database can store."""
    text = str(value)
    for start in range(0, len(text), ALWAYS_FITTING_CHARACTERS):
        label(text[start : start + ALWAYS_FITTING_CHARACTERS], "config_name")
    return text


def label(value: object, name: str) -> str:
    """Text that may be empty, such as a user or a role."""
    if not isinstance(value, str):
        raise DBOSInvalidInputError(f"{name} must be a str, not {type(value).__name__}")
    text = str.__str__(value)
    if "\0" in text:
        raise DBOSInvalidInputError(
            f"{name} must not contain a NUL character, which PostgreSQL cannot store; remove it"
        )
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise DBOSInvalidInputError(
            f"{name} must not contain lone surrogates, which no database can store; "
            "decode the text it came from with the right encoding"
        ) from None
    if len(text) > ALWAYS_FITTING_CHARACTERS and size > LONGEST_BYTES:
        raise DBOSInvalidInputError(
            f"{name} is too long to be indexed: {len(text)} characters, {size} bytes; "
            f"use at most {ALWAYS_FITTING_CHARACTERS} characters"
        )
    return text


def optional_label(value: object, name: str) -> str | None:
    """Text that may be empty, or None."""
    return None if value is None else label(value, name)


def roles(value: object, name: str = "roles") -> list[str] | None:
    """A list of role names, or None."""
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise DBOSInvalidInputError(f"{name} must be a list of str, not {type(value).__name__}")
    return [label(role, name) for role in cast("Iterable[object]", value)]


def filter_values(value: object, name: str) -> list[str] | None:
    """The accepted values of a list filter given as one str or several; None for no filter."""
    if value is None:
        return None
    if isinstance(value, str):
        return [label(value, name)]
    if not isinstance(value, Iterable):
        raise DBOSInvalidInputError(
            f"{name} must be a str or a list of str, not {type(value).__name__}"
        )
    return [label(item, name) for item in cast("Iterable[object]", value)] or None


def workflow_id(value: object, name: str = "workflow_id") -> str:
    """The id of a workflow."""
    if isinstance(value, str) and (not value or value.isspace()):
        raise DBOSInvalidInputError("workflow IDs must be non-empty")
    return identifier(value, name)


def workflow_ids(value: object) -> list[str]:
    """Several ids of workflows, in the order given."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise DBOSInvalidInputError(
            f"workflow_ids must be a list of ids, not {type(value).__name__}: put one id in a list"
        )
    return [workflow_id(item) for item in cast("Iterable[object]", value)]


def topic(value: object) -> str | None:
    """The topic of a message; None is a topic of its own."""
    if isinstance(value, str) and value == NULL_TOPIC:
        raise DBOSInvalidInputError(
            f"topic {NULL_TOPIC} is reserved; pass topic=None to use no topic"
        )
    return optional_identifier(value, "topic")


def application_name(value: object) -> str:
    """The name of an application that is to own something."""
    if not isinstance(value, str) or APPLICATION_NAME.fullmatch(value) is None:
        raise DBOSException(
            "Invalid application name: it must have 3 to 256 characters, all of them a-z, 0-9, "
            "'-' or '_'"
        )
    return value


def queue_name(value: object) -> str:
    """The name of a queue that a user declares."""
    checked = identifier(value, "queue name")
    if checked.startswith(RESERVED_QUEUE_PREFIX):
        raise DBOSInvalidInputError(
            f"queue name {shown(checked)} must not start with {RESERVED_QUEUE_PREFIX}, "
            "which is reserved; rename the queue"
        )
    return checked


def step_name(value: object) -> str:
    """The name a step is recorded under."""
    checked = identifier(value, "step name")
    if checked.startswith(RESERVED_STEP_PREFIX):
        raise DBOSException(
            f"step name {shown(checked)} must not start with {RESERVED_STEP_PREFIX}, "
            "which is reserved for recorded operations; rename the step"
        )
    return checked


def stream_value(value: object) -> None:
    """A value to write to a stream: anything but the mark of its end."""
    if isinstance(value, str) and value == STREAM_CLOSED:
        raise DBOSInvalidInputError(
            f"the value {STREAM_CLOSED} is reserved; call close_stream() to end a stream"
        )


def finite_number(value: object, name: str) -> float:
    """A real number that is neither NaN nor infinite."""
    if type(value) is not float and type(value) is not int:
        if isinstance(value, bool) or not isinstance(value, Number):
            raise DBOSInvalidInputError(f"{name} must be a number, not {type(value).__name__}")
        # Number is nominal: Decimal, Fraction and the scalars of NumPy are registered with it.
        value = cast("float", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        raise DBOSInvalidInputError(
            f"{name} must be a real number, not {type(value).__name__}"
        ) from None
    if not math.isfinite(number):
        raise DBOSInvalidInputError(f"{name} must be finite, not {number}")
    return number


def whole_number(value: object, name: str, least: int, most: int = LARGEST_INTEGER) -> int:
    """An integer between two bounds, both allowed."""
    if type(value) is not int:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise DBOSInvalidInputError(f"{name} must be an int, not {type(value).__name__}")
        value = int(value)
    if value < least:
        raise DBOSInvalidInputError(f"{name} must be at least {least}")
    if value > most:
        raise DBOSInvalidInputError(f"{name} must be at most {most}")
    return value


def duration(value: object, name: str) -> float:
    """A number of seconds that is not negative."""
    seconds = _bounded_seconds(value, name)
    if seconds < 0:
        raise DBOSInvalidInputError(f"{name} must be >= 0 seconds, not {seconds:g}")
    return seconds


def positive_timeout(value: object, name: str = "timeout") -> float:
    """The timeout of a workflow or of a fork."""
    seconds = _bounded_seconds(value, name)
    if seconds <= 0:
        raise DBOSInvalidInputError(
            f"Timeouts must be positive: {name} is {seconds:g}; use None for no timeout"
        )
    return seconds


def step_timeout(value: object) -> float | None:
    """The timeout of one attempt of a step, or None."""
    if value is None:
        return None
    try:
        seconds = _bounded_seconds(value, "timeout_seconds")
    except DBOSInvalidInputError as error:
        raise DBOSInvalidInputError(
            f"timeout_seconds must be positive and finite: {error.message}"
        ) from None
    if seconds <= 0:
        raise DBOSInvalidInputError(
            f"timeout_seconds must be positive and finite, not {seconds:g}; use None for no timeout"
        )
    return seconds


def waiting_limit(value: object, name: str = "timeout_seconds") -> float:
    """How long a call may wait, in seconds; 0 looks once."""
    seconds = _bounded_seconds(value, name)
    if seconds < 0:
        raise DBOSInvalidInputError(
            f"{name} must not be negative, but is {seconds:g}; 0 looks once without waiting"
        )
    return seconds


def optional_waiting_limit(value: object, name: str = "timeout_seconds") -> float | None:
    """How long a call may wait, in seconds, or None for ever."""
    return None if value is None else waiting_limit(value, name)


def polling_interval(value: object, name: str = "polling_interval_sec") -> float:
    """The period of a fallback look, in seconds."""
    seconds = _bounded_seconds(value, name)
    if seconds < SHORTEST_POLL_S:
        raise DBOSInvalidInputError(
            f"{name} must be at least {SHORTEST_POLL_S} seconds, not {seconds:g}"
        )
    return seconds


def sleep_seconds(value: object) -> float:
    """The length of a sleep; zero and below return at once."""
    return _bounded_seconds(value, "seconds")


def retry_options(
    max_attempts: object, interval_seconds: object, backoff_rate: object
) -> tuple[int, float, float]:
    """How a step is retried: attempts in all, the first wait in seconds, and its growth."""
    attempts = whole_number(max_attempts, "max_attempts", 1)
    interval = duration(interval_seconds, "interval_seconds")
    rate = finite_number(backoff_rate, "backoff_rate")
    if rate <= 0:
        raise DBOSInvalidInputError(f"backoff_rate must be > 0, not {rate:g}")
    return attempts, interval, rate


def page_limit(value: object, name: str = "limit") -> int | None:
    """The `limit` or `offset` of a listing. None and 0 both mean unset."""
    if value is None:
        return None
    return whole_number(value, name, 0, LARGEST_BIGINT) or None


def start_step(value: object, least: int = 0) -> int:
    """The step a fork (`least` 0) or a rewind (`least` 1) starts from."""
    # A step beyond the history is allowed and means its end, however far.
    return min(whole_number(value, "start_step", least, LARGEST_BIGINT), LARGEST_INTEGER)


def stream_offset(value: object) -> int:
    """A position in a stream, counted from 0."""
    return min(whole_number(value, "offset", 0, LARGEST_BIGINT), LARGEST_INTEGER)


def priority(value: object) -> int | None:
    """The priority of a queued workflow, or None for unset."""
    if value is None:
        return None
    try:
        return whole_number(value, "priority", 1)
    except DBOSInvalidInputError as error:
        raise DBOSInvalidInputError(
            f"Invalid priority: {error.message}; use 1 to {LARGEST_INTEGER}, 1 being served first"
        ) from None


def workflow_delay(
    delay_seconds: object, delay_until_epoch_ms: object
) -> tuple[float | None, int | None]:
    """A delay given either as seconds from now or as an instant: exactly one of the two."""
    if delay_seconds is not None and delay_until_epoch_ms is not None:
        raise DBOSInvalidInputError("Specify delay_seconds or delay_until_epoch_ms, not both")
    if delay_seconds is not None:
        return duration(delay_seconds, "delay_seconds"), None
    if delay_until_epoch_ms is not None:
        return None, epoch_ms(delay_until_epoch_ms, "delay_until_epoch_ms")
    raise DBOSInvalidInputError("Must specify either delay_seconds or delay_until_epoch_ms")


def epoch_ms(value: object, name: str) -> int:
    """An instant in milliseconds since the Unix epoch, up to the year 9999."""
    # Callers of the reference pass `time.time() * 1000`, a float, here.
    instant = round(finite_number(value, name))
    if instant < 0:
        raise DBOSInvalidInputError(f"{name} must be >= 0")
    return whole_number(instant, name, 0, END_OF_TIME_MS)


def attributes(value: object) -> str | None:
    """The attributes of a workflow as the JSON text to store, or None."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise DBOSInvalidInputError(f"attributes must be a dict, not {type(value).__name__}")
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = type(error).__name__
        raise DBOSInvalidInputError(
            f"attributes must be JSON-serializable ({reason}); use plain data without NaN, "
            "infinities, cycles or lone surrogates"
        ) from None
    if _ESCAPED_NUL.search(text):
        raise DBOSInvalidInputError(
            "attributes must be JSON-serializable on PostgreSQL too, which cannot store NUL "
            "characters; remove them"
        )
    return text


def duplication_policy(value: object) -> Literal["reject", "return-existing"]:
    """What to do when a deduplication id is held; None is the default."""
    policies: tuple[Literal["reject", "return-existing"], ...] = ("reject", "return-existing")
    return _one_of(value, policies, "duplication_policy")


def conflict_policy(value: object) -> QueueConflictPolicy:
    """What registering a queue does when the queue is known."""
    policies: tuple[QueueConflictPolicy, ...] = (
        "update_if_latest_version",
        "always_update",
        "never_update",
    )
    return _one_of(value, policies, "on_conflict", none_is_first=False)


def workflow_id_reuse_policy(value: object) -> Literal["return-existing", "reject"]:
    """What to do when a workflow id is in use; None is the default."""
    policies: tuple[Literal["return-existing", "reject"], ...] = ("return-existing", "reject")
    return _one_of(value, policies, "workflow_id_reuse_policy")


def function(value: object, name: str) -> None:
    """Something to call."""
    if not callable(value):
        raise DBOSInvalidInputError(f"{name} must be a function, not {type(value).__name__}")


def mapping(value: object, name: str) -> None:
    """A dict of options."""
    if not isinstance(value, dict):
        raise DBOSInvalidInputError(f"{name} must be a dict, not {type(value).__name__}")


def parentheses(value: object, usage: str) -> None:
    """What a decorator is called with; a function or class means that it was not called."""
    if callable(value) or isinstance(value, staticmethod | classmethod):
        raise DBOSInvalidInputError(f"Parentheses are required: write {usage}")


def only_keywords(value: object, usage: str) -> None:
    """What came in front of a decorator's keywords: nothing may."""
    parentheses(value, usage)
    if value is not None:
        raise DBOSInvalidInputError(f"{usage} takes keyword arguments only, such as name=...")


def flag(value: object, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise DBOSInvalidInputError(f"{name} must be a bool, not {type(value).__name__}")
    return value


def isolation_level(value: Any) -> Literal["SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"]:
    """The isolation level of a transaction."""
    parentheses(value, "@DBOS.transaction()")
    levels: tuple[Literal["SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"], ...] = (
        "SERIALIZABLE",
        "REPEATABLE READ",
        "READ COMMITTED",
    )
    if value not in levels:
        raise DBOSInvalidInputError(f"isolation_level must be one of {', '.join(levels)}")
    return levels[levels.index(value)]


def shown(text: str) -> str:
    """An id as it may appear in a message or a log line: on one line and not too long."""
    short = text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"
    return short if short.isprintable() else ascii(short)[1:-1]


def _bounded_seconds(value: object, name: str) -> float:
    seconds = finite_number(value, name)
    if abs(seconds) > HUNDRED_YEARS_S:
        raise DBOSInvalidInputError(
            f"{name} must be at most 100 years, which is {HUNDRED_YEARS_S:.0f} s"
        )
    return seconds


def _one_of(
    value: Any, choices: tuple[_Choice, ...], name: str, *, none_is_first: bool = True
) -> _Choice:
    """The chosen one; the first where nothing was chosen, if that may be left open."""
    if value is None and none_is_first:
        return choices[0]
    for choice in choices:
        if value == choice:
            return choice
    raise DBOSInvalidInputError(f"Invalid {name}: use {' or '.join(map(repr, choices))}")


def only_keys(
    given: Mapping[str, Any],
    known: Mapping[str, Any],
    what: str,
    ignored: Mapping[str, Any] = NO_KEYS,
) -> None:
    """Refuse keys that are not meant: passed over, a misspelled one would be without effect."""
    for key in given:
        if key not in known and key not in ignored:
            raise DBOSInvalidInputError(
                f"{what} has no key {shown(str(key))}; there are {', '.join(sorted(known))}"
            )
