"""The life of the facade: creation, launch, destruction, and the reset before launch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dbos.api.assembly import Instance, LaunchedEngine
from dbos.api.slot import SLOT
from dbos.config import DBOSConfig, Environment, parse_database_url, settings_from
from dbos.errors import DBOSException, DBOSUsageError
from dbos.storage.open import reset
from dbos.telemetry import log

F = TypeVar("F", bound=Callable[..., Any])


def create(
    config: DBOSConfig,
    make_facade: Callable[[], object],
    frameworks: Mapping[str, object | None],
) -> object:
    """Check a configuration and make it the process's instance, unless there is one; its facade.

    `frameworks` are the web applications to integrate with, by the names of their frameworks.
    """
    if SLOT.instance is not None:
        return SLOT.instance.facade
    settings = settings_from(config)
    telemetry = settings.telemetry
    log.set_up(telemetry.log_level, telemetry.console_log_level, telemetry.otlp_log_level)
    log.keys_ignored(settings.ignored_keys)
    for framework, app in frameworks.items():
        if app is not None:
            integrate(framework, app)
    SLOT.instance = Instance(settings, make_facade())
    return SLOT.instance.facade


def launch() -> None:
    """Open the database, bring its schema up to date, and start what runs in the background.

    When this returns, workflows can be called, and those that a dead process left behind are being
    recovered. Processes that launch at the same instant on an empty database all succeed. If an
    event loop runs in the calling thread, it becomes the main loop for background async workflows.

    Without an instance, or when launched already: a warning, and no effect. A failed launch is
    undone completely and may be tried again.

    Raises:
        DBOSDatabaseError: the database cannot be reached, or refuses us.
        DBOSInitializationError: the schema is missing, behind or foreign.
    """
    instance = SLOT.instance
    if instance is None:
        log.launch_without_instance()
        return
    if instance.engine is not None:
        log.already_launched()
        return
    try:
        engine = LaunchedEngine(instance.settings, SLOT.registry)
        engine.launch()
    except BaseException as error:
        log.launch_failed(error)
        raise
    instance.engine = engine
    log.launched()


def serve_on_running_loop() -> None:
    """Launch unless launched, and make the loop that runs here the main loop."""
    instance = SLOT.instance
    if instance is None or instance.engine is None:
        launch()
    else:
        instance.engine.adopt_running_loop()


def integrate(framework: str, app: object) -> None:
    """Put our middleware into a web application. Only here is its framework imported."""
    importlib.import_module(f"dbos.integrations.{framework}").integrate(app)


def alert_handler(handler: F) -> F:
    """Declare `handler(name, message, metadata)`, once and before launch. Nothing calls it yet.

    Raises:
        DBOSException: a handler is "already defined", or `DBOS` is launched.
    """
    if SLOT.registry.alert_handler is not None:
        raise DBOSException("An alert handler is already defined: declare one for the process.")
    if SLOT.instance is not None and SLOT.instance.engine is not None:
        raise DBOSException(
            "The alert handler was declared after DBOS.launch(): declare it before the launch."
        )
    SLOT.registry.alert_handler = handler
    return handler


def destroy(*, destroy_registry: bool = False, workflow_completion_timeout_sec: int = 0) -> None:
    """Stop everything, give the lease back and forget the instance. Safe twice and without one.

    Runs that are still unfinished can be claimed by other processes at once, or by this one after
    its next launch. A thread that is still inside a step goes on with that code, but records
    nothing more.

    Args:
        destroy_registry: also forget all decorated functions.
        workflow_completion_timeout_sec: how long to wait for background workflows, in seconds.
    """
    instance, SLOT.instance = SLOT.instance, None
    if instance is not None:
        if instance.engine is not None:
            instance.engine.close(workflow_completion_timeout_sec)
        log.shut_down()
    SLOT.registry.listened = None
    if destroy_registry:
        SLOT.registry.clear()


def reset_system_database(
    *, system_database_url: str | None = None, schema: str | None = None, truncate: bool = False
) -> None:
    """Remove everything we own in the system database, and nothing else. Before launch only.

    The database, the SQLite file and the user's own tables stay. A missing database is fine.

    Args:
        system_database_url: default: that of the configuration.
        schema: default: that of the configuration, else "dbos".
        truncate: only empty our tables.

    Raises:
        DBOSUsageError: called after launch.
    """
    instance = SLOT.instance
    if instance is not None and instance.engine is not None:
        raise DBOSUsageError(
            "DBOS.reset_system_database() was called after DBOS.launch(): "
            "call DBOS.destroy() first."
        )
    if system_database_url is not None:
        address = parse_database_url(system_database_url, "system_database_url")
    elif instance is not None:
        address = instance.settings.system_database
    else:
        log.reset_without_instance()
        return
    configured = instance.settings.schema if instance is not None else "dbos"
    reset(address, schema=schema or configured, truncate=truncate)


def application_version() -> str:
    """The version of this build; "" before launch unless the configuration sets it."""
    instance = SLOT.instance
    if instance is None:
        return Environment.read().application_version or ""
    if instance.engine is None:
        return instance.settings.explicit_version or ""
    return instance.engine.engine.identity.application_version


def executor_id() -> str:
    """The display label of this process; many processes may share it."""
    if SLOT.instance is None:
        return Environment.read().executor_id or "local"
    return SLOT.instance.settings.executor_id


def incarnation_id() -> str | None:
    """The identity of the launched engine, new at each launch; None when not launched."""
    instance = SLOT.instance
    if instance is None or instance.engine is None:
        return None
    return instance.engine.engine.identity.incarnation_id
