"""The registered queues of an application: their settings in the `queues` table, and who owns them.

Every change rings the queue's topic, so that workers follow it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Final, NamedTuple

from dbos.errors import DBOSException
from dbos.storage.protocol import SingleRead, Statement, Topic, Tx, Write
from dbos.storage.queue_limits import QueueLimits, RateLimit
from dbos.storage.versions import LATEST
from dbos.validation import QueueConflictPolicy


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """A queue's settings as they are stored: field names are the columns' names.

    `concurrency` is the limit of the whole queue, or of each key under `partition_queue`, the older
    spelling of a partitioned queue. So are `worker_concurrency` and the two of the rate.
    """

    name: str
    concurrency: int | None = None
    worker_concurrency: int | None = None
    rate_limit_max: int | None = None
    rate_limit_period_sec: float | None = None
    priority_enabled: bool = False
    partition_queue: bool = False
    polling_interval_sec: float = 1.0
    partition_concurrency: int | None = None
    partition_worker_concurrency: int | None = None
    partition_rate_limit_max: int | None = None
    partition_rate_limit_period_sec: float | None = None
    application_name: str | None = None

    @property
    def has_partition_limits(self) -> bool:
        """Whether any limit for each key is set in the newer spelling."""
        return (
            self.partition_concurrency is not None
            or self.partition_worker_concurrency is not None
            or self.partition_rate_limit_max is not None
        )

    @property
    def rate(self) -> RateLimit | None:
        """The stored limiter of the queue, or of each key in the older spelling."""
        return _rate(self.rate_limit_max, self.rate_limit_period_sec)

    @property
    def partition_rate(self) -> RateLimit | None:
        """The stored limiter of each key, in the newer spelling."""
        return _rate(self.partition_rate_limit_max, self.partition_rate_limit_period_sec)

    def limits(self) -> QueueLimits:
        """What is enforced, with the older spelling resolved."""
        if self.partition_queue:
            return QueueLimits(
                name=self.name,
                partition_concurrency=self.concurrency,
                partition_worker_concurrency=self.worker_concurrency,
                partition_rate=self.rate,
                is_partitioned=True,
                polling_interval_s=self.polling_interval_sec,
            )
        return QueueLimits(
            name=self.name,
            global_concurrency=self.concurrency,
            worker_concurrency=self.worker_concurrency,
            rate=self.rate,
            partition_concurrency=self.partition_concurrency,
            partition_worker_concurrency=self.partition_worker_concurrency,
            partition_rate=self.partition_rate,
            is_partitioned=self.has_partition_limits,
            polling_interval_s=self.polling_interval_sec,
        )


def _rate(limit: int | None, period_s: float | None) -> RateLimit | None:
    return None if limit is None or period_s is None else RateLimit(limit, period_s)


_COLUMNS = tuple(field.name for field in fields(QueueSettings))
_LISTED = ", ".join(_COLUMNS)
_FLAGS = ("priority_enabled", "partition_queue")


@dataclass(frozen=True, slots=True)
class Registration:
    """A queue to be made, or made anew."""

    queue_id: str
    settings: QueueSettings
    on_conflict: QueueConflictPolicy
    application_version: str | None
    """The version that registers it; None for a client."""


class Registered(NamedTuple):
    """What is stored after a registration, and whether it is another application's."""

    settings: QueueSettings
    is_foreign: bool


# The update of an existing row changes nothing: it locks the row and returns it.
INSERT = Statement(
    f"""
    INSERT INTO {{queues}} (queue_id, {_LISTED}, created_at, updated_at)
    VALUES (:queue_id, {", ".join(f":{column}" for column in _COLUMNS)}, {{now_ms}}, {{now_ms}})
    ON CONFLICT (name) DO UPDATE SET name = excluded.name
    RETURNING queue_id, {_LISTED}
    """
)

OVERWRITE = Statement(
    f"""
    UPDATE {{queues}} SET {", ".join(f"{column} = :{column}" for column in _COLUMNS[1:])},
        updated_at = {{now_ms}}
    WHERE name = :name
    """
)


def register_all(tx: Tx, registrations: Sequence[Registration]) -> list[Registered]:
    """Make queues, or overwrite those that exist as their registrations say."""
    return [_register(tx, registration) for registration in registrations]


