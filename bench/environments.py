"""The interpreters of the two sides: the reference in an environment of its own, ours as we are."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.compare import Side

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".bench"
REFERENCE = "dbos==2.31.1"
DRIVER = "psycopg[binary]"
PACKAGES = ("dbos", "perdure", "psycopg", "psycopg-binary", "sqlalchemy")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """How to run a program on one side. `origin` is the folder its `dbos` must come from."""

    side: Side
    python: Path
    path: tuple[Path, ...]
    origin: Path

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": ":".join(str(folder) for folder in self.path)}

    def versions(self) -> dict[str, str]:
        """The versions of the packages that matter, as far as they are installed here."""
        program = (
            "import importlib.metadata as found, json, sys\n"
            "names = {each.name.lower(): each.version for each in found.distributions()}\n"
            "print(json.dumps({n: names[n] for n in sys.argv[1:] if n in names}))"
        )
        command = [str(self.python), "-c", program, *PACKAGES]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        versions: dict[str, str] = json.loads(answer.stdout)
        return versions


def ours() -> Interpreter:
    source = ROOT / "src"
    return Interpreter("ours", Path(sys.executable), (source, ROOT), source)


def reference(python: Path | None) -> Interpreter:
    """The given interpreter, or that of an environment made on the first use and kept."""
    chosen = python or _made_environment() / "bin" / "python"
    prefix = subprocess.run(
        [str(chosen), "-c", "import sys; print(sys.prefix)"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Interpreter("reference", chosen, (ROOT,), Path(prefix.stdout.strip()))


def prepare_cache() -> Path:
    """The folder for what measurements need and leave; it tells git to look away."""
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    return CACHE


def _made_environment() -> Path:
    folder = prepare_cache() / f"reference-{REFERENCE.partition('==')[2]}"
    finished = folder / "finished"
    with _alone():
        if not finished.exists():
            print(f"Installing {REFERENCE} into {folder}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, REFERENCE, DRIVER], check=True, stdout=sys.stderr)
            finished.touch()
    return folder


@contextmanager
def _alone() -> Generator[None]:
    """One process of this machine at a time: tests run in several and need the environment too."""
    with (prepare_cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
