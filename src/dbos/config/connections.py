"""How connections are opened and kept: the defaults, and what `db_engine_kwargs` puts over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from dbos.config.database_url import DatabaseAddress
from dbos.config.reading import ConfigReader
from dbos.errors import DBOSInitializationError

CONNECT_TIMEOUT_S = 10

_KEY = "db_engine_kwargs"
_PREFIX = f"{_KEY}."
_DEFAULTS: tuple[tuple[str, Any], ...] = (
    ("pool_size", 20),
    ("max_overflow", 0),
    ("pool_timeout", 30),
    ("pool_pre_ping", True),
)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The connections to one database."""

    size: int = 20
    """Connections kept. 0: no limit, as in SQLAlchemy."""
    max_overflow: int = 0
    """More connections while all are in use. -1: no limit."""
    timeout_s: float = 30.0
    """How long to wait for a free connection."""
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    pre_ping: bool = True
    """Check a connection before use."""
    recycle_s: float | None = None
    """The age at which a connection is replaced. None: never."""
    null_pool: bool = False
    """Open a connection for each use and close it again."""
    connect_args: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """What the driver is given besides the address; holds `connect_timeout` for PostgreSQL."""


def connection_options(reader: ConfigReader) -> dict[str, Any]:
    """`db_engine_kwargs` merged over the defaults, checked, as SQLAlchemy takes them."""
    given = reader.nested(_KEY)
    for key, least in (("pool_size", 0), ("max_overflow", -1)):
        given.whole(key, least)
    given.seconds("pool_timeout", 30.0, 0.0)
    given.switch("pool_pre_ping", True)
    _recycle_s(given)
    chosen = {key: value for key, value in given.values.items() if value is not None}
    return {**dict(_DEFAULTS), **chosen, "connect_args": given.mapping("connect_args")}


def pool_settings(
    options: Mapping[str, Any], address: DatabaseAddress, size: int | None = None
) -> PoolSettings:
    """The settings of one database's connections; `size` wins over that of the options."""
    reader = ConfigReader(options, _PREFIX)
    connect_args = dict(cast("Mapping[str, Any]", options["connect_args"]))
    timeout_s = _connect_timeout_s(connect_args, address)
    if address.kind == "postgres":
        connect_args["connect_timeout"] = timeout_s
    pool_size = reader.whole("pool_size", 0) if size is None else size
    overflow = reader.whole("max_overflow", -1)
    return PoolSettings(
        size=20 if pool_size is None else pool_size,
        max_overflow=0 if overflow is None else overflow,
        timeout_s=reader.seconds("pool_timeout", 30.0, 0.0),
        connect_timeout_s=timeout_s,
        pre_ping=reader.switch("pool_pre_ping", True),
        recycle_s=_recycle_s(reader),
        null_pool=_is_null_pool(options.get("poolclass")),
        connect_args=connect_args,
    )


def _recycle_s(reader: ConfigReader) -> float | None:
    """SQLAlchemy writes -1 for never."""
    if reader.get("pool_recycle") in (None, -1):
        return None
    return reader.seconds("pool_recycle", 0.0, 0.0)


def _connect_timeout_s(connect_args: Mapping[str, Any], address: DatabaseAddress) -> float:
    """By `connect_args`, else by the URL, else the default."""
    given = connect_args.get("connect_timeout", address.option("connect_timeout"))
    if given is None:
        return CONNECT_TIMEOUT_S
    try:
        seconds = float(given)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds <= 2**31:
        raise DBOSInitializationError(
            "connect_timeout must be a number of seconds that is not negative; it is set in "
            "db_engine_kwargs.connect_args or in the database URL"
        )
    # libpq reads whole seconds and takes 0 for "wait for ever".
    return int(seconds) if seconds == int(seconds) else max(1, round(seconds))


def _is_null_pool(pool_class: object) -> bool:
    """By name, since SQLAlchemy is not imported for the configuration."""
    return isinstance(pool_class, type) and any(
        kind.__name__ == "NullPool" for kind in pool_class.__mro__
    )
