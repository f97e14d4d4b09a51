"""Put workers through faults of database and process, and print what an outside ledger says.

python -m tests.process.faults [--seed N] [--only WORD] [--minutes N]
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.process.deafness import lose_bells
from tests.process.hardship import HARDSHIPS, Hardship, Kind
from tests.process.shifts import replace_all, stay_healthy
from tests.process.trials import (
    Verdict,
    endure,
    freeze_amid_transaction,
    share_a_label,
    start_cold,
    take_over,
)

ROW = "{:<24} {:<9} {:>7} {:>5} {:>7} {:>5} {:>5} {:>8}  {}"
HEAD = ("fault", "database", "errands", "lost", "doubled", "wrong", "hung", "seconds", "")
LEGEND = """
lost: acknowledged and not in the database. doubled: a step began after its record was seen, or
while another process ran it. wrong, hung: other results than known, or none. Each must be 0.
Of healthy processes, each takeover and each step whose result was dropped counts as doubled.
seconds: from the end of the fault until the slower worker finishes something again, or until the
last run of a process that went is worked on by another, or the longest way of a message."""

Trial = Callable[[Path], Verdict]


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    print(f"seed {options.seed}\n\n{ROW.format(*HEAD)}", flush=True)
    failures = 0
    with tempfile.TemporaryDirectory(prefix="perdure-faults-") as name:
        # The database server runs as another account, and must get through.
        Path(name).chmod(0o755)
        for number, (label, trial) in enumerate(_trials(options, Path(name))):
            if options.only in label:
                verdict = trial(Path(name) / str(number))
                _print_row(verdict)
                failures += not verdict.is_clean
    print(LEGEND)
    return 1 if failures else 0


def _trials(options: argparse.Namespace, directory: Path) -> list[tuple[str, Trial]]:
    trials: list[tuple[str, Trial]] = [
        (f"{hardship.kind} {hardship.name}", _enduring(hardship, options.seed))
        for hardship in HARDSHIPS
        if hardship.may_be(directory)
    ]
    trials.append(("postgres frozen amid a write", freeze_amid_transaction))
    trials.append(("postgres deaf", lose_bells))
    kinds: tuple[Kind, ...] = ("sqlite", "postgres")
    for kind in kinds:
        trials.append((f"{kind} rolling restart", partial(replace_all, kind)))
        trials.append((f"{kind} cold start", partial(start_cold, kind)))
        trials.append((f"{kind} one label", partial(share_a_label, kind)))
        for lease_s in (15.0, 3.0):
            for is_frozen in (False, True):
                trial = partial(take_over, kind, lease_s=lease_s, is_frozen=is_frozen)
                trials.append((f"{kind} takeover", trial))
    for kind in kinds:
        healthy = partial(stay_healthy, kind, minutes=options.minutes)
        trials.append((f"{kind} healthy", healthy))
    return trials


def _enduring(hardship: Hardship, seed: int) -> Trial:
    return partial(endure, hardship, seed=seed)


def _print_row(verdict: Verdict) -> None:
    counts = [len(found) for found in (verdict.lost, verdict.doubled, verdict.wrong, verdict.hung)]
    cells = (verdict.name, verdict.database, verdict.errands, *counts, f"{verdict.seconds:.1f}")
    print(ROW.format(*cells, verdict.note), flush=True)
    for line in (
        *(f"lost: {found}" for found in verdict.lost),
        *(f"doubled: {found}" for found in verdict.doubled),
        *(f"wrong: {found}" for found in verdict.wrong),
        *(f"hung: {found}" for found in verdict.hung),
        *verdict.complaints,
    ):
        print(f"    {line}", flush=True)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.process.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--only", default="", help="only trials whose name holds this word")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to stay healthy")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
