"""The configuration of one engine, complete and frozen, and how it is made from a `DBOSConfig`."""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from dbos.config.connections import PoolSettings, connection_options, pool_settings
from dbos.config.database_url import (
    DatabaseAddress,
    address_of_engine,
    default_sqlite_url,
    derived_system_address,
    parse_database_url,
)
from dbos.config.declaration import AttributeFormat, DBOSConfig, FailoverConfig, VersionPolicy
from dbos.config.reading import ConfigReader
from dbos.errors import DBOSException, DBOSInitializationError
from dbos.validation import APPLICATION_NAME

PATCHING_VERSION = "PATCHING_ENABLED"
DEFAULT_LABEL = "local"
DEFAULT_SCHEMA = "dbos"

_AGE = re.compile(r"(\d+(?:\.\d+)?)([dhms])")
_SECONDS_PER_UNIT = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_LONGEST_POSTGRES_NAME = 63
_SHORTEST_POLL_S = 0.001

# Keys that are accepted for the sake of programs written for a hosted service.
_IGNORED = (
    "conductor_key",
    "conductor_url",
    "conductor_executor_metadata",
    "transact_enterprise_key",
    "conductor_metadata_only_mode",
)
_KNOWN = frozenset(DBOSConfig.__annotations__)
_KNOWN_FAILOVER = frozenset(FailoverConfig.__annotations__)
_KNOWN_RETENTION = frozenset({"completed", "max_rows"})


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment variables the library reads."""

    application_version: str | None = None
    executor_id: str | None = None
    app_id: str = ""
    console_traces: bool = False
    admin_token: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> Environment:
        """The variables as they are now. An empty one counts as unset."""
        reader = ConfigReader(os.environ if variables is None else variables)
        return cls(
            application_version=reader.text("DBOS__APPVERSION"),
            executor_id=reader.text("DBOS__VMID"),
            app_id=reader.text("DBOS__APPID") or "",
            console_traces=(reader.text("DBOS__CONSOLE_TRACES") or "0").lower()
            not in ("0", "false", "no", "off"),
            admin_token=reader.text("DBOS_ADMIN_TOKEN"),
        )


@dataclass(frozen=True, slots=True)
class Retention:
    """What of the ended workflows is kept. None means no limit."""

    completed_s: float | None
    """The age after completion at which a workflow is deleted."""
    max_rows: int | None


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What is logged and exported. Endpoints may hold keys, so they are never shown."""

    log_level: int = logging.INFO
    console_log_level: int = logging.INFO
    otlp_log_level: int = logging.INFO
    otlp_enabled: bool = False
    traces_endpoints: tuple[str, ...] = field(default=(), repr=False)
    logs_endpoints: tuple[str, ...] = field(default=(), repr=False)
    metrics_endpoints: tuple[str, ...] = field(default=(), repr=False)
    attributes: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    attribute_format: AttributeFormat = "legacy"
    console_traces: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """A checked configuration. Its text shows no secret."""

    name: str
    system_database: DatabaseAddress
    application_database: DatabaseAddress | None
    """None: there is none. Equal to `system_database`: transactions run on that."""
    system_pool: PoolSettings = field(default_factory=PoolSettings)
    application_pool: PoolSettings = field(default_factory=PoolSettings)
    system_engine: object | None = field(default=None, repr=False)
    """The user's SQLAlchemy engine for the system database."""
    engine_options: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """What SQLAlchemy is given for the application database, `db_engine_kwargs` included."""
    polling_concurrency: int | None = 10
    schema: str = DEFAULT_SCHEMA
    run_migrations: bool = True
    use_listen_notify: bool = True
    notification_poll_s: float = 1.0
    notification_coalesce_s: float = 0.01
    kafka_poll_s: float = 1.0
    scheduler_poll_s: float = 30.0
    max_executor_threads: int | None = None
    serializer: object | None = field(default=None, repr=False)
    """The configured `Serializer`; None for the default."""
    explicit_version: str | None = None
    """The version, unless it is to be computed from the source."""
    executor_id: str = DEFAULT_LABEL
    app_id: str = ""
    patching: bool = False
    failover_enabled: bool = True
    lease_s: float = 15.0
    version_policy: VersionPolicy = "compatible"
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    retention: Retention | None = None
    admin_enabled: bool = False
    admin_port: int = 3001
    admin_token: str | None = field(default=None, repr=False)
    query_timeout_s: float | None = 30.0
    idle_transaction_timeout_s: float | None = 60.0
    ignored_keys: tuple[str, ...] = ()
    """Keys that were given and change nothing: for one INFO line."""

    @property
    def shares_database(self) -> bool:
        """Whether transactions run on the system database."""
        return self.application_database == self.system_database


@dataclass(frozen=True, slots=True)
class _Databases:
    system: DatabaseAddress
    application: DatabaseAddress | None
    engine: object | None = None


