"""Fresh databases for measured programs: a file on the disk, or one of a durable server."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from bench.environments import prepare_cache
from bench.plan import Database
from tests.support.postgres import PostgresServer


class Databases(Protocol):
    """Makes an empty database for one run, gives its URL, and removes it afterwards."""

    def fresh(self) -> AbstractContextManager[str]: ...


class SqliteFiles:
    """Files in the cache folder, which is on the same disk as the sources, never in memory."""

    @contextmanager
    def fresh(self) -> Iterator[str]:
        with tempfile.TemporaryDirectory(dir=prepare_cache(), prefix="sqlite-") as folder:
            yield f"sqlite:///{Path(folder) / 'bench.sqlite'}"


class PostgresDatabases:
    """Databases of a server that is running already."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url

    @contextmanager
    def fresh(self) -> Iterator[str]:
        name = f"bench_{secrets.token_hex(6)}"
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield urlunsplit(urlsplit(self._server_url)._replace(path=f"/{name}"))
        finally:
            self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def settings(self) -> dict[str, str]:
        """What decides how much a commit costs."""
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes")
        with psycopg.connect(self._server_url) as connection:
            shown = {name: connection.execute(f"SHOW {name}".encode()).fetchone() for name in names}
        return {name: str(row[0]) for name, row in shown.items() if row is not None}

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._server_url, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def postgres(server_url: str | None) -> Iterator[PostgresDatabases]:
    """Databases of the given server, or of a durable one that lives as long as the block."""
    if server_url is not None:
        yield PostgresDatabases(server_url)
        return
    with PostgresServer(durable=True) as server:
        yield PostgresDatabases(server.url())


def needs_server(databases: tuple[Database, ...]) -> bool:
    return "postgres" in databases
