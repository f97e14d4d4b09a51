"""What users write: the keys of the configuration and their types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    import sqlalchemy

    from dbos.serialization.serializer import Serializer

VersionPolicy = Literal["compatible", "exact", "any"]
AttributeFormat = Literal["legacy", "semconv"]


class FailoverConfig(TypedDict, total=False):
    """How this process shares work with its peers."""

    enabled: bool
    """Take over the work of dead peers while running. Default True."""
    lease_seconds: float
    """How long peers wait for a process that fell silent: 1.0 to 3600.0. Default 15.0."""


class DBOSConfig(TypedDict, total=False):
    """What `DBOS(config=...)` accepts. Only `name` is required; None means the default.

    Times are in seconds. The configuration is checked when `DBOS` is constructed: a value that
    cannot be used raises `DBOSInitializationError`, an unknown key is reported once and ignored.
    """

    name: str
    """The application's name: 3 to 256 of `a-z`, `0-9`, `-` and `_`. Required."""
    system_database_url: str | None
    """Where workflows are recorded. Default: `sqlite:///<name>.sqlite` in the working directory."""
    application_database_url: str | None
    """Where `@DBOS.transaction` runs. Key absent: the system database. None: nowhere."""
    database_url: str | None
    """Deprecated spelling of `application_database_url`."""
    system_database_engine: sqlalchemy.Engine | None
    """An engine of yours (psycopg 3 or sqlite3) to use for the system database; never disposed."""
    db_engine_kwargs: dict[str, Any] | None
    """Connection options, merged over the defaults, for both databases."""
    sys_db_pool_size: int | None
    """Connections to the system database. Default 20."""
    sys_db_polling_concurrency: int | None
    """Most simultaneous polling reads. Default half the pool; 0 or less: no cap."""
    dbos_system_schema: str | None
    """PostgreSQL schema of the system tables. Default `dbos`."""
    run_migrations: bool | None
    """Create and upgrade the tables at launch. Default True; False only verifies them."""
    use_listen_notify: bool | None
    """PostgreSQL push wake-ups. Default True; False polls."""
    notification_listener_polling_interval_sec: float | None
    """The longest delay of a polled wake-up. Default 1.0, at least 0.001."""
    notification_coalesce_sec: float | None
    """How long wake-ups may be batched. Default 0.01, at least 0.001."""
    kafka_queue_polling_interval_sec: float | None
    """The fallback re-check of the Kafka queues. Default 1.0, at least 0.001."""
    scheduler_polling_interval_sec: float | None
    """The fallback re-check of schedules. Default 30.0."""
    max_executor_threads: int | None
    """Threads for background sync workflows. Default, None and 0: unlimited."""
    serializer: Serializer | None
    """How values are stored. Default `JSONSerializer()`."""
    application_version: str | None
    """The version of this build. Default: computed from the source of the workflows."""
    executor_id: str | None
    """A label of this process for display. Default `local`."""
    enable_patching: bool | None
    """Allow `DBOS.patch`. Default False."""
    failover: FailoverConfig | None
    """How dead peers are noticed and replaced."""
    version_policy: VersionPolicy | None
    """Whose runs this process may take: `compatible` (default), `exact` or `any`."""
    log_level: str | None
    """Level of the logger `dbos`. Default `INFO`."""
    console_log_level: str | None
    """Level of the console output. Default `log_level`."""
    otlp_log_level: str | None
    """Level of the exported records. Default `log_level`."""
    enable_otlp: bool | None
    """Export through OpenTelemetry. Default False."""
    otlp_traces_endpoints: list[str] | None
    otlp_logs_endpoints: list[str] | None
    otlp_metrics_endpoints: list[str] | None
    otlp_attributes: dict[str, str] | None
    """Attributes of every span and record."""
    otel_attribute_format: AttributeFormat | None
    """Names of the attributes: `legacy` (default) or `semconv`."""
    retention: dict[str, Any] | None
    """`completed` (seconds or `"30d"`) and `max_rows`. Default: nothing is ever deleted."""
    run_admin_server: bool | None
    """Serve the admin API on 127.0.0.1. Default False."""
    admin_port: int | None
    """Default 3001."""
    admin_token: str | None
    """The bearer token for effects of the admin API. Default: `DBOS_ADMIN_TOKEN`."""
    observability_query_timeout_sec: float | None
    """Limit of listing queries on PostgreSQL. Default 30.0; None: off."""
    sys_db_idle_transaction_timeout_sec: float | None
    """Server-side limit of our idle transactions on PostgreSQL. Default 60.0; None: off."""
    auto_upgrade: bool | None
    """True acts as `version_policy="any"`."""
    auto_upgrade_interval_sec: float | None
    auto_upgrade_grace_sec: float | None
    conductor_key: str | None
    """Accepted and ignored, like the four below: failover needs no service."""
    conductor_url: str | None
    conductor_executor_metadata: dict[str, Any] | None
    transact_enterprise_key: str | None
    conductor_metadata_only_mode: bool | None
    sharding: bool | None
    """Not offered: True is refused."""
