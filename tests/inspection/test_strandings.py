"""The warning of stranded runs: which runs, how often, and when it is kept back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from dbos import DBOS, Queue, SetWorkflowID
from dbos.api.ground import Ground
from dbos.api.slot import launched
from dbos.services.strandings import (
    CONFIRM_AFTER_S,
    LOOK_EVERY_S,
    MOST_AT_ONCE,
    REPEAT_AFTER_S,
    Strandings,
)
from tests.behaviour.application import Application


class Watch:
    """A watch over the runs of a launched application, at the times that a test says."""

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        self._log = log
        self._ground = Ground(launched().settings)
        self._now_s = 0.0
        self._service = Strandings(launched(), self._ground.reader, lambda: self._now_s)

    def look(self, after_s: float = 0.0) -> tuple[list[str], float]:
        """Look once: the workflows that are warned of, and the time until the next look."""
        self._now_s += after_s
        self._log.clear()
        pause_s = self._service.tick()
        said = [record.getMessage() for record in self._log.records]
        return [text for text in said if "no live process may run" in text], pause_s

    def close(self) -> None:
        self._ground.reader.stop()
        self._ground.database.close()


@pytest.fixture
def enqueue(app: Application) -> Callable[..., None]:
    """Leave runs of one workflow on a queue that starts none, then change their rows."""
    queue = Queue("never", worker_concurrency=0)

    @DBOS.workflow(name="pack")
    def pack() -> None:
        return None

    app.relaunch()

    def enqueue(change: str, *workflow_ids: str) -> None:
        for workflow_id in workflow_ids:
            with SetWorkflowID(workflow_id):
                queue.enqueue(pack)
            where = f"workflow_uuid = '{workflow_id}'"
            app.change(f"UPDATE {{workflow_status}} SET {change} WHERE {where}")

    return enqueue


@pytest.fixture
def watch(enqueue: Callable[..., None], log: pytest.LogCaptureFixture) -> Iterator[Watch]:
    made = Watch(log)
    yield made
    made.close()


OLD = "application_version = 'v0', code_hash = NULL"


def test_stranded_runs_are_warned_of_once_an_hour_by_name_and_version(
    enqueue: Callable[..., None], watch: Watch
) -> None:
    enqueue(OLD, "one", "two")
    enqueue("application_version = 'v9', code_hash = NULL", "three")
    first, pause_s = watch.look()
    told, _ = watch.look(pause_s)
    again, later_s = watch.look(LOOK_EVERY_S)
    watch.look(REPEAT_AFTER_S)
    repeated, _ = watch.look(CONFIRM_AFTER_S)

    assert (first, pause_s) == ([], CONFIRM_AFTER_S)
    assert [text.split(" wait ")[0] for text in told] == [
        "Workflows named pack of version v0",
        "Workflows named pack of version v9",
    ]
    assert (again, later_s) == ([], LOOK_EVERY_S)
    assert repeated == told


def test_a_run_that_may_run_before_the_second_look_is_not_warned_of(
    app: Application, enqueue: Callable[..., None], watch: Watch
) -> None:
    enqueue(OLD, "one")
    enqueue("deduplication_id = NULL", "fine")
    watch.look()
    app.change("UPDATE {workflow_status} SET application_version = 'v1'")

    assert watch.look(CONFIRM_AFTER_S) == ([], LOOK_EVERY_S)


def test_runs_of_another_application_are_not_warned_of(
    enqueue: Callable[..., None], watch: Watch
) -> None:
    enqueue(f"{OLD}, application_name = 'other'", "one")
    watch.look()

    assert watch.look(CONFIRM_AFTER_S) == ([], LOOK_EVERY_S)


def test_any_number_of_stranded_names_is_told_little_by_little(
    enqueue: Callable[..., None], watch: Watch
) -> None:
    for number in range(MOST_AT_ONCE + 5):
        enqueue(f"application_version = 'v{number + 10}', code_hash = NULL", f"run-{number}")
    watch.look()
    some, pause_s = watch.look(CONFIRM_AFTER_S)
    rest, _ = watch.look(pause_s)

    assert (len(some), pause_s, len(rest)) == (MOST_AT_ONCE, CONFIRM_AFTER_S, 5)
