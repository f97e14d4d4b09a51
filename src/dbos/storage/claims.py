"""The claim: waiting runs become this incarnation's, under every limit of their queue.

Theory of operation. A queue without limits, on which no row with a key waits, is claimed by one
statement that skips what others have locked. Any other claim first takes the queue's lock, which
only such claims take; it then reads how much room there is and which runs may use it, chooses, and
claims the chosen. Meanwhile others can only free slots, never fill them, so no limit is exceeded.
Who finds the lock taken comes back in a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from dbos.storage.claim_choice import (
    Candidate,
    Room,
    Waiting,
    next_start_ms,
    period_ms,
    take_lanes,
    take_partitions,
)
from dbos.storage.past_starts import counted_starts, forget_starts
from dbos.storage.protocol import Row, Statement, Tx, Write
from dbos.storage.queue_limits import QueueLimits
from dbos.storage.rows import ClaimedRun

KEYS_AT_ONCE = 200
"""Partition keys that one claim looks at; the next one goes on from there."""

EACH_AT_ONCE = 20
"""Runs of one partition key that one claim looks at."""

SEPARATOR = "\x1f"
"""Stands between the names that make one text."""

Started = tuple[int, int | None]


@dataclass(frozen=True, slots=True)
class Runnable:
    """A workflow that a process can run."""

    name: str
    code_hash: str | None
    class_name: str | None = None
    is_async: bool = False
    any_version: bool = False
    """Whether runs of every version may be run with it."""

    @property
    def key(self) -> str:
        return f"{self.name}{SEPARATOR}{self.class_name or ''}"


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims: the identity written to the rows, and what it may run (contract, core 6.4)."""

    incarnation_id: str
    executor_id: str
    application_name: str
    application_version: str
    is_latest: bool
    any_version: bool
    by_source: bool
    formats: Sequence[str]
    functions: Sequence[Runnable]
    instances: Sequence[tuple[str, str]] = ()
    """Class and config name of the instances it has."""
    unnamed_format: str = "py_pickle"
    """The format of rows that name none."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """One bounded claim on one queue."""

    claimant: Claimant
    limits: QueueLimits
    claim: str
    batch: int
    threads: int | None = None
    """Free threads for sync workflows; None if there is no limit."""
    has_keys: bool = True
    """Whether rows with a partition key may wait."""
    after: str | None = None
    """The partition key served last; None to begin with the first."""


class Claimed(NamedTuple):
    """The runs that a claim got, in the order of their queue, and when to come back."""

    runs: list[ClaimedRun]
    is_more: bool = False
    """More may be waiting that could start now."""
    after: str | None = None
    next_start_ms: int | None = None
    """When a rate limit that holds runs up allows the next start."""
    is_contended: bool = False
    """Another process was claiming on the same queue: nothing was looked at."""


# SQLite uses a partial index only if its condition is repeated word for word.
_ACTIVE = "('ENQUEUED', 'PENDING')"

# Hidden in a CASE, the conditions that nearly every row fulfils cannot make the planner believe
# that few rows do: then it would read and sort a whole queue to find its first runs.
_ELIGIBLE = f"""
    run.status = 'ENQUEUED' AND run.queue_name = :queue_name AND CASE WHEN
    (run.application_name IS NULL OR run.application_name = :application_name)
    AND (run.not_before_epoch_ms IS NULL OR run.not_before_epoch_ms <= {{now_ms}}
         OR run.claim_error LIKE 'not_registered:%')
    AND COALESCE(run.serialization, :unnamed_format) {{any_of(formats)}}
    AND run.name || '{SEPARATOR}' || COALESCE(run.class_name, '') {{any_of(functions)}}
    AND (run.config_name IS NULL
         OR run.class_name || '{SEPARATOR}' || run.config_name {{any_of(instances)}})
    AND (:any_version OR run.application_version = :application_version
         OR (:is_latest AND run.application_version IS NULL)
         OR (:by_source AND run.name || '{SEPARATOR}' || COALESCE(run.class_name, '')
             || '{SEPARATOR}' || run.code_hash {{any_of(sources)}})
         OR run.name || '{SEPARATOR}' || COALESCE(run.class_name, '') {{any_of(upgraded)}})
    THEN TRUE ELSE FALSE END
