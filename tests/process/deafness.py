"""A trial of lost bells: the sessions that listen are killed while messages flow."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import psycopg

from tests.process.errands import TELL_EVERY_S, Errand
from tests.process.hardship import place
from tests.process.ledger import Entry
from tests.process.trials import Crew, Verdict

KILL_EVERY_S = 0.4
LISTENING = "query ILIKE 'LISTEN%' AND datname = current_database()"
KILL = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {LISTENING}"
PROMPT_S = 2.0
"""What a lost bell may cost: whoever reconnects looks at all that is waited for."""


def lose_bells(directory: Path, *, pairs: int = 6, words: int = 80) -> Verdict:
    """Workflows of one process tell those of another, both ways, word by word."""
    verdict = Verdict("deaf again and again", "postgres", 0)
    with ExitStack() as stack:
        where = stack.enter_context(place("postgres", directory))
        crew = Crew(where, stack)
        crew.hire(2)
        for number in range(pairs):
            one, other = crew.lives[number % 2], crew.lives[1 - number % 2]
            crew.send([Errand(f"hear{number}", "hear", "background", words)], to=[one])
            crew.wait_acknowledged(crew.errands[-1:])
            crew.send([Errand(f"tell{number}", "tell", "background", words)], to=[other])
        with _listeners_killed(where.url) as killed:
            time.sleep(words * TELL_EVERY_S)
        crew.judge(verdict, crew.lives[0])
        delays = _delays(crew.entries())
    if not killed:
        verdict.complaints.append("Nobody was listening.")
    if len(delays) != pairs * words:
        verdict.complaints.append(f"{len(delays)} words were heard, not {pairs * words}.")
    verdict.seconds = max(delays, default=0.0)
    if verdict.seconds > PROMPT_S:
        verdict.complaints.append(f"A word was heard {verdict.seconds:.1f} s after it was told.")
    verdict.note = f"{len(killed)} sessions killed, p50 {median(delays or [0.0]) * 1000:.0f} ms"
    return verdict


@contextmanager
def _listeners_killed(url: str) -> Generator[Sequence[int]]:
    """Kill whoever listens, again and again for the length of the block."""
    over, killed = threading.Event(), list[int]()

    def kill() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not over.wait(KILL_EVERY_S):
                killed.extend(1 for _ in connection.execute(KILL.encode()).fetchall())

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()


def _delays(entries: Sequence[Entry]) -> list[float]:
    """For each word, the time from the return of its send to its mark by the receiver."""
    at_ns = {(e.step[0], e.name): e.at_ns for e in entries if e.kind == "begin"}
    return [
        max(0, heard_ns - at_ns[run.replace("hear", "tell"), name.replace("heard", "told")]) / 1e9
        for (run, name), heard_ns in at_ns.items()
        if name.startswith("heard")
    ]
