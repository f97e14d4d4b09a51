"""Database URLs, taken apart once, so that passwords go to the driver and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol
from urllib.parse import parse_qsl, quote, unquote

from dbos.errors import DBOSDatabaseError, DBOSInitializationError

SYSTEM_SUFFIX = "_dbos_sys"

_POSTGRES_SCHEMES = frozenset({"postgresql", "postgres", "cockroachdb"})
_PARTS = frozenset({"user", "password", "host", "port", "dbname"})


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """Where a database is and how to log in. `conninfo`, `password` and `options` are secret."""

    kind: Literal["sqlite", "postgres"]
    path: str = ""
    """SQLite: the absolute path of the file."""
    database: str = ""
    """PostgreSQL: the name of the database. SQLite: the same as `path`."""
    user: str = ""
    password: str = field(default="", repr=False)
    host: str = ""
    """A name, an address, a socket directory, or several of these separated by commas."""
    port: str = ""
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """The other parts of the URL's query, in order."""
    fault: str = ""
    """Why this address cannot be used, if so. Raised when somebody wants to connect."""

    @property
    def conninfo(self) -> str:
        """The libpq connection string, password included. `DBOSDatabaseError` for a bad address."""
        self.check()
        parts = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
        }
        settings = {key: value for key, value in parts.items() if value} | dict(self.options)
        return " ".join(f"{key}={_quoted(value)}" for key, value in settings.items())

    @property
    def display(self) -> str:
        """The address as logs and errors show it: `scheme://user@host:port/name`."""
        if self.fault:
            return "an unusable database URL"
        if self.kind == "sqlite":
            return f"sqlite:///{self.path}"
        user = f"{quote(self.user, safe='@')}@" if self.user else ""
        host = f"[{self.host}]" if _is_ipv6(self.host) else self.host
        port = f":{self.port}" if self.port else ""
        return f"postgresql://{user}{host}{port}/{self.database}"

    def __str__(self) -> str:
        return self.display

    def check(self) -> None:
        """Raise `DBOSDatabaseError` if nobody can connect to this address."""
        if self.fault:
            raise DBOSDatabaseError(f"The database URL cannot be used: {self.fault}")

    def maintenance(self) -> DatabaseAddress:
        """The server's own `postgres` database, from which another one can be created."""
        return self.named("postgres")

    def named(self, database: str) -> DatabaseAddress:
        """Another database of the same server, reached in the same way."""
        return replace(self, database=database)

    def option(self, name: str) -> str | None:
        """One part of the URL's query."""
        return dict(self.options).get(name)


class EngineUrl(Protocol):
    """What is read of the URL of a SQLAlchemy engine."""

    @property
    def username(self) -> str | None: ...
    @property
    def password(self) -> object: ...
    @property
    def host(self) -> str | None: ...
    @property
    def port(self) -> int | None: ...
    @property
    def database(self) -> str | None: ...
    @property
    def query(self) -> Mapping[str, str | Sequence[str]]: ...


def parse_database_url(url: str, name: str = "database_url") -> DatabaseAddress:
    """Take a URL apart; `name` is that of the key or parameter it was given as.

    A URL that names no database is refused with `DBOSInitializationError`. One with another fault
    gives an address that nobody can connect to, so that the fault is that of the launch.
    """
    if url.startswith("sqlite"):
        return _sqlite(url, name)
    scheme, separator, rest = url.partition("://")
    head, _, query = rest.partition("?")
    address = _with_query(_authority(head if separator else ""), _query_pairs(query))
    if not address.database:
        raise DBOSInitializationError(
            f"Database name must be specified in the connection URL {name}, as in "
            "postgresql://user:password@host:5432/name. Characters such as / ? # @ in a user, "
            "a password or a name must be percent-encoded."
        )
    if fault := _fault(scheme, query, address):
        # Its parts are not kept: what was misread as a host or a name may be a password.
        return DatabaseAddress(kind="postgres", fault=fault)
    return address


def address_of_engine(url: EngineUrl, kind: Literal["sqlite", "postgres"]) -> DatabaseAddress:
    """The address of a SQLAlchemy engine's URL."""
    if kind == "sqlite":
        return _sqlite_file(url.database or "", (), "system_database_engine")
    address = DatabaseAddress(
        kind="postgres",
        database=url.database or "",
        user=url.username or "",
        password="" if url.password is None else str(url.password),
        host=url.host or "",
        port="" if url.port is None else str(url.port),
    )
    pairs = [
        (key, item)
        for key, value in url.query.items()
        for item in ([value] if isinstance(value, str) else value)
    ]
    return _with_query(address, pairs)