"""

_ORDER = "run.priority, run.created_at, {enqueue_order(run)}"

_TAKE = """
    UPDATE {workflow_status} SET status = 'PENDING', owner_xid = :claim,
        incarnation_id = :incarnation_id, executor_id = :executor_id,
        application_version = :application_version, code_hash = r.code_hash,
        application_name = :application_name, rate_limited = :rate_limited,
        started_at_epoch_ms = picked.at_ms, updated_at = picked.at_ms, not_before_epoch_ms = NULL,
        recovery_attempts = COALESCE(recovery_attempts, 0) + 1,
        workflow_deadline_epoch_ms =
            COALESCE(workflow_deadline_epoch_ms, picked.at_ms + workflow_timeout_ms)
    FROM picked JOIN {rows}
      ON r.name = picked.run_name AND COALESCE(r.class_name, '') = picked.run_class
    WHERE {workflow_status}.workflow_uuid = picked.run_id
"""

_CLAIMED_COLUMNS = """
    workflow_status.workflow_uuid, workflow_status.name, workflow_status.class_name,
    workflow_status.config_name, workflow_status.inputs, workflow_status.serialization,
    workflow_status.owner_xid, workflow_status.recovery_attempts, workflow_status.queue_name,
    workflow_status.workflow_timeout_ms, workflow_status.workflow_deadline_epoch_ms,
    workflow_status.authenticated_user, workflow_status.assumed_role,
    workflow_status.authenticated_roles, workflow_status.parent_workflow_id,
    workflow_status.queue_partition_key, workflow_status.claim_returns, workflow_status.priority,
    workflow_status.created_at, {enqueue_number(workflow_status)}
"""
_RUN_FIELDS = 17

# One instant for the start and the deadline, so that a claim that is given back can tell its own
# deadline from one that was set before.
_PICKED = """
    run.workflow_uuid AS run_id, run.name AS run_name, COALESCE(run.class_name, '') AS run_class,
    {now_ms} AS at_ms
"""

_FUNCTION_COLUMNS = {
    "name": "text",
    "code_hash": "text",
    "class_name": "text",
    "is_async": "boolean",
}

CLAIM = Statement(
    f"""
    WITH picked AS MATERIALIZED (
        SELECT {_PICKED} FROM {{workflow_status}} AS run
        WHERE {_ELIGIBLE} AND run.queue_partition_key IS NULL
        ORDER BY {_ORDER} LIMIT :batch {{skip_locked(run)}})
    {_TAKE} RETURNING {_CLAIMED_COLUMNS}
    """,
    _FUNCTION_COLUMNS,
)

CLAIM_CHOSEN = Statement(
    f"""
    WITH picked AS MATERIALIZED (
        SELECT {_PICKED} FROM {{workflow_status}} AS run
        WHERE run.workflow_uuid {{any_of(workflow_ids)}}
          AND run.status = 'ENQUEUED' AND run.queue_name = :queue_name {{skip_locked(run)}})
    {_TAKE} RETURNING {_CLAIMED_COLUMNS}
    """,
    _FUNCTION_COLUMNS,
)

LOCK = Statement("SELECT {try_lock(queue_name)}")

# A run that was started again is known by its last start only: all its starts count until that one
# is over, however old they are. So a window may be used less than it could, and never more.
_STARTS = "CAST(COALESCE(SUM(start.starts), 0) AS BIGINT)"

# Each part is evaluated only where a limit asks for it.
ROOM = Statement(
    f"""
    SELECT
        CASE WHEN :counts_all THEN (
            SELECT COUNT(*) FROM {{workflow_status}} AS run WHERE run.queue_name = :queue_name
              AND run.status = 'PENDING' AND run.status IN {_ACTIVE}) ELSE 0 END,
        CASE WHEN :counts_here THEN (
            SELECT COUNT(*) FROM {{workflow_status}} AS run WHERE run.status = 'PENDING'
              AND run.incarnation_id = :incarnation_id AND run.queue_name = :queue_name)
            ELSE 0 END,
        {_STARTS}, MIN(start.at_ms)
    FROM {counted_starts(":period_ms >= 0")} AS start
    """
)

_CANDIDATE = f"""
    run.priority, run.created_at, {{enqueue_number(run)}} AS number, run.workflow_uuid,
    run.name || '{SEPARATOR}' || COALESCE(run.class_name, '') AS function
