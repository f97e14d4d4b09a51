"""Incarnations and their leases: who is alive, by the database's clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from dbos.storage.protocol import SingleRead, Statement, Topic, Tx, Write
from dbos.storage.rows import ExecutorRow

# An incarnation renews by writing its whole row again, so a row that a peer removed too early comes
# back.
RENEW = Statement(
    """
    INSERT INTO {perdure_executors} (incarnation_id, executor_id, application_name,
        application_version, version_policy, host, pid, process_started, lease_ms,
        lease_until_epoch_ms, started_at_epoch_ms, capabilities)
    VALUES (:incarnation_id, :executor_id, :application_name, :application_version, :version_policy,
        :host, :pid, :process_started, :lease_ms, {now_ms} + :lease_ms, {now_ms}, :capabilities)
    ON CONFLICT (incarnation_id) DO UPDATE SET lease_until_epoch_ms = {now_ms} + :lease_ms,
        application_version = :application_version, capabilities = :capabilities
    """
)


def renew_rows(tx: Tx, rows: Sequence[ExecutorRow]) -> list[None]:
    """Write this incarnation's row with a fresh lease."""
    for row in rows:
        _renew(tx, row)
    return [None] * len(rows)


# An engine renews one row; had it more, each would stand by itself.
renew: Final = Write("renew", renew_rows, rank=0, single=True)


def _renew(tx: Tx, row: ExecutorRow) -> None:
    tx.run(
        RENEW,
        incarnation_id=row.incarnation_id,
        executor_id=row.executor_id,
        application_name=row.application_name,
        application_version=row.application_version,
        version_policy=row.version_policy,
        host=row.host,
        pid=row.pid,
        process_started=row.process_started,
        lease_ms=row.lease_ms,
        capabilities=row.capabilities,
    )


REMOVE = Statement("DELETE FROM {perdure_executors} WHERE incarnation_id {any_of(incarnation_ids)}")


def remove_rows(tx: Tx, incarnation_ids: Sequence[str]) -> list[None]:
    """Forget incarnations that ended or are dead: what they own may be taken over at once."""
    tx.run(REMOVE, incarnation_ids=list(incarnation_ids))
    return [None] * len(incarnation_ids)


EXECUTORS = Topic("executors", "")
"""Rung when an incarnation has ended, so that others look at once what it leaves behind."""


def _removed_topics(_: str, __: None) -> Iterable[Topic]:
    return (EXECUTORS,)


remove: Final = Write("remove", remove_rows, _removed_topics, rank=99)


SWEEP = Statement(
    """
    DELETE FROM {perdure_executors} WHERE incarnation_id IN (
        SELECT gone.incarnation_id FROM {perdure_executors} AS gone
        WHERE gone.lease_until_epoch_ms < {now_ms} - :kept_ms
          AND NOT EXISTS (
            SELECT 1 FROM {workflow_status} AS run
            WHERE run.incarnation_id = gone.incarnation_id AND run.status = 'PENDING')
        {skip_locked(gone)})
    """
)


def sweep_all(tx: Tx, kept_ms: Sequence[int]) -> list[None]:
    """Forget incarnations that expired a while ago and own nothing."""
    tx.run(SWEEP, kept_ms=max(kept_ms))
    return [None] * len(kept_ms)


sweep: Final = Write("sweep_executors", sweep_all, rank=98)

PING = Statement("SELECT COUNT(*) FROM {perdure_executors}")


@SingleRead
def ping(tx: Tx) -> None:
    """Make sure that the database answers and our tables are there."""
    tx.one(PING)


class Capabilities(msgspec.Struct, frozen=True):
    """What an incarnation says it can run (schema.md, section 6)."""

    functions: list[tuple[str, str | None, str | None]] = []
    instances: list[tuple[str, str]] = []
    queues: list[str] = []
    formats: list[str] = []
    upgraded: list[tuple[str, str | None]] = []
    """Functions with which it runs what any version began."""


class Capable(NamedTuple):
    """A live incarnation, and what it can run."""

    incarnation_id: str
    application_name: str | None
    application_version: str
    version_policy: str
    can: Capabilities


CAPABLE = Statement(
    """
    SELECT incarnation_id, application_name, application_version, version_policy, capabilities
    FROM {perdure_executors} WHERE lease_until_epoch_ms > {now_ms}
    """
)


@SingleRead
def capable(tx: Tx) -> list[Capable]:
    """Who is alive, and what each can run. Who says it unreadably can run nothing."""
    return [Capable._make((*row[:4], _capabilities(row[4]))) for row in tx.all(CAPABLE)]


def _capabilities(text: str) -> Capabilities:
    try:
        return msgspec.json.decode(text, type=Capabilities)
    except msgspec.DecodeError:
        return Capabilities()


class ExecutorListing(NamedTuple):
    """One incarnation as it is listed. Times are milliseconds by the database's clock."""

    incarnation_id: str
    executor_id: str
    application_name: str | None
    application_version: str
    host: str
    pid: int
    started_at: int
    lease_left_ms: int
    runs_owned: int


LISTING = Statement(
    """
    SELECT incarnation_id, executor_id, application_name, application_version, host, pid,
        started_at_epoch_ms, lease_until_epoch_ms - {now_ms},
        (SELECT COUNT(*) FROM {workflow_status} AS run
         WHERE run.incarnation_id = executor.incarnation_id AND run.status = 'PENDING')
    FROM {perdure_executors} AS executor
    WHERE :every OR application_name IS NULL OR application_name = :application_name
    ORDER BY started_at_epoch_ms, incarnation_id
    """
)


@SingleRead
def listed(tx: Tx, application_name: str | None) -> list[ExecutorListing]:
    """The incarnations of an application, expired ones included; of all without a name."""
    rows = tx.all(LISTING, every=application_name is None, application_name=application_name or "")
    return [ExecutorListing(*row) for row in rows]
