"""Kill workers amid transactions, fill their disk, and count every effect (`make transactions`).

python -m tests.process.transactions_storm [--seed N] [--kills N] [--orders N]
"""

from __future__ import annotations

import argparse
import random
import secrets
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psycopg

from tests.process.hardship import HARDSHIPS, Kind, Place, can_mount, place
from tests.process.lives import ROOT, environment
from tests.process.observer import Observer
from tests.process.transactions_plan import AMOUNT, PARTS, payments_of

Placement = Literal["system", "separate"]
SEATS = 2
PATIENCE_S = 120.0
MOST_WORK_S = 1.5
ROW = "{:<10} {:<10} {:<9} {:>5} {:>12} {:>7} {:>8} {:>7} {:>6} {:>7}"
COLUMNS = (
    *("database", "placement", "disk", "kills", "transactions"),
    *("doubled", "missing", "untrue", "active", "seconds"),
)
LEGEND = """
transactions: those that must have committed, once each.
doubled, missing: effects in the user's tables more than once, or not at all.
untrue: transactions that returned to their workflow and were not in the tables after the kill.
active: runs that have not ended. Each of the four must be 0."""
TABLES = (
    "CREATE TABLE payments (order_id TEXT, part INTEGER, amount INTEGER)",
    "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER)",
    *(f"INSERT INTO accounts VALUES ({part}, 0)" for part in range(PARTS)),
)


@dataclass(slots=True)
class Findings:
    """What a storm did, and what of it must not have been."""

    kills: int
    transactions: int
    doubled: dict[tuple[str, int], int]
    missing: set[tuple[str, int]]
    seconds: float
    untrue: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    active: list[str] = field(default_factory=list[str])
    balances: list[int] = field(default_factory=list[int])
    expected_balance: int = 0

    @property
    def is_clean(self) -> bool:
        found = (self.doubled, self.missing, self.untrue, self.active)
        return not any(found) and set(self.balances) == {self.expected_balance}


class TransactionStorm:
    """Workers over one system database and the user's tables, killed until enough were."""

    def __init__(
        self, where: Place, placement: Placement, seed: int, kills: int, orders: int
    ) -> None:
        self._where = where
        self._random = random.Random(f"{seed}/{where.kind}/{placement}")
        self._kills = kills
        self._orders = orders
        self._application_url = "-" if placement == "system" else _another_database(where)
        self._tables = where.url if placement == "system" else self._application_url
        self._untrue: set[tuple[str, int]] = set()

    def run(self, *, fills_disk: bool = False) -> Findings:
        began = time.monotonic()
        for statement in TABLES:
            self.ask(statement)
        seats = [self._start(seat) for seat in range(SEATS)]
        try:
            for number in range(self._kills):
                if fills_disk and number == self._kills // 2:
                    self._fill_disk()
                self._kill_one(seats)
            for seat in seats:
                if seat.wait(PATIENCE_S) != 0:
                    raise RuntimeError(f"A worker ended with status {seat.returncode}.")
        finally:
            for seat in seats:
                _kill(seat)
        return self.findings(time.monotonic() - began)

    def ask(self, statement: str) -> list[Any]:
        """Ask the database of the user's tables, behind the back of the package."""
        if self._tables.startswith("sqlite"):
            path = self._tables.removeprefix("sqlite:///")
            with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
                return connection.execute(statement).fetchall()
        with psycopg.connect(self._tables) as postgres:
            cursor = postgres.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def findings(self, seconds: float) -> Findings:
        """What the tables hold against what was ordered."""
        expected = payments_of(SEATS, self._orders)
        counts = Counter(self._payments())
        return Findings(
            kills=self._kills,
            transactions=len(expected),
            doubled={payment: count for payment, count in counts.items() if count > 1},
            missing=expected - set(counts),
            untrue=self._untrue,
            active=Observer(self._where.url).active(),
            balances=[balance for (balance,) in self.ask("SELECT balance FROM accounts")],
            expected_balance=SEATS * self._orders * AMOUNT,
            seconds=seconds,
        )

    def _start(self, seat: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.process.transactions_worker", self._where.url]
        command += [self._application_url, str(self._where.directory), str(seat)]
        with (self._where.directory / f"{time.monotonic_ns()}.stderr").open("wb") as complaints:
            return subprocess.Popen(
                [*command, str(self._orders)],
                cwd=ROOT,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=complaints,
            )

    def _kill_one(self, seats: list[subprocess.Popen[bytes]]) -> None:
        """Kill a worker at a moment after its launch, look, and start it again."""
        seat = self._random.randrange(SEATS)
        worker = seats[seat]
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(self._random.uniform(0, MOST_WORK_S))
        _kill(worker)
        self._untrue |= self._noted() - set(self._payments())
        seats[seat] = self._start(seat)

    def _fill_disk(self) -> None:
        full = next(hardship for hardship in HARDSHIPS if hardship.needs_own_disk)
        with full.inflict(self._where):
            time.sleep(full.lasts_s)

    def _noted(self) -> set[tuple[str, int]]:
        """What workflows were told has committed. A kill may have cut the last line short."""
        noted: set[tuple[str, int]] = set()
        for file in self._where.directory.glob("*.paid"):
            text = file.read_text()
            for line in text[: text.rfind("\n") + 1].splitlines():
                order, part = line.split()
                noted.add((order, int(part)))
        return noted

    def _payments(self) -> list[tuple[str, int]]:
        rows = self.ask("SELECT order_id, part FROM payments")
        return [(str(order), int(part)) for order, part in rows]


def _kill(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait()
    if worker.stdout is not None:
        worker.stdout.close()


def _another_database(where: Place) -> str:
    if where.kind == "sqlite":
        return f"sqlite:///{where.file.with_name('application.sqlite')}"
    return where.postgres.url(where.postgres.create_database())


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    print(f"seed {options.seed}\n\n{ROW.format(*COLUMNS)}", flush=True)
    failures = 0
    with tempfile.TemporaryDirectory(prefix="perdure-transactions-") as directory:
        root = Path(directory)
        for kind, placement, is_full in _storms(may_mount=can_mount(root)):
            apart = root / f"{kind}-{placement}-{is_full}"
            with place(kind, apart, own_disk=is_full) as where:
                storm = TransactionStorm(
                    where, placement, options.seed, options.kills, options.orders
                )
                found = storm.run(fills_disk=is_full)
            _print_row(kind, placement, found, "filled" if is_full else "roomy")
            failures += not found.is_clean
    print(LEGEND)
    return 1 if failures else 0


def _storms(*, may_mount: bool) -> list[tuple[Kind, Placement, bool]]:
    kinds: tuple[Kind, ...] = ("sqlite", "postgres")
    placements: tuple[Placement, ...] = ("system", "separate")
    storms = [(kind, placement, False) for kind in kinds for placement in placements]
    if may_mount:
        storms += [("sqlite", placement, True) for placement in placements]
    else:
        print("This account may not mount disks, so none is filled.")
    return storms


def _print_row(kind: Kind, placement: Placement, found: Findings, disk: str) -> None:
    figures = (kind, placement, disk, found.kills, found.transactions, len(found.doubled))
    counts = (len(found.missing), len(found.untrue), len(found.active), f"{found.seconds:.1f}")
    print(ROW.format(*figures, *counts), flush=True)
    if set(found.balances) != {found.expected_balance}:
        print(f"    balances {found.balances}, each must be {found.expected_balance}", flush=True)


def _options(arguments: list[str]) -> argparse.Namespace:
    prog = "python -m tests.process.transactions_storm"
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--orders", type=int, default=100, help="for each of two workers")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