"""

KEYLESS = Statement(
    f"""
    SELECT {_CANDIDATE} FROM {{workflow_status}} AS run
    WHERE {_ELIGIBLE} AND run.queue_partition_key IS NULL
    ORDER BY {_ORDER} LIMIT :batch
    """
)

# The rows without a key of a partitioned queue, counted as one partition.
KEYLESS_ROOM = Statement(
    f"""
    SELECT
        (SELECT COUNT(*) FROM {{workflow_status}} AS run WHERE run.queue_name = :queue_name
           AND run.status = 'PENDING' AND run.status IN {_ACTIVE}
           AND run.queue_partition_key IS NULL),
        (SELECT COUNT(*) FROM {{workflow_status}} AS run WHERE run.status = 'PENDING'
           AND run.incarnation_id = :incarnation_id AND run.queue_name = :queue_name
           AND run.queue_partition_key IS NULL),
        {_STARTS}, MIN(start.at_ms)
    FROM {counted_starts(":period_ms >= 0 AND start.queue_partition_key IS NULL")} AS start
    """
)

_NEXT_KEY = """
    SELECT run.queue_partition_key FROM {workflow_status} AS run
    WHERE run.queue_name = :queue_name AND run.status = 'ENQUEUED'
      AND run.queue_partition_key IS NOT NULL AND run.queue_partition_key
