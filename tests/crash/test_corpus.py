"""Every workflow of the corpus survives a crash at every effect."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbos.testing import explore_crashes
from tests.crash.whole import CORPUS
from tests.support.postgres import PostgresAddress

SMALLEST_EXPLORATION = 150
"""The least number of interruptions over the whole corpus (see docs/testing.md)."""

ON_POSTGRES = (
    "steps_in_sequence",
    "async_retries",
    "direct_children_three_deep",
    "gathered_chains",
    "start_and_get_result",
    "enqueue_refused_by_deduplication",
)


@pytest.fixture(scope="module")
def postgres_url(postgres_server: PostgresAddress) -> Iterator[str]:
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.mark.parametrize("name", list(CORPUS))
def test_a_workflow_keeps_its_promises_wherever_its_process_stops(name: str) -> None:
    report = explore_crashes(CORPUS[name])

    report.raise_for_violations()
    assert report.points >= SMALLEST_EXPLORATION // len(CORPUS)


@pytest.mark.parametrize("name", ON_POSTGRES)
def test_a_workflow_on_postgresql_keeps_its_promises_wherever_its_process_stops(
    name: str, postgres_url: str
) -> None:
    report = explore_crashes(CORPUS[name], database_url=postgres_url, limit=24)

    report.raise_for_violations()
    assert report.points == 24


@pytest.mark.parametrize("name", ["started_children_three_deep", "gathered_chains"])
def test_a_recovery_that_crashes_is_recovered(name: str) -> None:
    report = explore_crashes(CORPUS[name], moments=(), pairs=20)

    report.raise_for_violations()
    assert report.points == 20
