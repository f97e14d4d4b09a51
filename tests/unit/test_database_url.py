"""Database URLs: every part is honoured, and no password is ever shown."""

from __future__ import annotations

import os

import pytest
from psycopg.conninfo import conninfo_to_dict

from dbos.config import DatabaseAddress, parse_database_url, settings_from
from dbos.errors import DBOSDatabaseError, DBOSInitializationError

PG = "postgresql://ann:secret@db.example:5433/shop"


def configured(url: str) -> DatabaseAddress:
    return settings_from({"name": "shop", "system_database_url": url}, {}).system_database


@pytest.mark.parametrize(
    ("url", "conninfo", "display"),
    [
        (
            "postgres://ann:pw@h:5433/shop",
            "host='h' port='5433' user='ann' password='pw' dbname='shop'",
            "postgresql://ann@h:5433/shop",
        ),
        (
            "postgresql+psycopg2://ann@h/shop",
            "host='h' user='ann' dbname='shop'",
            "postgresql://ann@h/shop",
        ),
        ("postgresql+asyncpg://h/shop", "host='h' dbname='shop'", "postgresql://h/shop"),
        ("postgresql:///shop", "dbname='shop'", "postgresql:///shop"),
        (
            "postgresql://ann@/shop?host=/run/pg&port=5433",
            "host='/run/pg' port='5433' user='ann' dbname='shop'",
            "postgresql://ann@/run/pg:5433/shop",
        ),
        (
            "postgresql://%2Frun%2Fpg/shop",
            "host='/run/pg' dbname='shop'",
            "postgresql:///run/pg/shop",
        ),
        (
            "postgresql://ann:p%40ss@[::1]:5433/shop",
            "host='::1' port='5433' user='ann' password='p@ss' dbname='shop'",
            "postgresql://ann@[::1]:5433/shop",
        ),
        (
            "postgresql://ann:p@s/s@h/shop",
            "host='h' user='ann' password='p@s/s' dbname='shop'",
            "postgresql://ann@h/shop",
        ),
        (
            "postgresql://h/shop?user=ann&password=p@ss&application_name=it's",
            "host='h' user='ann' password='p@ss' dbname='shop' application_name='it\\'s'",
            "postgresql://ann@h/shop",
        ),
        (
            "postgresql://h1:1,h2:2/shop?target_session_attrs=read-write",
            "host='h1,h2' port='1,2' dbname='shop' target_session_attrs='read-write'",
            "postgresql://h1,h2:1,2/shop",
        ),
        (
            "postgresql:///shop?host=h1:1&host=h2:2",
            "host='h1,h2' port='1,2' dbname='shop'",
            "postgresql://h1,h2:1,2/shop",
        ),
        ("postgresql://h?dbname=shop", "host='h' dbname='shop'", "postgresql://h/shop"),
    ],
)
def test_every_part_of_a_postgres_url_is_honoured(url: str, conninfo: str, display: str) -> None:
    address = parse_database_url(url)

    assert address.conninfo == conninfo
    assert address.display == display


def test_the_connection_string_is_one_that_the_driver_reads_back() -> None:
    address = parse_database_url(
        "postgresql://an%27n:p%5C%27%20w@h:5433/my%20shop?options=-c%20a%3Db"
    )

    assert conninfo_to_dict(address.conninfo) == {
        "host": "h",
        "port": "5433",
        "user": "an'n",
        "password": "p\\' w",
        "dbname": "my shop",
        "options": "-c a=b",
    }


@pytest.mark.parametrize(
    "url",
    ["postgresql://h", "postgresql://ann:secret@h:5432/", "postgresql://", "secret", "mysql://h"],
)
def test_a_url_without_a_database_name_is_refused_unseen(url: str) -> None:
    with pytest.raises(
        DBOSInitializationError, match="Database name must be specified in the connection URL"
    ) as caught:
        configured(url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ann:secret@h/shop",
        "postgresql://ann:pw@h:secret/shop",
        "postgresql://ann:pw@h:70000/shop",
        "postgresql://ann:sec/ret?x@h/shop",
        "postgresql://ann:12/secret?x@h/shop",
        "postgresql://ann:12/secret?x@h=y/shop",
    ],
)
def test_a_bad_url_is_accepted_and_fails_when_somebody_connects(url: str) -> None:
    address = configured(url)

    with pytest.raises(DBOSDatabaseError) as caught:
        _ = address.conninfo

    for text in (str(caught.value), address.display, str(address), repr(address)):
        assert "secret" not in text
        assert "/ret" not in text


def test_the_maintenance_database_is_on_the_same_server() -> None:
    address = parse_database_url(PG).maintenance()

    assert address.conninfo == (
        "host='db.example' port='5433' user='ann' password='secret' dbname='postgres'"
    )


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////tmp/a.sqlite", "/tmp/a.sqlite"),
        ("sqlite+pysqlite:////tmp/a%20b.sqlite", "/tmp/a b.sqlite"),
        ("sqlite:////tmp/a.sqlite?timeout=5", "/tmp/a.sqlite"),
        ("sqlite:///file:/tmp/a.sqlite?uri=true&mode=rwc", "/tmp/a.sqlite"),
        ("sqlite:///rel.sqlite", os.path.abspath("rel.sqlite")),
    ],
)
def test_a_sqlite_url_names_a_file(url: str, path: str) -> None:
    address = parse_database_url(url)

    assert (address.kind, address.path, address.display) == ("sqlite", path, f"sqlite:///{path}")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?uri=true",
        "sqlite:///file:x?mode=memory&uri=true",
    ],
)
def test_an_in_memory_database_is_refused(url: str) -> None:
    with pytest.raises(DBOSInitializationError, match="in-memory"):
        configured(url)


@pytest.mark.parametrize("url", ["sqlite", "sqlite:x", "sqlite://host/x"])
def test_a_misspelt_sqlite_url_is_refused(url: str) -> None:
    with pytest.raises(DBOSInitializationError, match="sqlite:///relative/path"):
        configured(url)


def test_addresses_are_equal_when_they_mean_the_same() -> None:
    plain = parse_database_url("postgresql://ann:pw@h:5432/shop")
    suffixed = parse_database_url("postgresql+psycopg2://ann:pw@h:5432/shop")
    other: DatabaseAddress = parse_database_url("postgresql://ann:pw@h:5432/shop2")

    assert plain == suffixed
    assert plain != other