"""

# Keys are found by leaping from one to the next in the index, so a deep key costs as much as a
# shallow one. On a plain queue the keys at the head of the queue are looked at as well: the order
# of the queue holds among lanes.
KEYS = Statement(
    f"""
    WITH RECURSIVE walk (lane, place) AS (
        SELECT ({_NEXT_KEY} >= :after ORDER BY run.queue_partition_key LIMIT 1), 1
        UNION ALL
        SELECT ({_NEXT_KEY} > walk.lane ORDER BY run.queue_partition_key LIMIT 1), walk.place + 1
        FROM walk WHERE walk.lane IS NOT NULL AND walk.place < :most),
    head AS (
        SELECT run.queue_partition_key AS lane FROM {{workflow_status}} AS run
        WHERE NOT :is_partitioned AND run.queue_name = :queue_name AND run.status = 'ENQUEUED'
          AND run.status IN {_ACTIVE}
        ORDER BY run.priority, run.created_at LIMIT :batch),
    lanes AS (
        SELECT found.lane, MAX(found.place) AS place
        FROM (SELECT lane, place FROM walk UNION ALL SELECT lane, 0 FROM head) AS found
        WHERE found.lane IS NOT NULL GROUP BY found.lane),
    state AS MATERIALIZED (
        SELECT lanes.lane, lanes.place, (
            SELECT COUNT(*) FROM {{workflow_status}} AS run WHERE run.queue_name = :queue_name
              AND run.status = 'PENDING' AND run.status IN {_ACTIVE}
              AND run.queue_partition_key IS NOT NULL AND run.queue_partition_key = lanes.lane
            ) AS running, CASE WHEN :counts_here THEN (
            SELECT COUNT(*) FROM {{workflow_status}} AS run WHERE run.status = 'PENDING'
              AND run.incarnation_id = :incarnation_id AND run.queue_name = :queue_name
              AND run.queue_partition_key = lanes.lane) ELSE 0 END AS running_here,
            CASE WHEN :is_partitioned THEN 0 ELSE (
            SELECT COUNT(*) FROM {{workflow_status}} AS run WHERE run.queue_name = :queue_name
              AND run.status = 'ENQUEUED' AND run.recovery_attempts > 0
              AND run.queue_partition_key = lanes.lane) END AS begun
        FROM lanes),
    starts AS MATERIALIZED (
        SELECT start.lane, {_STARTS} AS started, MIN(start.at_ms) AS oldest
        FROM {counted_starts(":period_ms >= 0")} AS start
        GROUP BY start.lane)
    SELECT state.lane, state.running, state.running_here, COALESCE(starts.started, 0),
        starts.oldest, CASE WHEN state.running > 0 AND NOT :is_partitioned THEN NULL ELSE (
        SELECT {{json_list}}({{json_row}}(
            c.priority, c.created_at, c.number, c.workflow_uuid, c.function))
        FROM (
            SELECT {_CANDIDATE} FROM {{workflow_status}} AS run
            WHERE {_ELIGIBLE} AND run.queue_partition_key IS NOT NULL
              AND run.queue_partition_key = state.lane
              AND CASE WHEN state.begun = 0 OR run.recovery_attempts > 0 THEN TRUE ELSE FALSE END
            ORDER BY {_ORDER} LIMIT :each) AS c) END, state.place
    FROM state LEFT JOIN starts ON starts.lane = state.lane
    ORDER BY state.place
    """
)

CLAIMED = Statement(
    f"""
    SELECT {_CLAIMED_COLUMNS} FROM {{workflow_status}}
    WHERE incarnation_id = :incarnation_id AND owner_xid = :claim AND status = 'PENDING'
    """
)

_candidates = msgspec.json.Decoder(list[Candidate])


def is_limited(limits: QueueLimits) -> bool:
    """Whether a claim on the queue must count first."""
    return limits.is_partitioned or not (
        limits.global_concurrency is None
        and limits.worker_concurrency is None
        and limits.rate is None
    )


def claim_all(tx: Tx, requests: Sequence[ClaimRequest]) -> list[Claimed]:
    """Claim runs that a process may run, with their inputs."""
    return [_claim(tx, request) for request in requests]


def claim_again(tx: Tx, requests: Sequence[ClaimRequest]) -> list[Claimed]:
    """Claim after a commit in doubt: what it had claimed is found again by its fresh token.

    Without this, runs whose claim was committed and never answered would be ours and never start.
    """
    return [_claimed_before(tx, request) or _claim(tx, request) for request in requests]


claim: Final = Write("claim", claim_all, rank=6, again=claim_again)


def _claimed_before(tx: Tx, request: ClaimRequest) -> Claimed | None:
    incarnation_id = request.claimant.incarnation_id
    rows = tx.all(CLAIMED, incarnation_id=incarnation_id, claim=request.claim)
    return Claimed(_runs(rows, request.limits), is_more=True) if rows else None


def _claim(tx: Tx, request: ClaimRequest) -> Claimed:
    limits = request.limits
    if not is_limited(limits) and not request.has_keys:
        return _claim_keyless(tx, request, request.batch)
    locked = tx.one(LOCK, queue_name=limits.name)
    if not (locked and locked[0]):
        return Claimed([], is_contended=True, after=request.after)
    periods = [period_ms(rate) for rate in (limits.rate, limits.partition_rate) if rate]
    if periods:
        forget_starts(tx, limits.name, max(periods))
    room, next_ms = _room(tx, request)
    if room < 1:
        return Claimed([], after=request.after, next_start_ms=next_ms)
    if limits.is_partitioned:
        return _claim_partitions(tx, request, room)
    if request.has_keys:
        return _claim_lanes(tx, request, room)
    return _claim_keyless(tx, request, room)


def _claim_keyless(tx: Tx, request: ClaimRequest, room: int) -> Claimed:
    """Rows without a key on a plain queue: they are claimed as they are found."""
    threads = request.threads
    batch = min(room, threads) if threads else room
    functions = _functions(request.claimant, only_async=threads == 0)
    rows = tx.all(CLAIM, **_eligibility(request, functions), **_identity(request), batch=batch)
    return Claimed(_runs(rows, request.limits), is_more=len(rows) == batch)


def _claim_lanes(tx: Tx, request: ClaimRequest, room_for: int) -> Claimed:
    room = _start_choice(request, room_for)
    lanes, is_cut = _keys(tx, request, request.after or "", each=1)
    take_lanes(room, _keyless(tx, request, room_for), lanes)
    runs = _claim_chosen(tx, request, room)
    return Claimed(runs, is_more=bool(runs) or is_cut, after=lanes[-1].key if is_cut else None)


def _claim_partitions(tx: Tx, request: ClaimRequest, room_for: int) -> Claimed:
    rate, after = request.limits.partition_rate, request.after
    room = _start_choice(request, room_for)
    later, is_cut = _keys(tx, request, after or "", each=EACH_AT_ONCE)
    partitions = _in_turn(tx, request, later, is_cut=is_cut)
    last = take_partitions(room, partitions, request.limits)
    runs = _claim_chosen(tx, request, room)
    waits = [
        next_start_ms(rate, waiting.started, waiting.oldest_start_ms)
        for waiting in partitions
        if waiting.candidates
    ]
    next_ms = min((wait for wait in waits if wait is not None), default=None)
    if last is not None:
        return Claimed(runs, is_more=True, after=last, next_start_ms=next_ms)
    after = later[-1].key if is_cut else after
    return Claimed(runs, is_more=is_cut, after=after, next_start_ms=next_ms)


def _in_turn(tx: Tx, request: ClaimRequest, later: list[Waiting], *, is_cut: bool) -> list[Waiting]:
    """The partitions in the order of their turns: behind the one served last, and around to it.

    Texts are compared by the database alone, whose order may not be ours.
    """
    after, keyless = request.after, _keyless_partition(tx, request)
    if after is None:
        return [keyless, *later]
    served = [partition for partition in later if partition.key == after]
    rest = [partition for partition in later if partition.key != after]
    earlier: list[Waiting] = []
    if after and not is_cut:
        known = {partition.key for partition in later}
        first, _ = _keys(tx, request, "", each=EACH_AT_ONCE)
        earlier = [partition for partition in first if partition.key not in known]
    return [*rest, keyless, *earlier, *served]


def _room(tx: Tx, request: ClaimRequest) -> tuple[int, int | None]:
    """How many runs the queue's own limits let start, and when its rate allows more."""
    limits = request.limits
    row = tx.one(
        ROOM,
        queue_name=limits.name,
        incarnation_id=request.claimant.incarnation_id,
        counts_all=limits.global_concurrency is not None,
        counts_here=limits.worker_concurrency is not None,
        period_ms=-1 if limits.rate is None else period_ms(limits.rate),
    )
    assert row is not None, "a SELECT without FROM gives a row"
    running, running_here, started, oldest_ms = row
    room = [request.batch]
    if limits.global_concurrency is not None:
        room.append(limits.global_concurrency - running)
    if limits.worker_concurrency is not None:
        room.append(limits.worker_concurrency - running_here)
    if limits.rate is not None:
        room.append(limits.rate.limit - started)
    return min(room), next_start_ms(limits.rate, started, oldest_ms)


