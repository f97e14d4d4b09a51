"""Trials without a fault: processes that just work, and processes replaced one after another."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

from tests.process.errands import LARGEST_NUMBER, WALK_S, Errand
from tests.process.hardship import Kind, place
from tests.process.ledger import Entry, StepKey
from tests.process.lives import PATIENCE_S, Life
from tests.process.trials import Crew, Verdict, waits_after

BUSY: Final = 6
"""Strolls that each process has under way."""
PROMPT_S = 3.0
"""How long what a process hands over at its end may wait for another one."""


def stay_healthy(
    kind: Kind, directory: Path, *, minutes: float = 10.0, processes: int = 3
) -> Verdict:
    """Processes of the default label run long steps, and nothing else happens."""
    verdict = Verdict(f"healthy for {minutes:g} min", kind, 0)
    sent: dict[str, Life] = {}
    with ExitStack() as stack:
        crew = Crew(stack.enter_context(place(kind, directory)), stack)
        crew.hire(processes)
        until = time.monotonic() + minutes * 60
        while time.monotonic() < until:
            for life in crew.lives:
                fresh = [
                    Errand(f"stroll{len(sent) + n}", "stroll", "background", n) for n in range(BUSY)
                ]
                crew.send(fresh, to=[life])
                sent |= {errand.workflow_id: life for errand in fresh}
            crew.hear_all()
            # A stroll takes two steps; the next ones begin while the last of these go on.
            time.sleep(min(2 * WALK_S, max(0.0, until - time.monotonic())))
        crew.judge(verdict, crew.lives[0])
        taken_over = crew.observer.claimed_again("stroll")
        entries = crew.entries()
    verdict.doubled += [f"taken over: {run}" for run in taken_over]
    verdict.doubled += _strayed(entries, {run: life.pid for run, life in sent.items()})
    discarded = _discarded(entries)
    verdict.doubled += [f"discarded: {step}" for step in discarded]
    begun = sum(entry.kind == "begin" for entry in entries)
    verdict.note = f"{begun} steps, {len(taken_over)} takeovers, {len(discarded)} discarded"
    return verdict


def _strayed(entries: Sequence[Entry], owners: dict[str, int]) -> list[str]:
    """Steps that began more than once, or in another process than the one told to run them."""
    begun = Counter(entry.step for entry in entries if entry.kind == "begin")
    found = [f"{step} began {times} times" for step, times in begun.items() if times > 1]
    strayed = {entry.step for entry in entries if owners[entry.step[0]] != entry.pid}
    return found + [f"{step} was elsewhere" for step in sorted(strayed)]


def _discarded(entries: Sequence[Entry]) -> list[StepKey]:
    """Steps whose body ended, and whose result the workflow never got from the same process."""
    known = {(entry.step, entry.pid) for entry in entries if entry.kind == "known"}
    ended = [(entry.step, entry.pid) for entry in entries if entry.kind == "end"]
    return [step for step, pid in ended if (step, pid) not in known]


def replace_all(kind: Kind, directory: Path, *, errands: int = 12) -> Verdict:
    """Three processes end in good order, one after another, and others come in their place."""
    verdict = Verdict("rolling restart", kind, 0)
    waits: list[float] = []
    with ExitStack() as stack:
        # No patience: all that is under way is handed over.
        crew = Crew(stack.enter_context(place(kind, directory)), stack, patience_s=0)
        crew.hire(3)
        leavers = list(crew.lives)
        for turn, leaver in enumerate(leavers):
            sent = len(crew.errands)
            for number, life in enumerate(crew.lives):
                crew.send(_load(f"{turn}-{number}-", errands), to=[life])
            crew.wait_acknowledged(crew.errands[sent:])
            under_way = _under_way(crew, leaver, f"chain{turn}-0-")
            gone_at = time.monotonic_ns()
            assert crew.lives[0] is leaver
            crew.lives.remove(leaver)
            if leaver.end() != 0:
                verdict.complaints.append("A process did not end in good order.")
            crew.hire(1)
            waits += _handed_over(crew, leaver, gone_at, under_way, verdict)
        crew.judge(verdict, crew.lives[0])
    verdict.seconds = max(waits, default=0.0)
    if len(waits) < len(leavers):
        verdict.complaints.append("Too little was handed over to show anything.")
    if verdict.seconds > PROMPT_S:
        verdict.complaints.append(f"A run waited {verdict.seconds:.1f} s for its next process.")
    verdict.note = f"p50 {median(waits or [0.0]):.2f} s of {len(waits)} runs handed over"
    return verdict


def _load(prefix: str, errands: int) -> list[Errand]:
    """Some runs that sleep for seconds, some amid long steps, and some that are soon over."""
    found: list[Errand] = []
    for number in range(errands):
        asleep = Errand(f"chain{prefix}{number}", "chain", "background", 3 * LARGEST_NUMBER)
        amid = Errand(f"stroll{prefix}{number}", "stroll", "background", number)
        short = Errand(f"family{prefix}{number}", "family", "background", number)
        found.append((asleep, amid, short)[number % 3])
    return found


def _under_way(crew: Crew, leaver: Life, prefix: str) -> set[str]:
    """The sleeping runs of a process, once each has had its first step."""
    told = {run.workflow_id for run in crew.errands if run.workflow_id.startswith(prefix)}
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        begun = {entry.step[0] for entry in crew.entries() if entry.pid == leaver.pid}
        if told <= begun:
            break
        time.sleep(0.05)
    return told & set(crew.observer.active())


def _handed_over(
    crew: Crew, leaver: Life, gone_at: int, runs: set[str], verdict: Verdict
) -> list[float]:
    """How long these runs waited until another process worked on them."""
    until = time.monotonic() + 2 * PROMPT_S
    if not runs:
        return []
    while True:
        waits = waits_after(crew.entries(), leaver.pid, gone_at, runs)
        if len(waits) == len(runs):
            return waits
        if time.monotonic() > until:
            verdict.complaints.append(f"{len(runs) - len(waits)} runs were not handed over.")
            return waits
        time.sleep(0.05)
