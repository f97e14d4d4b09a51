"""Asyncio engines over a database of the user's, one for each event loop that works with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, cast
from urllib.parse import quote, urlencode

from sqlalchemy.engine import URL, Engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from dbos.config import DatabaseAddress
from dbos.errors import DBOSDatabaseError, DBOSInitializationError
from dbos.storage.sqlite import BUSY_TIMEOUT_S
from dbos.transactions.engines import IN_MEMORY

# What asyncpg would hand to the server, which does not know it.
_LIBPQ_ONLY = frozenset(
    {"channel_binding", "connect_timeout", "gssencmode", "sslcompression", "tcp_user_timeout"}
)


class LoopEngines:
    """The engines of one datasource.

    Connections of an asyncio driver belong to the loop that opened them, and a workflow may be
    recovered on another loop than the one that started it. So each loop has an engine of its own,
    whose connections are closed when the loop shuts down.
    """

    def __init__(self, make: Callable[[], AsyncEngine], given: AsyncEngine | None = None) -> None:
        """`given` is never closed; `make` makes its like, for the other loops."""
        self._make = make
        self._given = given
        self._home: asyncio.AbstractEventLoop | None = None
        self._made: dict[asyncio.AbstractEventLoop, tuple[AsyncEngine, AsyncGenerator[None]]] = {}

    async def here(self) -> AsyncEngine:
        """The engine for the running loop."""
        loop = asyncio.get_running_loop()
        found = self._made.get(loop)
        if found is not None:
            return found[0]
        if self._given is not None and self._is_for(loop):
            return self._given
        for gone in [other for other in self._made if other.is_closed()]:
            del self._made[gone]
        engine = self._make()
        # A loop that shuts down closes its generators, which closes the connections in time.
        lease = self._lease(loop, engine)
        self._made[loop] = engine, lease
        await anext(lease)
        return engine

    @asynccontextmanager
    async def aside(self) -> AsyncGenerator[AsyncEngine]:
        """An engine for the block alone, which does not bind the given one to the running loop."""
        if self._given is not None and not _keeps_connections(self._given):
            yield self._given
            return
        engine = self._make()
        try:
            yield engine
        finally:
            await engine.dispose()

    def owns(self, engine: Engine) -> bool:
        """Whether this is one of the engines."""
        given = [] if self._given is None else [self._given]
        made = [engine for engine, _ in list(self._made.values())]
        return any(known.sync_engine is engine for known in given + made)

    async def close(self) -> None:
        """Close the connections of every engine that was made here."""
        here = asyncio.get_running_loop()
        for loop, (_, lease) in list(self._made.items()):
            if loop is here:
                await lease.aclose()
            elif loop.is_running():
                end = asyncio.run_coroutine_threadsafe(_end(lease), loop)
                await asyncio.wrap_future(end)

    def _is_for(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the given engine may be used on a loop: its first, unless its pool keeps none."""
        assert self._given is not None
        if not _keeps_connections(self._given):
            return True
        if self._home is None:
            self._home = loop
        return self._home is loop

    async def _lease(
        self, loop: asyncio.AbstractEventLoop, engine: AsyncEngine
    ) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._made.pop(loop, None)
            await engine.dispose()


def _keeps_connections(engine: AsyncEngine) -> bool:
    """Whether its pool keeps connections of one loop for later."""
    return isinstance(engine.sync_engine.pool, AsyncAdaptedQueuePool)


async def _end(lease: AsyncGenerator[None]) -> None:
    await lease.aclose()


def async_engine_at(
    address: DatabaseAddress, driver: str, options: Mapping[str, Any]
) -> AsyncEngine:
    """An engine at an address; nothing is connected yet.

    Args:
        driver: of PostgreSQL: "asyncpg" or "psycopg".
        options: of the user, for `create_async_engine`.
    """
    address.check()
    given = dict(options)
    given.setdefault("hide_parameters", True)
    arguments = dict(given.pop("connect_args", None) or {})
    if address.kind == "sqlite":
        if address.path in ("", ":memory:"):
            raise DBOSDatabaseError(IN_MEMORY)
        # In autocommit mode: the transaction begins where we begin it, with the write lock.
        arguments = {"timeout": BUSY_TIMEOUT_S, **arguments, "isolation_level": None}
        url = URL.create("sqlite+aiosqlite", database=address.path)
        return create_async_engine(url, connect_args=arguments, **given)
    if driver == "asyncpg":
        arguments = {**_asyncpg_arguments(address), **arguments}
        url = URL.create("postgresql+asyncpg")
        return create_async_engine(url, connect_args=arguments, **given)
    from dbos.storage.postgres import async_connector_for_users

    url = URL.create("postgresql+psycopg", database=address.database)
    connect = async_connector_for_users(address.conninfo, arguments)
    return create_async_engine(url, async_creator=connect, **given)


def twin_of(engine: AsyncEngine) -> AsyncEngine:
    """An engine with the settings and the listeners of another, and with connections of its own."""
    plain = engine.sync_engine
    twin = Engine(
        plain.pool.recreate(),
        plain.dialect,
        plain.url,
        logging_name=plain.logging_name,
        echo=cast("Any", plain.echo),
        execution_options=plain.get_execution_options(),
        hide_parameters=plain.hide_parameters,
    )
    # Listeners can be copied by no public call.
    cast("Any", twin).dispatch._update(cast("Any", plain).dispatch, only_propagate=False)
    return AsyncEngine(twin)


def require(*packages: str) -> None:
    """Refuse to go on without the packages of the extra `async`."""
    for package in packages:
        try:
            import_module(package)
        except ImportError as missing:
            raise DBOSInitializationError(
                f"AsyncSQLAlchemyDatasource needs the package {package}: "
                "pip install 'perdure[async]'"
            ) from missing


def _asyncpg_arguments(address: DatabaseAddress) -> dict[str, Any]:
    """The address as asyncpg takes it, with the options that libpq has and it has not."""
    options = {
        key: value
        for key, value in address.options
        if key not in _LIBPQ_ONLY and not key.startswith("keepalives")
    }
    timeout = address.option("connect_timeout")
    parts = {
        "user": address.user,
        "password": address.password,
        "host": address.host,
        "port": address.port,
        "database": address.database,
    }
    query = {key: value for key, value in {**parts, **options}.items() if value}
    arguments: dict[str, Any] = {"dsn": f"postgresql://?{urlencode(query, quote_via=quote)}"}
    if timeout is not None and timeout.isdigit() and int(timeout) > 0:
        arguments["timeout"] = float(timeout)
    return arguments