def _start_choice(request: ClaimRequest, room_for: int) -> Room:
    sync = frozenset(known.key for known in request.claimant.functions if not known.is_async)
    return Room(room_for, request.threads, sync)


def _keyless(tx: Tx, request: ClaimRequest, batch: int) -> list[Candidate]:
    functions = _functions(request.claimant, only_async=request.threads == 0)
    rows = tx.all(KEYLESS, **_eligibility(request, functions), batch=batch)
    return [Candidate(*row) for row in rows]


def _keyless_partition(tx: Tx, request: ClaimRequest) -> Waiting:
    candidates = _keyless(tx, request, EACH_AT_ONCE)
    if not candidates:
        return Waiting(None, 0, 0, 0, None, ())
    rate = request.limits.partition_rate
    row = tx.one(
        KEYLESS_ROOM,
        queue_name=request.limits.name,
        incarnation_id=request.claimant.incarnation_id,
        period_ms=-1 if rate is None else period_ms(rate),
    )
    assert row is not None, "an aggregate gives a row"
    running, running_here, started, oldest_ms = row
    return Waiting(None, running, running_here, started, oldest_ms, candidates)


def _keys(tx: Tx, request: ClaimRequest, after: str, *, each: int) -> tuple[list[Waiting], bool]:
    """What waits under the keys from `after` on; and whether there are more keys than these."""
    limits = request.limits
    rate = limits.partition_rate
    # A lane waits for its first run even if that one waits for a thread.
    functions = _functions(
        request.claimant, only_async=limits.is_partitioned and request.threads == 0
    )
    rows = tx.all(
        KEYS,
        **_eligibility(request, functions),
        incarnation_id=request.claimant.incarnation_id,
        after=after,
        most=KEYS_AT_ONCE,
        each=each,
        batch=request.batch,
        is_partitioned=limits.is_partitioned,
        counts_here=limits.partition_worker_concurrency is not None,
        period_ms=-1 if rate is None else period_ms(rate),
    )
    keys = [
        Waiting(key, running, here, started, oldest_ms, _candidates.decode(candidates or "[]"))
        for key, running, here, started, oldest_ms, candidates, _ in rows
    ]
    return keys, bool(rows) and rows[-1][6] >= KEYS_AT_ONCE


