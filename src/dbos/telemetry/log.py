"""The logger `dbos`: its set-up, and the wording of every line the engine writes.

No line holds SQL, workflow arguments, results or passwords. Of our own errors the text is shown,
which keeps the same promise; of all others only the type.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, TextIO

from dbos.errors import DBOSBaseException, DBOSException
from dbos.validation import shown

LOGGER_NAME = "dbos"
CONSOLE_HANDLER_NAME = "dbos-console"
CONSOLE_FORMAT = "%(asctime)s [%(levelname)8s] (%(name)s:%(filename)s:%(lineno)s) %(message)s"

logger: Final = logging.getLogger(LOGGER_NAME)

# What operations are called in the log, where that is not the name they are recorded under.
_OPERATIONS: Mapping[str, str] = MappingProxyType(
    {
        "DBOS.sleep": "sleep",
        "DBOS.recv": "recv",
        "DBOS.getEvent": "get_event",
        "DBOS.setEvent": "set_event",
    }
)

# The components that cannot reach the database now. The logger is the process's, and so is this.
_outages: dict[str, object] = {}


class ConsoleHandler(logging.StreamHandler[TextIO]):
    """Writes to the standard error of the moment, which programs and tests replace."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.set_name(CONSOLE_HANDLER_NAME)
        self.setFormatter(logging.Formatter(CONSOLE_FORMAT))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def set_up(log_level: int, console_level: int | None = None, otlp_level: int | None = None) -> None:
    """Set the levels of the logger and of its console output, adding that one handler if absent.

    A sink that wants more than `log_level` gets it: the logger lets pass what any sink asks for.
    """
    console_level = log_level if console_level is None else console_level
    logger.setLevel(min(log_level, console_level, log_level if otlp_level is None else otlp_level))
    logger.propagate = False
    console = next((h for h in logger.handlers if h.name == CONSOLE_HANDLER_NAME), None)
    if console is None:
        console = ConsoleHandler()
        logger.addHandler(console)
    console.setLevel(console_level)


# Life of the engine.


def launched() -> None:
    logger.info("DBOS launched!", stacklevel=2)


def already_launched() -> None:
    logger.warning("DBOS was already launched", stacklevel=2)


def launch_without_instance() -> None:
    logger.warning(
        "DBOS.launch() did nothing: no DBOS was created yet; call DBOS(config=...) first",
        stacklevel=2,
    )


def reset_without_instance() -> None:
    logger.warning(
        "DBOS.reset_system_database() did nothing: no DBOS was created yet; pass "
        "system_database_url or call DBOS(config=...) first",
        stacklevel=2,
    )


def launch_failed(error: BaseException) -> None:
    logger.error("DBOS failed to launch: %s", describe(error), stacklevel=2)


def shut_down() -> None:
    logger.info("DBOS successfully shut down", stacklevel=2)


def using_database(display: str) -> None:
    logger.info("Recording workflows in %s", display, stacklevel=2)


def keys_ignored(keys: Sequence[str]) -> None:
    """Conductor keys and the like: accepted, and without effect."""
    if keys:
        logger.info(
            "Ignoring %s: failover and management are built in and need no service",
            ", ".join(keys),
            stacklevel=2,
        )


def not_the_latest_version(version: str, latest: str | None) -> None:
    logger.warning(
        "This process runs version %s, but the latest one is %s; workflows without a version go to "
        "the latest. DBOS.set_latest_application_version() changes it",
        shown(version),
        shown(latest or "unknown"),
        stacklevel=2,
    )


def source_not_readable() -> None:
    logger.warning(
        "The source of the workflows cannot be read, so their version cannot be computed; "
        "set application_version to tell builds apart",
        stacklevel=2,
    )


def duplicate_registration(name: str) -> None:
    logger.warning(
        "Duplicate registration of function '%s'; the last one counts", name, stacklevel=2
    )


def instance_registered_late(class_name: str, config_name: str) -> None:
    logger.warning(
        "Instance '%s' of class '%s' was registered after DBOS.launch(): until then its workflows "
        "could not be recovered here; create it before the launch",
        shown(config_name),
        class_name,
        stacklevel=2,
    )


def admin_without_token() -> None:
    logger.warning(
        "The admin server only reads: set admin_token or DBOS_ADMIN_TOKEN to allow effects",
        stacklevel=2,
    )


def admin_port_taken(port: int) -> None:
    logger.warning("The admin server was not started: port %d cannot be bound", port, stacklevel=2)


# Operations.


def running_step(name: str) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("Running %s", _operation(name), stacklevel=2)


def replaying_step(name: str) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("Replaying %s", _operation(name), stacklevel=2)


def running_transaction(name: str) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("Running transaction, name: %s", name, stacklevel=2)


def replaying_transaction(name: str) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("Replaying transaction, name: %s", name, stacklevel=2)


def transaction_waits(error: BaseException) -> None:
    """A transaction met a lost connection, a full disk or the like, and will run again."""
    logger.warning(
        "A transaction was rolled back by a fault of its database (%s) and runs again",
        type(error).__name__,
        stacklevel=2,
    )


def transaction_under_a_loop(name: str) -> None:
    logger.warning(
        "Transaction %s blocks the event loop that runs in this thread; call it as "
        "`await asyncio.to_thread(...)`",
        shown(name),
        stacklevel=2,
    )


def already_run(name: str, workflow_id: str, status: str) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            "Workflow %s, name: %s, already run with status %s",
            shown(workflow_id),
            name,
            status,
            stacklevel=2,
        )


def step_attempt_failed(name: str, attempt: int, attempts: int, error: BaseException) -> None:
    logger.warning(
        "Step %s failed at attempt %d of %d with %s; it will be tried again",
        name,
        attempt,
        attempts,
        describe(error),
        stacklevel=2,
    )


