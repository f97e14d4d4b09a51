"""Fixtures of all tests: the databases they run on, and how hypothesis draws its examples."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from dbos.api.slot import SLOT
from tests.support.postgres import PostgresAddress, shared_postgres

# Deadlines are off because a busy machine is no bug. In CI the examples are the same each time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def registrations_made_on_import() -> Iterator[None]:
    """Keep what modules registered, in whatever order the tests run: some tests forget it all."""
    made, classes = list(SLOT.registry.all()), SLOT.registry.classes
    kinds, instances = classes.all(), classes.all_instances()
    queues = list(SLOT.registry.queues.values())
    scheduled = dict(SLOT.registry.scheduled)
    yield
    SLOT.registry.clear()
    for queue in queues:
        SLOT.registry.declare_queue(queue)
    for kind, name in kinds:
        classes.add(kind, name)
    for instance in instances:
        classes.add_instance(instance)
    for registration in made:
        SLOT.registry.add(registration)
    SLOT.registry.scheduled.clear()
    SLOT.registry.scheduled.update(scheduled)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresAddress]:
    """The one PostgreSQL server of this test run. Do not stop it: start your own for that."""
    run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    with shared_postgres(run) as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'system.sqlite'}"
        return
    server: PostgresAddress = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)
