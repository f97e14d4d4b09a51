"""The statuses of a run and the moves between them, as data.

Theory of operation. A run is born ENQUEUED, DELAYED or PENDING. Only a claim makes it PENDING, and
only the holder of the claim may write its outcome. Cancel and dead-lettering end a run from
outside; both can be undone by resume, while SUCCESS and ERROR are final for everything but rewind.
An event that is not in the table for a status leaves a run of that status as it is.

Two rules need more than the status and are therefore not in the table: resume leaves a PENDING run
alone while its owner lives, and every write of an owner also needs its claim to be the current one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

Status = Literal[
    "ENQUEUED",
    "DELAYED",
    "PENDING",
    "SUCCESS",
    "ERROR",
    "CANCELLED",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED",
]

Event = Literal[
    "delay_ends",
    "claim",
    "return_claim",
    "take_over",
    "succeed",
    "fail",
    "cancel",
    "dead_letter",
    "resume",
    "rewind",
]

ENQUEUED: Final = "ENQUEUED"
DELAYED: Final = "DELAYED"
PENDING: Final = "PENDING"
SUCCESS: Final = "SUCCESS"
ERROR: Final = "ERROR"
CANCELLED: Final = "CANCELLED"
DEAD_LETTERED: Final = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"

ACTIVE: Final[frozenset[str]] = frozenset({ENQUEUED, DELAYED, PENDING})
"""Not yet ended: such a run will be worked on, or is."""

FINAL: Final[frozenset[str]] = frozenset({SUCCESS, ERROR})
"""Ended with an outcome of its own. Cancel and resume leave it alone."""

TERMINAL: Final[frozenset[str]] = FINAL | {CANCELLED, DEAD_LETTERED}
"""Ended: nothing happens to such a run unless somebody asks."""

ALL: Final[frozenset[str]] = ACTIVE | TERMINAL

TRANSITIONS: Final[Mapping[Event, Mapping[Status, Status]]] = MappingProxyType(
    {
        "delay_ends": {DELAYED: ENQUEUED},
        "claim": {ENQUEUED: PENDING},
        "return_claim": {PENDING: ENQUEUED},
        "take_over": {PENDING: ENQUEUED},
        "succeed": {PENDING: SUCCESS},
        # A queued run fails before it starts when its stored input can never be used.
        "fail": {PENDING: ERROR, ENQUEUED: ERROR},
        "cancel": {
            ENQUEUED: CANCELLED,
            DELAYED: CANCELLED,
            PENDING: CANCELLED,
            CANCELLED: CANCELLED,
            DEAD_LETTERED: CANCELLED,
        },
        "dead_letter": {ENQUEUED: DEAD_LETTERED, PENDING: DEAD_LETTERED},
        "resume": {
            ENQUEUED: ENQUEUED,
            DELAYED: ENQUEUED,
            PENDING: ENQUEUED,
            CANCELLED: ENQUEUED,
            DEAD_LETTERED: ENQUEUED,
        },
        "rewind": {
            SUCCESS: ENQUEUED,
            ERROR: ENQUEUED,
            CANCELLED: ENQUEUED,
            DEAD_LETTERED: ENQUEUED,
        },
    }
)
"""The status an event leads to, by the status before it."""


def after(event: Event, status: Status) -> Status | None:
    """The status that the event leads to, or None if it does not concern a run of this status."""
    return TRANSITIONS[event].get(status)
