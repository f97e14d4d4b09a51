"""Claims under all limits at once, against a model: whatever happens, no limit is exceeded."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbos.storage import executors, management, recovery, rewinding
from dbos.storage.management import Command
from dbos.storage.protocol import Database
from dbos.storage.queue_limits import QueueLimits, RateLimit
from dbos.storage.recovery import TakeOver
from dbos.storage.rewinding import Rewinding
from tests.storage.waiting_runs import QUEUE, Process, enqueue, finish, live, waiting

LONG_S = 100_000.0
"""No example outlasts this window, so a limiter allows so many starts in all."""

small = st.one_of(st.none(), st.integers(1, 3))
rates = st.one_of(st.none(), st.builds(RateLimit, st.integers(1, 5), st.just(LONG_S)))
plain = st.builds(
    QueueLimits,
    st.just(QUEUE),
    global_concurrency=small,
    worker_concurrency=small,
    rate=rates,
)
partitioned = st.builds(
    QueueLimits,
    st.just(QUEUE),
    global_concurrency=small,
    worker_concurrency=small,
    rate=rates,
    partition_concurrency=small,
    partition_worker_concurrency=small,
    partition_rate=rates,
    is_partitioned=st.just(True),
)
events = st.lists(
    st.one_of(
        st.tuples(st.just("enqueue"), st.sampled_from(["a", "b", "c", None]), st.integers(0, 2)),
        st.tuples(st.just("claim"), st.integers(0, 1), st.integers(1, 3)),
        st.tuples(st.just("finish"), st.integers(0, 5), st.just(0)),
        st.tuples(
            st.sampled_from(["cancel", "resume", "rewind", "delete"]),
            st.integers(0, 9),
            st.just(0),
        ),
        st.tuples(st.just("die"), st.integers(0, 1), st.just(0)),
    ),
    max_size=25,
)

Event = tuple[str, object, int]


class Model:
    """What waits and what runs, in memory; it judges each claim and says when one is missing."""

    def __init__(self, database: Database, limits: QueueLimits) -> None:
        self.database = database
        self.limits = limits
        self.processes = [Process(database, name) for name in ("one", "two")]
        self.place: dict[str, tuple[int, int]] = {}
        self.key: dict[str, str | None] = {}
        self.waiting: set[str] = set()
        self.begun: set[str] = set()
        self.stopped: set[str] = set()
        self.finished: set[str] = set()
        self.running: dict[str, str] = {}
        self.started: list[str] = []
        """Every start, also of runs that were cancelled, resumed, rewound or deleted since."""
        for process in self.processes:
            live(database, process.incarnation, "{}")

    def do(self, event: Event) -> None:
        kind, subject, number = event
        if kind == "enqueue":
            assert subject is None or isinstance(subject, str)
            self.enqueue(subject, number)
            return
        assert isinstance(subject, int)
        match kind:
            case "claim":
                self.claim(self.processes[subject], number)
            case "finish" if self.running:
                self.finish(sorted(self.running)[subject % len(self.running)])
            case "cancel" | "resume" | "rewind" | "delete" if self.place:
                getattr(self, kind)(sorted(self.place)[subject % len(self.place)])
            case "die":
                self.die(subject)
            case _:
                pass

    def enqueue(self, key: str | None, priority: int) -> None:
        run = f"r{len(self.key)}"
        enqueue(self.database, waiting(run, queue_partition_key=key, priority=priority))
        self.place[run] = (priority, len(self.key))
        self.key[run] = key
        self.waiting.add(run)

    def claim(self, process: Process, batch: int) -> None:
        answer = process.claimed(self.limits, batch)
        taken = [run.workflow_id for run in answer.runs]
        assert len(taken) <= batch
        assert set(taken) <= self.waiting
        if not self.limits.is_partitioned:
            self.judge_order(process, taken)
        for run in taken:
            self.waiting.remove(run)
            self.begun.add(run)
            self.running[run] = process.incarnation
            self.started.append(run)
        self.judge()
        if not answer.is_more and not taken:
            assert self.startable(process) == [], "a claim left behind what could start"

    def finish(self, run: str) -> None:
        finish(self.database, run)
        del self.running[run]
        self.finished.add(run)

    def cancel(self, run: str) -> None:
        with self.database.write() as tx:
            management.cancel_all(tx, [Command((run,))])
        self.waiting.discard(run)
        self.running.pop(run, None)
        if run not in self.finished:
            self.stopped.add(run)

    def resume(self, run: str) -> None:
        with self.database.write() as tx:
            management.resume_all(tx, [Command((run,), queue_name=QUEUE)])
        if run not in self.running and run not in self.finished:
            self.wait_afresh(run)

    def rewind(self, run: str) -> None:
        change = Rewinding(run, 1, f"w{len(self.started)}", QUEUE, self.key[run], None)
        with self.database.write() as tx:
            rewinding.rewind_all(tx, [change])
        if run in self.stopped or run in self.finished:
            self.wait_afresh(run)

    def wait_afresh(self, run: str) -> None:
        self.stopped.discard(run)
        self.finished.discard(run)
        self.begun.discard(run)
        self.waiting.add(run)

    def delete(self, run: str) -> None:
        with self.database.write() as tx:
            management.delete_all(tx, [Command((run,))])
        del self.place[run]
        for known in (self.waiting, self.begun, self.stopped, self.finished):
            known.discard(run)
        self.running.pop(run, None)

    def die(self, number: int) -> None:
        """A process ends, its runs are taken over, and another takes its place."""
        dead = self.processes[number]
        gone = {run for run, owner in self.running.items() if owner == dead.incarnation}
        self.processes[number] = dead.with_other(f"{dead.incarnation}'")
        live(self.database, self.processes[number].incarnation, "{}")
        with self.database.write() as tx:
            executors.remove_rows(tx, [dead.incarnation])
            recovery.take_over_all(tx, [TakeOver("shop", f"t{len(self.started)}", 100)])
        for run in gone:
            del self.running[run]
            self.waiting.add(run)

    def judge(self) -> None:
        """No limit is exceeded."""
        limits, runs = self.limits, self.running
        keys = Counter(self.key[run] for run in runs)
        assert _within(len(runs), limits.global_concurrency)
        for process in self.processes:
            own = [run for run, owner in runs.items() if owner == process.incarnation]
            assert _within(len(own), limits.worker_concurrency)
            own_keys = Counter(self.key[run] for run in own)
            assert all(_within(n, limits.partition_worker_concurrency) for n in own_keys.values())
        assert _within(len(self.started), _most(limits.rate))
        if limits.is_partitioned:
            assert all(_within(n, limits.partition_concurrency) for n in keys.values())
            starts = Counter(self.key[run] for run in self.started)
            assert all(_within(n, _most(limits.partition_rate)) for n in starts.values())
        else:
            assert all(n == 1 for key, n in keys.items() if key is not None)

    def judge_order(self, process: Process, taken: list[str]) -> None:
        assert taken == self.startable(process)[: len(taken)]

    def startable(self, process: Process) -> list[str]:
        """What a claim of this process may take next, in the order of the queue."""
        limits, starts = self.limits, len(self.started)
        own = sum(owner == process.incarnation for owner in self.running.values())
        used = (
            (len(self.running), limits.global_concurrency),
            (own, limits.worker_concurrency),
            (starts, _most(limits.rate)),
        )
        if any(limit is not None and count >= limit for count, limit in used):
            return []
        candidates = sorted(self.waiting, key=self.place.__getitem__)
        if limits.is_partitioned:
            return [run for run in candidates if self.has_room(process, self.key[run])]
        return [run for run in candidates if self.key[run] is None or self.leads(run)]

    def has_room(self, process: Process, key: str | None) -> bool:
        limits = self.limits
        running = [run for run in self.running if self.key[run] == key]
        own = [run for run in running if self.running[run] == process.incarnation]
        starts = [run for run in self.started if self.key[run] == key]
        return (
            _below(len(running), limits.partition_concurrency)
            and _below(len(own), limits.partition_worker_concurrency)
            and _below(len(starts), _most(limits.partition_rate))
        )

    def leads(self, run: str) -> bool:
        """Whether a run is the one that its lane may start now."""
        lane = [other for other in self.place if self.key[other] == self.key[run]]
        if any(other in self.running for other in lane):
            return False
        waiting_ones = [other for other in lane if other in self.waiting]
        begun = [other for other in waiting_ones if other in self.begun]
        return run == min(begun or waiting_ones, key=self.place.__getitem__)


def _within(count: int, limit: int | None) -> bool:
    return limit is None or count <= limit


def _most(rate: RateLimit | None) -> int | None:
    return None if rate is None else rate.limit


def _below(count: int, limit: int | None) -> bool:
    return limit is None or count < limit


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits=st.one_of(plain, partitioned), happenings=events)
def test_claims_keep_every_limit_and_miss_nothing(
    database: Database, limits: QueueLimits, happenings: list[Event]
) -> None:
    database.reset(truncate=True)  # type: ignore[attr-defined]
    model = Model(database, limits)

    for event in happenings:
        model.do(event)