def default_sqlite_url(app_name: str) -> str:
    """Where runs are recorded when no database is configured: a file in the working directory."""
    stem = app_name.lower().replace("-", "_").replace(" ", "_")
    if stem[:1].isdigit():
        stem = f"_{stem}"
    return f"sqlite:///{stem}.sqlite"


def derived_system_address(application: DatabaseAddress) -> DatabaseAddress:
    """The system database that belongs to an application database when none is given."""
    if application.kind == "sqlite":
        return application
    return application.named(f"{application.database}{SYSTEM_SUFFIX}")


def _sqlite(url: str, name: str) -> DatabaseAddress:
    location, _, query = url.partition("?")
    _, separator, path = location.partition("://")
    # `sqlite:///name` is relative and `sqlite:////name` absolute: one slash ends the empty host.
    host, _, path = path.partition("/")
    if not separator or host:
        raise DBOSInitializationError(
            f"{name}: a SQLite URL has the form sqlite:///relative/path or sqlite:////absolute/path"
        )
    return _sqlite_file(unquote(path), tuple(_query_pairs(query)), name)


def _sqlite_file(path: str, options: tuple[tuple[str, str], ...], name: str) -> DatabaseAddress:
    if path.startswith("file:"):
        location, _, query = path.removeprefix("file:").partition("?")
        path = unquote(location)
        options += tuple(_query_pairs(query))
    if path in ("", ":memory:") or ("mode", "memory") in options:
        raise DBOSInitializationError(
            f"{name}: an in-memory SQLite database would lose every workflow with the process, and "
            "cannot be shared between connections; name a file, as in sqlite:///app.sqlite"
        )
    # Absolute, because the program may change its working directory while we run.
    path = os.path.abspath(path)
    return DatabaseAddress(kind="sqlite", path=path, database=path, options=options)


def _authority(head: str) -> DatabaseAddress:
    """The parts before the query: `user:password@host:port/name`, each of them optional."""
    # The last @ is taken: then a password may hold @ and / without anything of it being mistaken
    # for a host or a name, which would be shown.
    userinfo, _, location = head.rpartition("@")
    user, _, password = userinfo.partition(":")
    hosts, _, database = location.partition("/")
    host, port = _host_and_port(hosts.split(","))
    return DatabaseAddress(
        kind="postgres",
        database=unquote(database),
        user=unquote(user),
        password=unquote(password),
        host=host,
        port=port,
    )


def _host_and_port(places: Sequence[str]) -> tuple[str, str]:
    """The comma-separated hosts and ports of one or more `host:port`."""
    hosts: list[str] = []
    ports: list[str] = []
    for place in places:
        if place.startswith("["):
            host, _, rest = place[1:].partition("]")
            port = rest.removeprefix(":")
        elif place.startswith("/") or place.count(":") != 1:
            host, port = place, ""
        else:
            host, _, port = place.partition(":")
        hosts.append(unquote(host))
        ports.append(port)
    return ",".join(hosts), ",".join(ports) if any(ports) else ""


def _query_pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


def _with_query(address: DatabaseAddress, pairs: Sequence[tuple[str, str]]) -> DatabaseAddress:
    """The address with what its query says; the query wins over the parts before it."""
    given: dict[str, list[str]] = {}
    for key, value in pairs:
        given.setdefault(key, []).append(value)
    address = replace(
        address,
        options=tuple((key, values[-1]) for key, values in given.items() if key not in _PARTS),
    )
    if hosts := given.get("host"):
        host, port = _host_and_port([place for value in hosts for place in value.split(",")])
        address = replace(address, host=host, port=port or address.port)
    if ports := given.get("port"):
        address = replace(address, port=",".join(ports))
    return replace(
        address,
        user=given.get("user", [address.user])[-1],
        password=given.get("password", [address.password])[-1],
        database=given.get("dbname", [address.database])[-1],
    )


def _fault(scheme: str, query: str, address: DatabaseAddress) -> str:
    """What makes connecting impossible. Names the part and never shows it: it may be a password."""
    if scheme.partition("+")[0].lower() not in _POSTGRES_SCHEMES:
        return "only postgresql:// and sqlite:/// URLs are supported"
    ports = [port for port in address.port.split(",") if port]
    if not all(port.isascii() and port.isdigit() and 0 < int(port) < 65536 for port in ports):
        return (
            "its port is not a number from 1 to 65535; if a password holds one of / ? # @ :, "
            "percent-encode it"
        )
    keys = [part.partition("=")[:2] for part in query.split("&") if part]
    if any(not equals or "@" in key for key, equals in keys):
        return "its query is not name=value; if a password holds a '?', percent-encode it"
    return ""


def _quoted(value: str) -> str:
    """A value as libpq reads it from a connection string."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _is_ipv6(host: str) -> bool:
    return ":" in host and not host.startswith("/") and "," not in host
