"""The configuration: what users write, checked once and frozen as `Settings`."""

from dbos.config.client import client_settings
from dbos.config.connections import PoolSettings
from dbos.config.database_url import DatabaseAddress, parse_database_url
from dbos.config.declaration import DBOSConfig, FailoverConfig
from dbos.config.settings import (
    Environment,
    Retention,
    Settings,
    TelemetrySettings,
    application_name,
    settings_from,
)

__all__ = [
    "DBOSConfig",
    "DatabaseAddress",
    "Environment",
    "FailoverConfig",
    "PoolSettings",
    "Retention",
    "Settings",
    "TelemetrySettings",
    "application_name",
    "client_settings",
    "parse_database_url",
    "settings_from",
]