def _register(tx: Tx, asked: Registration) -> Registered:
    row = tx.one(INSERT, queue_id=asked.queue_id, **_values(asked.settings))
    assert row is not None, "an upsert returns its row"
    stored = _settings(row[1:])
    if row[0] == asked.queue_id:
        return Registered(stored, is_foreign=False)
    owner, mine = stored.application_name, asked.settings.application_name
    if owner is not None and mine is not None and owner != mine:
        return Registered(stored, is_foreign=True)
    if not _overwrites(tx, asked):
        return Registered(stored, is_foreign=False)
    fresh = replace(asked.settings, application_name=owner if mine is None else mine)
    tx.run(OVERWRITE, **_values(fresh))
    return Registered(fresh, is_foreign=False)


def _overwrites(tx: Tx, asked: Registration) -> bool:
    if asked.on_conflict != "update_if_latest_version":
        return asked.on_conflict == "always_update"
    latest = tx.one(LATEST, application_name=asked.settings.application_name)
    return latest is not None and latest[0] == asked.application_version


def _registered_topics(asked: Registration, _: Registered) -> Iterable[Topic]:
    yield Topic("queue", asked.settings.name)


register: Final = Write("register_queue", register_all, _registered_topics)


@dataclass(frozen=True, slots=True)
class Revision:
    """A change of one queue's settings, judged against those that are stored.

    `revise` is pure: it returns the new settings, or the error that says why they may not be.
    """

    name: str
    revise: Callable[[QueueSettings], QueueSettings | DBOSException]


LOCK = Statement(
    f"UPDATE {{queues}} SET updated_at = {{now_ms}} WHERE name = :name RETURNING {_LISTED}"
)


def revise_all(tx: Tx, revisions: Sequence[Revision]) -> list[QueueSettings | DBOSException | None]:
    """Change settings; None where there is no such queue."""
    return [_revise(tx, revision) for revision in revisions]


def _revise(tx: Tx, revision: Revision) -> QueueSettings | DBOSException | None:
    row = tx.one(LOCK, name=revision.name)
    if row is None:
        return None
    revised = revision.revise(_settings(row))
    if isinstance(revised, QueueSettings):
        tx.run(OVERWRITE, **_values(revised))
    return revised


def _revised_topics(
    revision: Revision, answer: QueueSettings | DBOSException | None
) -> Iterable[Topic]:
    if isinstance(answer, QueueSettings):
        yield Topic("queue", revision.name)


revise: Final = Write("revise_queue", revise_all, _revised_topics)

DELETE = Statement("DELETE FROM {queues} WHERE name {any_of(names)}")


def delete_all(tx: Tx, names: Sequence[str]) -> list[None]:
    """Forget queues; what is enqueued on them stays."""
    tx.run(DELETE, names=list(names))
    return [None] * len(names)


def _deleted_topics(name: str, _: None) -> Iterable[Topic]:
    yield Topic("queue", name)


delete: Final = Write("delete_queue", delete_all, _deleted_topics, rank=51)

FIND = Statement(f"SELECT {_LISTED} FROM {{queues}} WHERE name = :name")


@SingleRead
def find(tx: Tx, name: str) -> QueueSettings | None:
    """A queue's stored settings, whatever application it belongs to."""
    row = tx.one(FIND, name=name)
    return None if row is None else _settings(row)


IN_SCOPE = Statement(
    f"""
    SELECT {_LISTED} FROM {{queues}}
    WHERE :everything OR application_name IS NULL OR application_name {{any_of(applications)}}
    ORDER BY name
    """
)


@SingleRead
def in_scope(tx: Tx, applications: Sequence[str] | None) -> list[QueueSettings]:
    """The queues that these applications own, and unclaimed ones; all of them for None."""
    rows = tx.all(IN_SCOPE, everything=applications is None, applications=list(applications or ()))
    return [_settings(row) for row in rows]


SERVERS = Statement(
    """
    SELECT capabilities FROM {perdure_executors}
    WHERE lease_until_epoch_ms > {now_ms} AND (application_name IS NULL
        OR CAST(:application_name AS TEXT) IS NULL OR application_name = :application_name)
    """
)


def servers(
    tx: Tx, name: str, application_name: str | None
) -> tuple[QueueSettings | None, list[str]]:
    """A queue's settings, and what each live process of an application can do, as JSON."""
    rows = tx.all(SERVERS, application_name=application_name)
    return find(tx, name), [row[0] for row in rows]


def _values(settings: QueueSettings) -> Mapping[str, object]:
    return dict(zip(_COLUMNS, astuple(settings), strict=True))


def _settings(row: Sequence[object]) -> QueueSettings:
    values = dict(zip(_COLUMNS, row, strict=True))
    # SQLite has no booleans of its own.
    values.update({flag: bool(values[flag]) for flag in _FLAGS})
    return QueueSettings(**values)  # type: ignore[arg-type]
