"""The configuration: every key, every way to name a database, and no secret in any text."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool, QueuePool

from dbos.config import Settings, parse_database_url, settings_from
from dbos.config.declaration import DBOSConfig
from dbos.errors import DBOSException, DBOSInitializationError

PG = "postgresql://ann:secret@db.example:5433/shop"


def settings(variables: Any = None, **keys: Any) -> Settings:
    return settings_from({"name": "shop-1", **keys}, variables or {})


class Upper:
    def serialize(self, data: Any) -> str:
        return str(data).upper()

    def deserialize(self, serialized_data: str) -> Any:
        return serialized_data

    def name(self) -> str:
        return "upper"


@pytest.mark.parametrize("missing", [{}, {"name": None}, {"name": ""}])
def test_a_configuration_without_a_name_is_refused(missing: dict[str, object]) -> None:
    with pytest.raises(DBOSInitializationError, match="must specify an application name"):
        settings_from(missing, {})


@pytest.mark.parametrize("name", ["ab", "a" * 257, "Shop", "my app", "shop\n", "shöp", 7])
def test_a_name_outside_the_rule_is_refused(name: object) -> None:
    with pytest.raises(DBOSInitializationError, match="Invalid app name"):
        settings_from({"name": name}, {})


@pytest.mark.parametrize("name", ["abc", "a" * 256, "a-b_c9"])
def test_a_name_within_the_rule_is_taken(name: str) -> None:
    assert settings_from({"name": name}, {}).name == name


def test_something_that_is_no_dict_is_refused() -> None:
    with pytest.raises(DBOSInitializationError, match="must be a dict, not list"):
        settings_from([("name", "shop")], {})  # type: ignore[arg-type]


def test_the_defaults_are_those_of_the_documentation() -> None:
    made = settings()

    assert made.schema == "dbos"
    assert made.run_migrations is True
    assert made.use_listen_notify is True
    assert made.notification_poll_s == 1.0
    assert made.notification_coalesce_s == 0.01
    assert made.kafka_poll_s == 1.0
    assert made.scheduler_poll_s == 30.0
    assert made.max_executor_threads is None
    assert made.serializer is None
    assert made.explicit_version is None
    assert made.executor_id == "local"
    assert made.app_id == ""
    assert made.patching is False
    assert (made.failover_enabled, made.lease_s) == (True, 15.0)
    assert made.version_policy == "compatible"
    assert made.retention is None
    assert (made.admin_enabled, made.admin_port, made.admin_token) == (False, 3001, None)
    assert made.query_timeout_s == 30.0
    assert made.idle_transaction_timeout_s == 60.0
    assert made.telemetry.log_level == logging.INFO
    assert made.telemetry.otlp_enabled is False
    assert made.telemetry.attribute_format == "legacy"
    assert made.ignored_keys == ()
    assert made.polling_concurrency == 10
    assert (made.system_pool.size, made.system_pool.max_overflow) == (20, 0)
    assert (made.system_pool.timeout_s, made.system_pool.connect_timeout_s) == (30.0, 10)
    assert (made.system_pool.pre_ping, made.system_pool.null_pool) == (True, False)


def test_none_means_the_default_for_every_key_that_allows_it() -> None:
    required = {"name"}
    three_valued = {
        "application_database_url",
        "database_url",
        "observability_query_timeout_sec",
        "sys_db_idle_transaction_timeout_sec",
    }
    keys = dict.fromkeys(set(DBOSConfig.__annotations__) - required - three_valued)

    assert settings(**keys) == settings()


@pytest.mark.parametrize(
    ("key", "value", "read", "expected"),
    [
        ("dbos_system_schema", 'Odd "schema"', lambda s: s.schema, 'Odd "schema"'),
        ("run_migrations", False, lambda s: s.run_migrations, False),
        ("use_listen_notify", False, lambda s: s.use_listen_notify, False),
        (
            "notification_listener_polling_interval_sec",
            0.001,
            lambda s: s.notification_poll_s,
            0.001,
        ),
        ("notification_coalesce_sec", 1, lambda s: s.notification_coalesce_s, 1.0),
        ("kafka_queue_polling_interval_sec", 2.5, lambda s: s.kafka_poll_s, 2.5),
        ("scheduler_polling_interval_sec", 0.0001, lambda s: s.scheduler_poll_s, 0.0001),
        ("max_executor_threads", 7, lambda s: s.max_executor_threads, 7),
        ("max_executor_threads", 0, lambda s: s.max_executor_threads, None),
        ("application_version", "v7", lambda s: s.explicit_version, "v7"),
        ("executor_id", "blue", lambda s: s.executor_id, "blue"),
        ("enable_patching", True, lambda s: s.patching, True),
        ("enable_patching", True, lambda s: s.explicit_version, "PATCHING_ENABLED"),
        ("enable_patching", "yes", lambda s: s.patching, False),
        ("enable_patching", 1, lambda s: s.patching, False),
        ("failover", {"enabled": False}, lambda s: s.failover_enabled, False),
        ("failover", {"lease_seconds": 1}, lambda s: s.lease_s, 1.0),
        ("failover", {"lease_seconds": 3600.0}, lambda s: s.lease_s, 3600.0),
        ("version_policy", "exact", lambda s: s.version_policy, "exact"),
        ("auto_upgrade", True, lambda s: s.version_policy, "any"),
        ("log_level", "debug", lambda s: s.telemetry.console_log_level, logging.DEBUG),
        ("console_log_level", "ERROR", lambda s: s.telemetry.console_log_level, logging.ERROR),
        ("otlp_log_level", "WARNING", lambda s: s.telemetry.otlp_log_level, logging.WARNING),
        ("enable_otlp", True, lambda s: s.telemetry.otlp_enabled, True),
        (
            "otlp_traces_endpoints",
            ["http://t"],
            lambda s: s.telemetry.traces_endpoints,
            ("http://t",),
        ),
        ("otlp_logs_endpoints", ["http://l"], lambda s: s.telemetry.logs_endpoints, ("http://l",)),
        (
            "otlp_metrics_endpoints",
            ["http://m"],
            lambda s: s.telemetry.metrics_endpoints,
            ("http://m",),
        ),
        ("otlp_attributes", {"team": "a"}, lambda s: s.telemetry.attributes, {"team": "a"}),
        ("otel_attribute_format", "semconv", lambda s: s.telemetry.attribute_format, "semconv"),
        ("retention", {"completed": 60, "max_rows": 5}, lambda s: s.retention.max_rows, 5),
        ("retention", {"completed": 60}, lambda s: s.retention.completed_s, 60.0),
        ("retention", {"completed": "30d"}, lambda s: s.retention.completed_s, 30 * 86400.0),
        ("retention", {"completed": "12h"}, lambda s: s.retention.completed_s, 12 * 3600.0),
        ("retention", {"completed": "90m"}, lambda s: s.retention.completed_s, 5400.0),
        ("retention", {"completed": "45s"}, lambda s: s.retention.completed_s, 45.0),
        ("run_admin_server", True, lambda s: s.admin_enabled, True),
        ("admin_port", 8080, lambda s: s.admin_port, 8080),
        ("admin_token", "t0ken", lambda s: s.admin_token, "t0ken"),
        ("observability_query_timeout_sec", None, lambda s: s.query_timeout_s, None),
        ("sys_db_idle_transaction_timeout_sec", None, lambda s: s.idle_transaction_timeout_s, None),
        ("sys_db_pool_size", 3, lambda s: (s.system_pool.size, s.polling_concurrency), (3, 1)),
        ("sys_db_pool_size", 1, lambda s: s.polling_concurrency, 1),
        ("sys_db_polling_concurrency", 4, lambda s: s.polling_concurrency, 4),
        ("sys_db_polling_concurrency", 0, lambda s: s.polling_concurrency, None),
        ("sys_db_polling_concurrency", -1, lambda s: s.polling_concurrency, None),
        ("conductor_key", "k", lambda s: s.ignored_keys, ("conductor_key",)),
        ("conductor_url", "wss://c", lambda s: s.ignored_keys, ("conductor_url",)),
        (
            "conductor_executor_metadata",
            {"a": 1},
            lambda s: s.ignored_keys,
            ("conductor_executor_metadata",),
        ),
        ("transact_enterprise_key", "k", lambda s: s.ignored_keys, ("transact_enterprise_key",)),
        (
            "conductor_metadata_only_mode",
            True,
            lambda s: s.ignored_keys,
            ("conductor_metadata_only_mode",),
        ),
        ("auto_upgrade_interval_sec", 5, lambda s: s.version_policy, "compatible"),
        ("auto_upgrade_grace_sec", 5, lambda s: s.version_policy, "compatible"),
        ("sharding", False, lambda s: s.name, "shop-1"),
    ],
)
def test_a_key_sets_its_setting(
    key: str, value: object, read: Callable[[Any], object], expected: object
) -> None:
    made = settings(**{key: value})

    assert read(made) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("system_database_url", 5),
        ("dbos_system_schema", "a\0b"),
        ("dbos_system_schema", "x" * 64),
        ("run_migrations", "false"),
        ("use_listen_notify", 0),
        *[
            (key, value)
            for key in (
                "notification_listener_polling_interval_sec",
                "notification_coalesce_sec",
                "kafka_queue_polling_interval_sec",
            )
            for value in (0, 0.0009, -1, math.nan, math.inf, "1", True)
        ],
        ("scheduler_polling_interval_sec", 0),
        ("scheduler_polling_interval_sec", math.nan),
        ("max_executor_threads", -1),
        ("max_executor_threads", 1.5),
        ("serializer", object()),
        ("serializer", Upper),
        ("application_version", 7),
        ("application_version", " "),
        ("executor_id", "a\0"),
        ("failover", True),
        ("failover", {"enabled": 1}),
        ("version_policy", "newest"),
        ("log_level", "LOUD"),
        ("console_log_level", 10),
        ("otlp_log_level", ""),
        ("enable_otlp", "yes"),
        ("otlp_traces_endpoints", "http://t"),
        ("otlp_logs_endpoints", [5]),
        ("otlp_metrics_endpoints", [""]),
        ("otlp_attributes", {"a": 1}),
        ("otel_attribute_format", "new"),
        ("retention", 5),
        ("run_admin_server", "on"),
        ("admin_port", 65536),
        ("admin_port", "80"),
        ("admin_token", "a\0"),
        ("observability_query_timeout_sec", 0),
        ("observability_query_timeout_sec", math.inf),
        ("sys_db_idle_transaction_timeout_sec", -1),
        ("sys_db_pool_size", 0),
        ("sys_db_polling_concurrency", 1.5),
        ("auto_upgrade", "yes"),
        ("sharding", True),
        ("db_engine_kwargs", [1]),
        ("system_database_engine", "sqlite://"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_the_name_of_its_key(
    key: str, value: object
) -> None:
    with pytest.raises(DBOSInitializationError, match=key):
        settings(**{key: value})


@pytest.mark.parametrize("lease", [0.5, 3600.5, math.nan, "15"])
def test_a_lease_outside_its_bounds_is_refused(lease: object) -> None:
    with pytest.raises(DBOSInitializationError, match=r"failover\.lease_seconds"):
        settings(failover={"lease_seconds": lease})


@pytest.mark.parametrize(
    ("retention", "key"),
    [
        ({"completed": "30"}, "retention.completed"),
        ({"completed": "1w"}, "retention.completed"),
        ({"completed": -1}, "retention.completed"),
        ({"completed": "9" * 400 + "d"}, "retention.completed"),
        ({"max_rows": -1}, "retention.max_rows"),
        ({"max_rows": 1.5}, "retention.max_rows"),
        ({"age": 5}, "retention.age"),
    ],
)
def test_a_bad_retention_is_refused_by_the_name_of_its_key(
    retention: dict[str, object], key: str
) -> None:
    with pytest.raises(DBOSInitializationError, match=key):
        settings(retention=retention)


def test_conductor_metadata_must_be_json() -> None:
    with pytest.raises(DBOSException, match="conductor_executor_metadata"):
        settings(conductor_executor_metadata={"a": object()})


def test_a_serializer_is_kept_as_it_is() -> None:
    serializer = Upper()

    assert settings(serializer=serializer).serializer is serializer


def test_the_dict_is_neither_changed_nor_kept() -> None:
    connect_args = {"application_name": "a"}
    config: dict[str, Any] = {
        "name": "shop",
        "system_database_url": PG,
        "db_engine_kwargs": {"connect_args": connect_args},
        "otlp_attributes": {"team": "a"},
    }
    before = repr(config)

    made = settings_from(config, {})
    unchanged = repr(config)
    connect_args["application_name"] = "b"
    config["otlp_attributes"]["team"] = "b"

    assert unchanged == before
    assert made.system_pool.connect_args["application_name"] == "a"
    assert made.telemetry.attributes == {"team": "a"}


class Recorder(logging.Handler):
    """Keeps the messages of a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append((record.levelno, record.getMessage()))


