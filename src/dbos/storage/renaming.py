"""Renaming an application: what is live moves at once, history in batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbos.storage.protocol import Statement, Topic, Tx, Write
from dbos.storage.retention import ACTIVE

_OWNED = """(application_name = :old_name
        OR :adopts AND application_name IS NULL)"""


@dataclass(frozen=True, slots=True)
class Renaming:
    """Whose rows get which owner."""

    old_name: str | None
    new_name: str
    adopts: bool
    """Whether unclaimed rows move as well."""
    batch: int

    def values(self) -> dict[str, str | bool]:
        """Parameters of every statement. No application has an empty name."""
        return {
            "old_name": self.old_name or "",
            "new_name": self.new_name,
            "adopts": self.adopts,
        }


class Moved(NamedTuple):
    """The numbers of rows that got a new owner, and whom to wake."""

    queues: int
    schedules: tuple[str, ...]
    versions: int
    workflows: int
    queue_names: tuple[str, ...]


MOVE_QUEUES = Statement(
    f"UPDATE {{queues}} SET application_name = :new_name WHERE {_OWNED} RETURNING name"
)
MOVE_SCHEDULES = Statement(
    f"""
    UPDATE {{workflow_schedules}} SET application_name = :new_name
    WHERE {_OWNED} RETURNING schedule_name
    """
)
MOVE_VERSIONS = Statement(
    f"UPDATE {{application_versions}} SET application_name = :new_name WHERE {_OWNED}"
)
MOVE_ACTIVE = Statement(
    f"""
    UPDATE {{workflow_status}} SET application_name = :new_name
    WHERE status IN {ACTIVE} AND {_OWNED} RETURNING queue_name
    """
)


def move_live_all(tx: Tx, renamings: Sequence[Renaming]) -> list[Moved]:
    """Give queues, schedules, versions and active runs their new owner."""
    return [_move_live(tx, renaming) for renaming in renamings]


def _move_live(tx: Tx, renaming: Renaming) -> Moved:
    values = renaming.values()
    queues = [row[0] for row in tx.all(MOVE_QUEUES, **values)]
    schedules = tuple(row[0] for row in tx.all(MOVE_SCHEDULES, **values))
    versions = tx.run(MOVE_VERSIONS, **values)
    active = [row[0] for row in tx.all(MOVE_ACTIVE, **values)]
    waiting = {name for name in active if name is not None}
    return Moved(len(queues), schedules, versions, len(active), tuple(waiting | set(queues)))


def _moved_topics(_: Renaming, moved: Moved) -> Iterable[Topic]:
    for name in moved.queue_names:
        yield Topic("queue", name)
    for name in moved.schedules:
        yield Topic("schedule", name)


move_live: Final = Write("rename_application", move_live_all, _moved_topics, rank=70)

MOVE_RUNS = Statement(
    f"""
    UPDATE {{workflow_status}} SET application_name = :new_name
    WHERE workflow_uuid IN (
        SELECT workflow_uuid FROM {{workflow_status}} WHERE {_OWNED} LIMIT :batch)
    """
)
MOVE_STEPS = Statement(
    f"""
    UPDATE {{operation_outputs}} SET application_name = :new_name
    WHERE (workflow_uuid, function_id) IN (
        SELECT workflow_uuid, function_id FROM {{operation_outputs}} WHERE {_OWNED} LIMIT :batch)
    """
)


def move_runs_all(tx: Tx, renamings: Sequence[Renaming]) -> list[int]:
    """Give batches of runs their new owner; how many there were."""
    return [tx.run(MOVE_RUNS, **one.values(), batch=one.batch) for one in renamings]


def move_steps_all(tx: Tx, renamings: Sequence[Renaming]) -> list[int]:
    """Give batches of recorded operations their new owner; how many there were."""
    return [tx.run(MOVE_STEPS, **one.values(), batch=one.batch) for one in renamings]


move_runs: Final = Write("rename_runs", move_runs_all, rank=70)
move_steps: Final = Write("rename_steps", move_steps_all, rank=70)
