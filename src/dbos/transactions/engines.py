"""SQLAlchemy engines over the configured databases, made when first needed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError

from dbos.config import DatabaseAddress, PoolSettings
from dbos.errors import DBOSDatabaseError
from dbos.storage.sqlite import BUSY_TIMEOUT_S

IN_MEMORY = "Transactions need a SQLite file: give one in the URL, as in sqlite:///app.sqlite."


def engine_at(address: DatabaseAddress, pool: PoolSettings, options: Mapping[str, Any]) -> Engine:
    """An engine for the user's transactions at an address; nothing is connected yet."""
    address.check()
    given = {key: value for key, value in options.items() if key != "connect_args"}
    given.setdefault("hide_parameters", True)
    if given.get("poolclass") is not None:
        # Other pools do not take the arguments of the default one.
        for key in ("pool_size", "max_overflow", "pool_timeout"):
            given.pop(key, None)
    if address.kind == "sqlite":
        return _sqlite_engine(address, pool, given)
    return _postgres_engine(address, pool, given)


def _sqlite_engine(address: DatabaseAddress, pool: PoolSettings, options: dict[str, Any]) -> Engine:
    if address.path in ("", ":memory:"):
        raise DBOSDatabaseError(IN_MEMORY)
    timeout_s = float(pool.connect_args.get("timeout", BUSY_TIMEOUT_S))

    def connect() -> sqlite3.Connection:
        # In autocommit mode: the transaction begins where we begin it, with the write lock.
        return sqlite3.connect(
            address.path, timeout=timeout_s, isolation_level=None, check_same_thread=False
        )

    url = URL.create("sqlite", database=address.path)
    return create_engine(url, creator=connect, **options)


def _postgres_engine(
    address: DatabaseAddress, pool: PoolSettings, options: dict[str, Any]
) -> Engine:
    from dbos.storage.postgres import connect_for_users

    def connect() -> Any:
        return connect_for_users(address.conninfo, pool)

    url = URL.create("postgresql+psycopg", database=address.database)
    return create_engine(url, creator=connect, **options)


def connections_of(engine: object) -> Callable[[], Any]:
    """Driver connections from an engine of the user, as it opens them, outside of its pool."""
    assert isinstance(engine, Engine), "settings are checked when they are made"

    def connect() -> Any:
        try:
            pooled = engine.raw_connection()
        except DBAPIError as error:
            # Storage judges the driver's own errors.
            raise (error.orig or error) from None
        driver: Any = pooled.driver_connection
        pooled.detach()
        if engine.dialect.name == "sqlite":
            driver.isolation_level = None
        return driver

    return connect