def test_unknown_keys_are_reported_in_one_warning() -> None:
    recorder = Recorder()
    logging.getLogger("dbos").addHandler(recorder)

    try:
        settings(naem="x-secret", failover={"leese": 1})
    finally:
        logging.getLogger("dbos").removeHandler(recorder)

    assert recorder.messages == [
        (
            logging.WARNING,
            "Ignoring unknown configuration keys: naem, failover.leese; check their spelling",
        )
    ]


# Which database is used.


@pytest.mark.parametrize(
    "nothing", [{}, {"system_database_url": None}, {"system_database_url": ""}]
)
def test_without_a_url_a_sqlite_file_in_the_working_directory_is_used(
    nothing: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    made = settings_from({"name": "9my-app_x", **nothing}, {})

    assert made.system_database.path == str(tmp_path / "_9my_app_x.sqlite")
    assert made.shares_database


def test_with_only_a_system_url_transactions_share_it() -> None:
    made = settings(system_database_url=PG)

    assert made.system_database.database == "shop"
    assert made.application_database == made.system_database
    assert made.shares_database


def test_with_only_an_application_url_on_sqlite_one_file_serves_both(tmp_path: Path) -> None:
    made = settings(application_database_url=f"sqlite:///{tmp_path}/a.sqlite")

    assert made.system_database.path == str(tmp_path / "a.sqlite")
    assert made.shares_database


def test_with_only_an_application_url_on_postgres_the_system_database_is_beside_it() -> None:
    made = settings(application_database_url=f"{PG}?sslmode=require")

    assert made.application_database is not None
    assert made.application_database.database == "shop"
    assert made.system_database.database == "shop_dbos_sys"
    assert made.system_database.host == "db.example"
    assert made.system_database.option("sslmode") == "require"
    assert not made.shares_database


def test_with_both_urls_each_is_used_as_given(tmp_path: Path) -> None:
    made = settings(
        system_database_url=f"sqlite:///{tmp_path}/s.sqlite", application_database_url=PG
    )

    assert made.system_database.kind == "sqlite"
    assert made.application_database == parse_database_url(PG)


@pytest.mark.parametrize("url", [None, ""])
def test_an_explicit_none_means_no_application_database(url: str | None) -> None:
    made = settings(system_database_url=PG, application_database_url=url)

    assert made.application_database is None
    assert not made.shares_database


def test_the_deprecated_key_wins_even_as_none() -> None:
    with pytest.warns(DeprecationWarning, match="database_url is deprecated"):
        made = settings(system_database_url=PG, application_database_url=PG, database_url=None)

    assert made.application_database is None


def test_an_engine_stands_for_the_system_database(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/e.sqlite")

    made = settings(system_database_engine=engine, system_database_url=PG)

    assert made.system_engine is engine
    assert made.system_database.path == str(tmp_path / "e.sqlite")
    assert made.shares_database


def test_the_address_of_a_postgres_engine_is_read_from_its_url() -> None:
    engine = create_engine("postgresql+psycopg://ann:se%40cret@h:5433/shop?sslmode=require")

    made = settings(system_database_engine=engine, application_database_url=f"{PG}2")

    assert made.system_database.display == "postgresql://ann@h:5433/shop"
    assert "password='se@cret'" in made.system_database.conninfo
    assert made.application_database is not None
    assert made.application_database.database == "shop2"


@pytest.mark.parametrize(("driver", "is_async"), [("psycopg2", False), ("psycopg", True)])
def test_an_engine_with_a_driver_we_do_not_ship_is_refused_by_its_name(
    driver: str, is_async: bool
) -> None:
    # Only what is read of an engine: creating a real one would need that driver.
    engine = SimpleNamespace(dialect=SimpleNamespace(driver=driver, is_async=is_async))

    with pytest.raises(DBOSInitializationError, match=f"the driver {driver};"):
        settings(system_database_engine=engine)


# Connections.


def test_engine_options_are_merged_over_the_defaults_for_both_databases() -> None:
    made = settings(
        system_database_url=PG,
        application_database_url=f"{PG}2",
        db_engine_kwargs={
            "pool_size": 5,
            "pool_timeout": 7,
            "max_overflow": 2,
            "pool_pre_ping": False,
            "pool_recycle": 60,
            "echo": False,
        },
    )

    assert made.system_pool == made.application_pool
    assert (made.system_pool.size, made.system_pool.timeout_s) == (5, 7.0)
    assert (made.system_pool.max_overflow, made.system_pool.recycle_s) == (2, 60.0)
    assert made.system_pool.pre_ping is False
    assert made.engine_options["echo"] is False
    assert made.engine_options["pool_size"] == 5


def test_the_system_pool_size_concerns_the_system_database_only() -> None:
    made = settings(system_database_url=PG, sys_db_pool_size=3, db_engine_kwargs={"pool_size": 9})

    assert (made.system_pool.size, made.application_pool.size) == (3, 9)


@pytest.mark.parametrize(("pool_class", "expected"), [(NullPool, True), (QueuePool, False)])
def test_a_null_pool_is_recognised(pool_class: type, expected: bool) -> None:
    made = settings(db_engine_kwargs={"poolclass": pool_class})

    assert made.system_pool.null_pool is expected


@pytest.mark.parametrize(
    ("url", "connect_args", "expected"),
    [
        (PG, None, 10),
        (PG, {"keepalives": 1}, 10),
        (f"{PG}?connect_timeout=4", None, 4),
        (f"{PG}?connect_timeout=4", {"connect_timeout": 3}, 3),
    ],
)
def test_the_connect_timeout_is_taken_from_the_arguments_then_the_url(
    url: str, connect_args: dict[str, object] | None, expected: float
) -> None:
    made = settings(system_database_url=url, db_engine_kwargs={"connect_args": connect_args})

    assert made.system_pool.connect_timeout_s == expected
    assert made.system_pool.connect_args["connect_timeout"] == expected


@pytest.mark.parametrize(
    "options",
    [
        {"pool_size": -1},
        {"max_overflow": -2},
        {"pool_timeout": math.nan},
        {"pool_recycle": "x"},
        {"pool_pre_ping": "no"},
        {"connect_args": "x"},
        {"connect_args": {"connect_timeout": "soon"}},
    ],
)
def test_a_bad_engine_option_is_refused_by_name(options: dict[str, object]) -> None:
    with pytest.raises(DBOSInitializationError, match=next(iter(options))):
        settings(db_engine_kwargs=options)


# The environment.


def test_the_environment_fills_what_the_configuration_leaves_open() -> None:
    variables = {
        "DBOS__APPVERSION": "v-env",
        "DBOS__VMID": "vm-1",
        "DBOS__APPID": "app-1",
        "DBOS__CONSOLE_TRACES": "true",
        "DBOS_ADMIN_TOKEN": "env-token",
        "DBOS_SYSTEM_DATABASE_URL": PG,
    }

    made = settings(variables)

    assert made.explicit_version == "v-env"
    assert made.executor_id == "vm-1"
    assert made.app_id == "app-1"
    assert made.telemetry.console_traces is True
    assert made.admin_token == "env-token"
    assert made.system_database.kind == "sqlite"


def test_the_configuration_wins_over_the_environment() -> None:
    variables = {"DBOS__APPVERSION": "e", "DBOS__VMID": "e", "DBOS_ADMIN_TOKEN": "e"}

    made = settings(variables, application_version="c", executor_id="d", admin_token="t")

    assert (made.explicit_version, made.executor_id, made.admin_token) == ("c", "d", "t")


def test_patching_wins_over_the_version_of_the_environment_alone() -> None:
    variables = {"DBOS__APPVERSION": "e"}

    patching = settings(variables, enable_patching=True)
    named = settings(variables, enable_patching=True, application_version="c")

    assert patching.explicit_version == "PATCHING_ENABLED"
    assert named.explicit_version == "c"


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBOS__VMID", "vm-2")

    assert settings_from({"name": "shop"}).executor_id == "vm-2"


# Secrets.


def test_no_secret_appears_in_the_text_of_settings() -> None:
    made = settings(
        {"DBOS_ADMIN_TOKEN": "hunter2"},
        system_database_url="postgresql://ann:hunter2@h/shop?password=hunter2&sslpassword=hunter2",
        application_database_url="postgresql://ann:hunt@er2/hunter2@h/shop2",
        db_engine_kwargs={"connect_args": {"password": "hunter2"}},
        admin_token="hunter2",
        otlp_traces_endpoints=["http://user:hunter2@otel"],
        conductor_key="hunter2",
    )

    for text in (repr(made), str(made), f"{made.system_database}", f"{made.application_database}"):
        assert "hunter2" not in text
        assert "er2" not in text


def test_no_secret_appears_in_a_refusal() -> None:
    with pytest.raises(DBOSInitializationError) as caught:
        settings(
            system_database_url="postgresql://ann:hunter2@h/shop",
            db_engine_kwargs={
                "connect_args": {"password": "hunter2", "connect_timeout": "hunter2"}
            },
        )

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