def workflow_id_used_up(workflow_id: str) -> None:
    logger.warning(
        "The id %s of SetWorkflowID was taken by the first workflow of the block; this one gets "
        "a fresh id",
        shown(workflow_id),
        stacklevel=2,
    )


def other_queue(workflow_id: str, queue: str | None, asked: str | None) -> None:
    logger.warning(
        "Workflow %s already exists on %s and stays there; it was now asked for on %s",
        shown(workflow_id),
        _queue(queue),
        _queue(asked),
        stacklevel=2,
    )


def queue_unserved(name: str) -> None:
    logger.warning(
        "Queue %s is not served by any process; its workflows wait until one serves it",
        shown(name),
        stacklevel=2,
    )


def declared_and_registered(name: str) -> None:
    logger.warning(
        "Queue %s is declared here and registered in the database; the declaration counts in this "
        "process",
        shown(name),
        stacklevel=2,
    )


def blocking_under_a_loop(name: str, twin: str) -> None:
    logger.warning(
        "%s blocks the event loop that is running; use await %s(...) instead",
        name,
        twin,
        stacklevel=2,
    )


# Ends of runs that are not ordinary.


def execution_stopped(workflow_id: str, reason: str) -> None:
    logger.debug("Execution of workflow %s stopped: %s", shown(workflow_id), reason, stacklevel=2)


def outcome_dropped(workflow_id: str) -> None:
    logger.warning(
        "The outcome of workflow %s was dropped: it was cancelled or taken over meanwhile, and "
        "the recorded outcome counts",
        shown(workflow_id),
        stacklevel=2,
    )


def background_run_failed(workflow_id: str, error: BaseException) -> None:
    logger.error(
        "Workflow %s could not be carried on here: %s",
        shown(workflow_id),
        describe(error),
        stacklevel=2,
    )


def cannot_start(workflow_id: str, error: BaseException) -> None:
    logger.error(
        "Workflow %s cannot start and ends with %s",
        shown(workflow_id),
        describe(error),
        stacklevel=2,
    )


def given_back(workflow_id: str, reason: str, returns: int) -> None:
    level = logging.WARNING if returns == 1 else logging.DEBUG
    logger.log(
        level,
        "Workflow %s cannot start here and goes back to its queue: %s",
        shown(workflow_id),
        reason,
        stacklevel=2,
    )


def dead_lettered(error: BaseException) -> None:
    logger.error("%s", describe(error), stacklevel=2)


def stranded(name: str, version: str | None, reason: str) -> None:
    logger.warning(
        "Workflows named %s of version %s wait and no live process may run them (%s); start one "
        "that may, or resume or fork them under another version",
        shown(name),
        shown(version or "none"),
        reason,
        stacklevel=2,
    )


def replay_order_given_up() -> None:
    logger.warning(
        "A replayed operation waits for one that was recorded before it and is not asked for; "
        "going on without it. Check that the workflow is deterministic",
        stacklevel=2,
    )


def undecodable(workflow_id: str, fields: Sequence[str]) -> None:
    logger.warning(
        "Stored values of workflow %s cannot be decoded and are shown as stored: %s",
        shown(workflow_id),
        ", ".join(fields),
        stacklevel=2,
    )


# Faults of services and outages: one line each, however often they are met.


def ticks_skipped(schedule: str, count: int) -> None:
    logger.warning(
        "Schedule %s fell behind: %d ticks were skipped, and the newest one is run",
        shown(schedule),
        count,
        stacklevel=2,
    )


def schedule_unusable(schedule: str, reason: str) -> None:
    """Once for each state of a schedule that cannot be used."""
    logger.error(
        "Schedule %s cannot be used and does not fire until it changes: %s",
        shown(schedule),
        reason,
        stacklevel=2,
    )


def schedule_failed(schedule: str, reason: str) -> None:
    """Once for a row of failures; others fire meanwhile."""
    logger.error(
        "Schedule %s could not start the run of its tick and will try again: %s",
        shown(schedule),
        reason,
        stacklevel=2,
    )


def service_failed(name: str, failures: int, error: BaseException) -> None:
    """One ERROR for the first failure in a row; the rest is back-off."""
    level = logging.ERROR if failures == 1 else logging.DEBUG
    logger.log(
        level,
        "Service %s failed and will try again: %s (%s)",
        name,
        describe(error),
        _place(error),
        stacklevel=2,
    )


def database_unavailable(component: str, error: BaseException) -> None:
    """One ERROR at the beginning of an outage, as this component sees it."""
    mark = object()
    # `setdefault` is atomic: of several threads that meet the outage, one reports it.
    is_first = _outages.setdefault(component, mark) is mark
    logger.log(
        logging.ERROR if is_first else logging.DEBUG,
        "The database is unavailable to the %s, which waits for it: %s",
        component,
        describe(error),
        stacklevel=2,
    )


def database_available(component: str) -> None:
    """The end of an outage, if there was one. Cheap: it is called after every success."""
    if component in _outages and _outages.pop(component, None) is not None:
        logger.info("The database is available to the %s again", component, stacklevel=2)


def describe(error: BaseException) -> str:
    """An error as a line may show it: our own with its text, any other by its type."""
    if isinstance(error, DBOSException | DBOSBaseException):
        return str(error)
    return type(error).__qualname__


def _operation(name: str) -> str:
    if name.startswith("DBOS."):
        return _OPERATIONS.get(name, name)
    return f"step, name: {name}"


def _queue(name: str | None) -> str:
    return "no queue" if name is None else f"queue {shown(name)}"


def _place(error: BaseException) -> str:
    """Where an error was raised. Only code is shown, no values."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "raised elsewhere"
    return f"{trace.tb_frame.f_code.co_qualname}, line {trace.tb_lineno}"