def settings_from(
    config: Mapping[str, object], variables: Mapping[str, str] | None = None
) -> Settings:
    """Check a configuration and freeze it. The mapping is read and never changed.

    `variables` stands for the environment, which is the process's own by default. Raises
    `DBOSInitializationError` for any value that cannot be used.
    """
    if not isinstance(config, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DBOSInitializationError(
            f"The configuration must be a dict, not {type(config).__name__}"
        )
    reader = ConfigReader(config)
    environment = Environment.read(variables)
    name = application_name(reader.get("name"))
    databases = _databases(reader, name)
    options = connection_options(reader)
    failover = reader.nested("failover")
    system_pool = pool_settings(options, databases.system, reader.whole("sys_db_pool_size", 1))
    if reader.get("sharding"):
        raise reader.refusal("sharding", "is not supported; remove it")
    settings = Settings(
        name=name,
        system_database=databases.system,
        application_database=databases.application,
        system_pool=system_pool,
        application_pool=pool_settings(options, databases.application or databases.system),
        system_engine=databases.engine,
        engine_options=options,
        polling_concurrency=_polling_concurrency(reader, system_pool),
        schema=_schema(reader),
        run_migrations=reader.switch("run_migrations", True),
        use_listen_notify=reader.switch("use_listen_notify", True),
        notification_poll_s=reader.seconds(
            "notification_listener_polling_interval_sec", 1.0, _SHORTEST_POLL_S
        ),
        notification_coalesce_s=reader.seconds("notification_coalesce_sec", 0.01, _SHORTEST_POLL_S),
        kafka_poll_s=reader.seconds("kafka_queue_polling_interval_sec", 1.0, _SHORTEST_POLL_S),
        scheduler_poll_s=_scheduler_poll_s(reader),
        max_executor_threads=reader.whole("max_executor_threads", 0) or None,
        serializer=_serializer(reader),
        explicit_version=_explicit_version(reader, environment),
        executor_id=reader.text("executor_id") or environment.executor_id or DEFAULT_LABEL,
        app_id=environment.app_id,
        patching=reader.get("enable_patching") is True,
        failover_enabled=failover.switch("enabled", True),
        lease_s=_lease_s(failover),
        version_policy=_version_policy(reader),
        telemetry=_telemetry(reader, environment),
        retention=_retention(reader),
        admin_enabled=reader.switch("run_admin_server", False),
        admin_port=_admin_port(reader),
        admin_token=reader.text("admin_token") or environment.admin_token,
        query_timeout_s=reader.limit_s("observability_query_timeout_sec", 30.0),
        idle_transaction_timeout_s=reader.limit_s("sys_db_idle_transaction_timeout_sec", 60.0),
        ignored_keys=_ignored(reader),
    )
    _report_unknown(reader.unknown(_KNOWN) + failover.unknown(_KNOWN_FAILOVER))
    return settings


def application_name(value: object) -> str:
    """The name of an application, if it is one."""
    if value is None or value == "":
        raise DBOSInitializationError(
            "Invalid app name: the configuration must specify an application name (key 'name')"
        )
    if not isinstance(value, str) or APPLICATION_NAME.fullmatch(value) is None:
        raise DBOSInitializationError(
            "Invalid app name: it must have 3 to 256 characters, all of them a-z, 0-9, '-' or '_'"
        )
    return value


def _databases(reader: ConfigReader, name: str) -> _Databases:
    """Which databases are used: the table of the documentation, row by row."""
    is_given, application_url = _application_url(reader)
    application = (
        parse_database_url(application_url, "application_database_url") if application_url else None
    )
    engine = reader.get("system_database_engine")
    system_url = reader.url("system_database_url")
    if engine is not None:
        system = _engine_address(engine)
    elif system_url is not None:
        system = parse_database_url(system_url, "system_database_url")
    elif application is not None:
        system = derived_system_address(application)
    else:
        system = parse_database_url(default_sqlite_url(name))
    return _Databases(system, application if is_given else system, engine)


def _application_url(reader: ConfigReader) -> tuple[bool, str | None]:
    """Whether the key of the application database is there, and its URL if it has one."""
    if reader.has("database_url"):
        warnings.warn(
            "The configuration key database_url is deprecated; use application_database_url",
            DeprecationWarning,
            stacklevel=5,
        )
        return True, reader.url("database_url")
    return reader.has("application_database_url"), reader.url("application_database_url")


def _engine_address(engine: object) -> DatabaseAddress:
    """The address of the user's SQLAlchemy engine, if it is one that we can use."""
    dialect = getattr(engine, "dialect", None)
    driver = getattr(dialect, "driver", None)
    if not isinstance(driver, str):
        raise DBOSInitializationError(
            "Configuration key system_database_engine must be a SQLAlchemy Engine, "
            f"not {type(engine).__name__}"
        )
    kinds: dict[str, Literal["sqlite", "postgres"]] = {"psycopg": "postgres", "pysqlite": "sqlite"}
    if driver not in kinds or getattr(dialect, "is_async", False):
        raise DBOSInitializationError(
            f"Configuration key system_database_engine uses the driver {driver}; create it with "
            "create_engine and postgresql+psycopg:// (psycopg 3) or sqlite://"
        )
    return address_of_engine(cast("Any", engine).url, kinds[driver])


def _polling_concurrency(reader: ConfigReader, pool: PoolSettings) -> int | None:
    given = reader.whole("sys_db_polling_concurrency", -(2**31))
    if given is None:
        return max(1, pool.size // 2)
    return given if given > 0 else None


def _schema(reader: ConfigReader) -> str:
    schema = reader.text("dbos_system_schema") or DEFAULT_SCHEMA
    if len(schema.encode()) > _LONGEST_POSTGRES_NAME:
        raise reader.refusal(
            "dbos_system_schema", f"must have at most {_LONGEST_POSTGRES_NAME} bytes"
        )
    return schema


def _scheduler_poll_s(reader: ConfigReader) -> float:
    seconds = reader.seconds("scheduler_polling_interval_sec", 30.0, 0.0)
    if seconds <= 0:
        raise reader.refusal("scheduler_polling_interval_sec", "must be finite and above 0")
    return seconds


def _serializer(reader: ConfigReader) -> object | None:
    serializer = reader.get("serializer")
    if serializer is None:
        return None
    methods = ("serialize", "deserialize", "name")
    is_class = isinstance(serializer, type)
    if is_class or not all(callable(getattr(serializer, name, None)) for name in methods):
        raise reader.refusal(
            "serializer", "must be an instance of a Serializer, such as PickleSerializer()"
        )
    return serializer


def _explicit_version(reader: ConfigReader, environment: Environment) -> str | None:
    version = reader.text("application_version")
    if version is not None:
        return version
    if reader.get("enable_patching") is True:
        return PATCHING_VERSION
    return environment.application_version


def _lease_s(failover: ConfigReader) -> float:
    lease_s = failover.seconds("lease_seconds", 15.0, 1.0)
    if lease_s > 3600:
        raise failover.refusal("lease_seconds", "must be at most 3600.0")
    return lease_s


def _version_policy(reader: ConfigReader) -> VersionPolicy:
    policy = reader.choice("version_policy", get_args(VersionPolicy))
    return "any" if reader.switch("auto_upgrade", False) else policy


def _telemetry(reader: ConfigReader, environment: Environment) -> TelemetrySettings:
    log_level = reader.level("log_level", logging.INFO)
    attributes = reader.mapping("otlp_attributes")
    if not all(isinstance(value, str) for value in attributes.values()):
        raise reader.refusal("otlp_attributes", "must have str values")
    return TelemetrySettings(
        log_level=log_level,
        console_log_level=reader.level("console_log_level", log_level),
        otlp_log_level=reader.level("otlp_log_level", log_level),
        otlp_enabled=reader.switch("enable_otlp", False),
        traces_endpoints=reader.texts("otlp_traces_endpoints"),
        logs_endpoints=reader.texts("otlp_logs_endpoints"),
        metrics_endpoints=reader.texts("otlp_metrics_endpoints"),
        attributes=cast("dict[str, str]", attributes),
        attribute_format=reader.choice("otel_attribute_format", get_args(AttributeFormat)),
        console_traces=environment.console_traces,
    )


def _retention(reader: ConfigReader) -> Retention | None:
    if reader.get("retention") is None:
        return None
    retention = reader.nested("retention")
    if unknown := retention.unknown(_KNOWN_RETENTION):
        raise DBOSInitializationError(
            f"Configuration key {unknown[0]} is unknown; retention has the keys completed and "
            "max_rows"
        )
    return Retention(_age_s(retention), retention.whole("max_rows", 0, 2**63 - 1))


def _age_s(retention: ConfigReader) -> float | None:
    age = retention.get("completed")
    if age is None:
        return None
    if isinstance(age, str):
        match = _AGE.fullmatch(age.strip())
        if match is None:
            raise retention.refusal("completed", "must be seconds or a text such as '30d' or '12h'")
        age = float(match[1]) * _SECONDS_PER_UNIT[match[2]]
        return ConfigReader({"completed": age}, retention.prefix).seconds("completed", 0.0, 0.0)
    return retention.seconds("completed", 0.0, 0.0)


def _admin_port(reader: ConfigReader) -> int:
    port = reader.whole("admin_port", 0, 65535)
    return 3001 if port is None else port


def _ignored(reader: ConfigReader) -> tuple[str, ...]:
    metadata = reader.get("conductor_executor_metadata")
    try:
        json.dumps(metadata)
    except (TypeError, ValueError, RecursionError):
        raise DBOSException(
            "Configuration key conductor_executor_metadata must be JSON-serializable"
        ) from None
    return tuple(key for key in _IGNORED if reader.get(key) is not None)


def _report_unknown(keys: list[str]) -> None:
    if keys:
        logging.getLogger("dbos").warning(
            "Ignoring unknown configuration keys: %s; check their spelling", ", ".join(keys)
        )
