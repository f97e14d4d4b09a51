"""Faults of database and process, a few of those of `python -m tests.process.faults`."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from dbos import DBOS
from tests.process.deafness import lose_bells
from tests.process.hardship import HARDSHIPS, Hardship
from tests.process.shifts import replace_all
from tests.process.trials import endure, share_a_label, start_cold, take_over
from tests.support.postgres import PostgresServer, wait_until

SHORT = 1.5
FEW = 12
KINDS = ["sqlite", "postgres"]


def hardship(name: str) -> Hardship:
    """A hardship of the list, for a short while."""
    [found] = [one for one in HARDSHIPS if one.name == name]
    return Hardship(found.name, found.kind, found.inflict, SHORT)


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A directory through which the server's account gets."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_mode & 0o055 == 0o055:
            break
        directory.chmod(0o755)
    return tmp_path


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["crashed", "paused", "cut off", "locked for 10 s"])
def test_an_outage_is_waited_out_and_nothing_is_lost_or_done_twice(
    name: str, reachable: Path
) -> None:
    verdict = endure(hardship(name), reachable, errands=FEW)

    assert verdict.is_clean, verdict
    assert verdict.errands == 3 * FEW


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
def test_many_processes_start_at_once_on_an_empty_database(kind: str, reachable: Path) -> None:
    verdict = start_cold(kind, reachable, processes=4)

    assert verdict.is_clean, verdict


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
def test_processes_of_one_label_leave_each_others_long_steps_alone(
    kind: str, reachable: Path
) -> None:
    verdict = share_a_label(kind, reachable, errands=2, newcomers=1)

    assert verdict.is_clean, verdict


@pytest.mark.timeout(120)
def test_a_process_that_was_frozen_for_longer_than_its_lease_does_nothing_more(
    reachable: Path,
) -> None:
    verdict = take_over("postgres", reachable, lease_s=1.0, is_frozen=True, errands=5)

    assert verdict.is_clean, verdict


@pytest.mark.timeout(120)
def test_no_message_is_lost_or_late_while_listening_sessions_are_killed(reachable: Path) -> None:
    verdict = lose_bells(reachable, pairs=2, words=20)

    assert verdict.is_clean, verdict


@pytest.mark.timeout(120)
def test_processes_that_are_replaced_one_after_another_hand_their_work_over(
    reachable: Path,
) -> None:
    verdict = replace_all("sqlite", reachable, errands=1)

    assert verdict.is_clean, verdict


@pytest.mark.timeout(120)
def test_destroy_does_not_wait_for_a_database_that_stays_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    DBOS.destroy(destroy_registry=True)
    with PostgresServer(durable=False) as server:
        url = server.url(server.create_database())
        DBOS(config={"name": "shop", "system_database_url": url})

        @DBOS.workflow()
        def job() -> None:
            return None

        DBOS.launch()
        job()
        logging.getLogger("dbos").addHandler(caplog.handler)
        server.stop("immediate")
        wait_until(lambda: "unavailable to the writer" in caplog.text, 30)

        def destroy() -> None:
            DBOS.destroy(workflow_completion_timeout_sec=2)

        ending = threading.Thread(target=destroy)
        ending.start()
        ending.join(60)
        is_over = not ending.is_alive()
        logging.getLogger("dbos").removeHandler(caplog.handler)

    assert is_over
