"""Tools for testing workflows: explore what every possible crash would leave behind."""

from dbos.testing.crash import explore_crashes
from dbos.testing.report import (
    CrashViolations,
    Effect,
    Ending,
    Moment,
    Outcome,
    Point,
    Report,
    Violation,
)

__all__ = [
    "CrashViolations",
    "Effect",
    "Ending",
    "Moment",
    "Outcome",
    "Point",
    "Report",
    "Violation",
    "explore_crashes",
]
