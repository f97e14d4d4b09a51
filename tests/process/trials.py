"""Trials: workers that go through a hardship, and what an outside ledger says about it.

Theory of operation. Two workers get errands before, during and after a hardship. What they have
acknowledged must be in the database, each errand must come to its known result, and no step may
begin after its record was seen. The time to return is that from the end of the hardship to the
first word of the slower worker.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psycopg

from tests.process.driver import count_tracebacks
from tests.process.errands import LARGEST_NUMBER, Errand, draw_errands
from tests.process.hardship import Hardship, Place, place
from tests.process.ledger import Entry, Snapshot, read_ledger, runs_after_record
from tests.process.lives import Heard, Life
from tests.process.observer import Observer

PATIENCE_S = 60.0
FREEZES = 400
FREEZE_S = 0.004
SETTLE_S = 0.5


@dataclass(slots=True)
class Verdict:
    """What a trial showed. All but the first block must be empty."""

    name: str
    database: str
    errands: int
    seconds: float = 0.0
    """The time to return, or the longest takeover."""
    note: str = ""

    lost: list[str] = field(default_factory=list[str])
    doubled: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    hung: list[str] = field(default_factory=list[str])
    complaints: list[str] = field(default_factory=list[str])

    @property
    def is_clean(self) -> bool:
        return not any((self.lost, self.doubled, self.wrong, self.hung, self.complaints))


class Crew:
    """Workers over one database, all with the same label, and what they were told to do."""

    def __init__(
        self, where: Place, stack: ExitStack, lease_s: float = 15.0, patience_s: int = 10
    ) -> None:
        self.where = where
        self.observer = Observer(where.url)
        self.lives: list[Life] = []
        self.errands: list[Errand] = []
        self.snapshots: list[Snapshot] = []
        self._stack = stack
        self._lease_s = lease_s
        self._patience_s = patience_s

    def hire(self, count: int) -> None:
        """Start workers side by side, and wait until all are launched."""
        hired = [self._begin() for _ in range(count)]
        for life in hired:
            life.be_ready()

    def _begin(self) -> Life:
        life = Life(
            self.where.url,
            self.where.directory,
            Heard(),
            lease_s=self._lease_s,
            patience_s=self._patience_s,
        )
        self._stack.callback(life.abandon)
        self.lives.append(life)
        return life

    def send(self, errands: Iterable[Errand], to: Sequence[Life] | None = None) -> None:
        """Spread errands over the workers."""
        lives = to or self.lives
        for number, errand in enumerate(errands):
            lives[number % len(lives)].send(errand)
            self.errands.append(errand)

    def look(self) -> None:
        self.snapshots.append(self.observer.snapshot())

    def hear_all(self) -> None:
        """Take in what was said so far."""
        for life in self.lives:
            while life.listen(time.monotonic()):
                pass

    def wait_acknowledged(self, errands: Iterable[Errand]) -> None:
        """Wait until the workers have said that these are durably started."""
        missing = {errand.workflow_id for errand in errands}
        deadline = time.monotonic() + PATIENCE_S
        while missing and time.monotonic() < deadline:
            for life in self.lives:
                life.listen(time.monotonic() + 0.02)
                missing -= life.heard.acknowledged

    def judge(self, verdict: Verdict, asked: Life) -> Verdict:
        """Ask one worker for all results, and compare with ledger and database."""
        for errand in self.errands:
            asked.ask_result(errand.workflow_id)
        deadline = time.monotonic() + PATIENCE_S
        wanted = {errand.workflow_id for errand in self.errands}
        while wanted - asked.heard.results.keys() and asked.listen(deadline):
            pass
        self.hear_all()
        self.look()
        statuses = self.observer.statuses()
        acknowledged = {run for life in self.lives for run in life.heard.acknowledged}
        verdict.errands = len(self.errands)
        verdict.lost = sorted(acknowledged - set(statuses))
        for errand in self.errands:
            result = asked.heard.results.get(errand.workflow_id)
            if result is None:
                verdict.hung.append(errand.workflow_id)
            elif result != str(errand.expected):
                verdict.wrong.append(f"{errand.workflow_id}: {result}, not {errand.expected}")
        entries = read_ledger(self.where.directory)
        rerun = runs_after_record(entries, self.snapshots)
        verdict.doubled += [entry.text().strip() for entry in rerun.values()]
        if count := count_tracebacks(self.where.directory):
            verdict.complaints.append(f"{count} tracebacks in what the workers wrote")
        return verdict

    def entries(self) -> list[Entry]:
        return read_ledger(self.where.directory)


def endure(hardship: Hardship, directory: Path, *, seed: int = 1, errands: int = 40) -> Verdict:
    """Two workers go through a hardship of their database."""
    verdict = Verdict(hardship.name, hardship.kind, 0)
    drawn = draw_errands(3 * errands, "errand", random.Random(seed))
    own_disk = hardship.needs_own_disk
    with ExitStack() as stack:
        where = stack.enter_context(place(hardship.kind, directory, own_disk=own_disk))
        crew = Crew(where, stack)
        crew.hire(2)
        crew.send(drawn[:errands])
        time.sleep(SETTLE_S)
        crew.look()
        with hardship.inflict(where):
            crew.send(drawn[errands : 2 * errands])
            time.sleep(hardship.lasts_s)
            crew.hear_all()
        verdict.seconds = _first_words(crew, drawn[2 * errands :])
        return crew.judge(verdict, crew.lives[0])


def _first_words(crew: Crew, errands: Sequence[Errand]) -> float:
    """How long the slower worker took to finish anything from now on."""
    began = time.monotonic()
    crew.send(errands)
    for life in crew.lives:
        life.listen(began + PATIENCE_S)
    return time.monotonic() - began


def take_over(
    kind: str, directory: Path, *, lease_s: float, is_frozen: bool, errands: int = 20
) -> Verdict:
    """One of three workers goes for good; how long its runs wait until another works on them."""
    manner = "frozen" if is_frozen else "killed"
    verdict = Verdict(f"{manner}, lease {lease_s:g} s", kind, 0)
    sleeping = LARGEST_NUMBER * 2
    drawn = [
        Errand(f"chain{number}", "chain", "background", sleeping + number)
        for number in range(errands)
    ]
    with ExitStack() as stack:
        where = stack.enter_context(place("sqlite" if kind == "sqlite" else "postgres", directory))
        crew = Crew(where, stack, lease_s)
        crew.hire(3)
        victim = crew.lives[2]
        crew.send(drawn, to=[victim])
        crew.wait_acknowledged(drawn)
        time.sleep(SETTLE_S)
        crew.look()
        gone_at = time.monotonic_ns()
        if is_frozen:
            victim.freeze()
        else:
            victim.kill()
            crew.lives.remove(victim)
        crew.judge(verdict, crew.lives[0])
        waits = waits_after(crew.entries(), victim.pid, gone_at)
        if is_frozen:
            thawed_at = time.monotonic_ns()
            victim.thaw()
            time.sleep(2.0)
            verdict.doubled += _done_by(crew.entries(), victim.pid, thawed_at)
    if not waits:
        verdict.complaints.append("Nothing was taken over.")
        return verdict
    verdict.seconds = max(waits)
    verdict.note = f"p50 {median(waits):.1f} s, p100 {max(waits):.1f} s of {len(waits)} runs"
    return verdict


def freeze_amid_transaction(directory: Path, *, lease_s: float = 3.0) -> Verdict:
    """A process freezes with rows locked: its other runs must not wait for those locks."""
    verdict = Verdict("frozen amid a write", "postgres", 0)
    with ExitStack() as stack:
        where = stack.enter_context(place("postgres", directory))
        crew = Crew(where, stack, lease_s)
        crew.hire(2)
        survivor, victim = crew.lives
        sleeping = [
            Errand(f"chain{n}", "chain", "background", 3 * LARGEST_NUMBER + n) for n in range(10)
        ]
        crew.send(sleeping, to=[victim])
        crew.wait_acknowledged(sleeping)
        time.sleep(SETTLE_S)
        crew.send(draw_errands(400, "busy", random.Random(1)), to=[victim])
        if not _frozen_with_locks(where, victim):
            verdict.complaints.append("The process was never caught amid a transaction.")
        gone_at = time.monotonic_ns()
        # Those it never began are nobody's yet.
        statuses = crew.observer.statuses()
        crew.errands = [errand for errand in crew.errands if errand.workflow_id in statuses]
        crew.judge(verdict, survivor)
        runs = {errand.workflow_id for errand in sleeping}
        waits = waits_after(crew.entries(), victim.pid, gone_at, runs)
        all_waits = waits_after(crew.entries(), victim.pid, gone_at)
        victim.thaw()
    if len(waits) < len(sleeping):
        verdict.complaints.append("Runs that were not locked were not taken over.")
    verdict.seconds = max(waits, default=0.0)
    verdict.note = (
        f"p50 {median(waits or [0.0]):.1f} s of {len(waits)} runs that were not locked, "
        f"p100 {max(all_waits, default=0.0):.1f} s of all {len(all_waits)}"
    )
    return verdict


def _frozen_with_locks(where: Place, victim: Life) -> bool:
    """Freeze a process at a moment at which a transaction of its is open; False if none came."""
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE state = 'idle in transaction' AND backend_xid IS NOT NULL"
    )
    with psycopg.connect(where.url, autocommit=True) as connection:
        for _ in range(FREEZES):
            victim.freeze()
            time.sleep(FREEZE_S)
            row = connection.execute(query.encode()).fetchone()
            if row is not None and row[0] > 0:
                return True
            victim.thaw()
            time.sleep(FREEZE_S)
    return False


def waits_after(
    entries: list[Entry], victim: int, gone_at: int, runs: set[str] | None = None
) -> list[float]:
    """For each run of the victim, or of these, the time until another process worked on it."""
    runs = runs or {entry.step[0] for entry in entries if entry.pid == victim}
    first: dict[str, int] = {}
    for entry in entries:
        if entry.pid != victim and entry.at_ns > gone_at and entry.step[0] in runs:
            first.setdefault(entry.step[0], entry.at_ns)
    return [(at_ns - gone_at) / 1e9 for at_ns in first.values()]


def _done_by(entries: list[Entry], zombie: int, thawed_at: int) -> list[str]:
    """Steps that a process began, or was told of as recorded, after it had lost its runs."""
    return [
        f"by the thawed process: {entry.text().strip()}"
        for entry in entries
        if entry.pid == zombie and entry.at_ns > thawed_at and entry.kind in ("begin", "known")
    ]


def share_a_label(kind: str, directory: Path, *, errands: int = 6, newcomers: int = 2) -> Verdict:
    """Processes of one label come and go while another one is amid long steps."""
    verdict = Verdict("one label, long steps", kind, 0)
    drawn = [Errand(f"stroll{n}", "stroll", "background", n) for n in range(errands)]
    with ExitStack() as stack:
        where = stack.enter_context(place("sqlite" if kind == "sqlite" else "postgres", directory))
        crew = Crew(where, stack)
        crew.hire(1)
        crew.send(drawn)
        crew.wait_acknowledged(drawn)
        for _ in range(newcomers):
            crew.hire(1)
        crew.judge(verdict, crew.lives[0])
        begun: defaultdict[tuple[str, int], int] = defaultdict(int)
        for entry in crew.entries():
            begun[entry.step] += entry.kind == "begin"
    verdict.doubled += [f"{step} began {n} times" for step, n in begun.items() if n > 1]
    return verdict


def start_cold(kind: str, directory: Path, *, processes: int = 6) -> Verdict:
    """Many processes start on an empty database at the same moment."""
    verdict = Verdict(f"cold start of {processes}", kind, 0)
    with ExitStack() as stack:
        where = stack.enter_context(place("sqlite" if kind == "sqlite" else "postgres", directory))
        crew = Crew(where, stack)
        crew.hire(processes)
        verdict.seconds = max(life.launch_s for life in crew.lives)
        crew.send(draw_errands(processes * 4, "errand", random.Random(1)))
        return crew.judge(verdict, crew.lives[0])