def _claim_chosen(tx: Tx, request: ClaimRequest, room: Room) -> list[ClaimedRun]:
    if not room.taken:
        return []
    rows = tx.all(
        CLAIM_CHOSEN,
        **_identity(request),
        workflow_ids=room.taken,
        queue_name=request.limits.name,
        application_name=request.claimant.application_name,
        application_version=request.claimant.application_version,
    )
    return _runs(rows, request.limits)


def _functions(claimant: Claimant, *, only_async: bool) -> list[Runnable]:
    return [known for known in claimant.functions if known.is_async or not only_async]


def _eligibility(request: ClaimRequest, functions: Sequence[Runnable]) -> dict[str, object]:
    claimant = request.claimant
    return {
        "queue_name": request.limits.name,
        "application_name": claimant.application_name,
        "application_version": claimant.application_version,
        "unnamed_format": claimant.unnamed_format,
        "formats": list(claimant.formats),
        "functions": [known.key for known in functions],
        "sources": [
            f"{known.key}{SEPARATOR}{known.code_hash}"
            for known in functions
            if known.code_hash is not None
        ],
        "upgraded": [known.key for known in functions if known.any_version],
        "instances": [SEPARATOR.join(instance) for instance in claimant.instances],
        "is_latest": claimant.is_latest,
        "any_version": claimant.any_version,
        "by_source": claimant.by_source,
    }


def _identity(request: ClaimRequest) -> dict[str, object]:
    limits = request.limits
    return {
        "rows": list(request.claimant.functions),
        "claim": request.claim,
        "incarnation_id": request.claimant.incarnation_id,
        "executor_id": request.claimant.executor_id,
        "rate_limited": not (limits.rate is None and limits.partition_rate is None),
    }


def _runs(rows: Sequence[Row], limits: QueueLimits) -> list[ClaimedRun]:
    """The claimed runs in the order of their queue."""
    limited = is_limited(limits)
    runs = [ClaimedRun(*row[:_RUN_FIELDS]) for row in sorted(rows, key=_queue_order)]
    return [
        run._replace(holds_slot=True) if limited or run.partition_key is not None else run
        for run in runs
    ]


def _queue_order(row: Row) -> tuple[int, int, int]:
    return row[_RUN_FIELDS], row[_RUN_FIELDS + 1], row[_RUN_FIELDS + 2]
