"""The documentation as programs: the Python blocks of a page, at the lines where they stand."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
DECISIONS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
ALL_PAGES = (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "docs" / "adr" / "README.md", *DECISIONS)

RUN_ELSEWHERE = {ROOT / "docs" / "testing.md": ROOT / "tests" / "crash" / "test_page.py"}
"""Pages that another test runs, together with what they say is printed."""

FENCE = "```"
MARKER = re.compile(r"<!-- (no-run|program): (\S.*\S) -->")
ENDS_WITHIN_S = 60
"""Far more than any page takes: it ends what hangs."""


@dataclass(frozen=True, slots=True)
class Block:
    """One Python block, and the marker above it if there is one."""

    line: int
    """Of its first line of code, from 1."""
    text: str
    no_run: str | None = None
    """Why it cannot run."""
    program: str | None = None
    """The file that it is, if it is a program of its own."""

    @property
    def continues_the_page(self) -> bool:
        return self.no_run is None and self.program is None


def blocks_of(markdown: str) -> list[Block]:
    """The Python blocks of a page, in order."""
    return list(_blocks(markdown.splitlines()))


def program_of(markdown: str) -> str:
    """A page as one program: its blocks in order, each at its own lines, then its tests."""
    lines = [""] * (len(markdown.splitlines()) + 1)
    for block in blocks_of(markdown):
        if block.continues_the_page:
            text = block.text.splitlines()
            lines[block.line - 1 : block.line - 1 + len(text)] = text
    program = "\n".join(lines)
    tests = [
        node.name
        for node in ast.parse(program).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    return program + "".join(f"\n{name}()" for name in tests) + "\n"


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended."""

    pid: int
    code: int
    printed: str
    complained: str


def run_program(text: str, file: Path, **environment: str) -> Ended:
    """Write a program to a file and run it there, in a process of its own."""
    file.write_text(text)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DBOS")}
    with subprocess.Popen(
        [sys.executable, file.name],
        cwd=file.parent,
        env={**inherited, "PYTHONPATH": str(ROOT / "src"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            printed, complained = process.communicate(timeout=ENDS_WITHIN_S)
        finally:
            process.kill()
    return Ended(process.pid, process.returncode, printed, complained)


def _blocks(lines: Sequence[str]) -> Iterator[Block]:
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith(FENCE):
            continue
        if start is None:
            start = number
            continue
        if lines[start].strip() == f"{FENCE}python":
            marker = MARKER.fullmatch(_line_above(lines, start))
            kind, said = marker.groups() if marker else ("", None)
            yield Block(
                line=start + 2,
                text="\n".join(lines[start + 1 : number]) + "\n",
                no_run=said if kind == "no-run" else None,
                program=said if kind == "program" else None,
            )
        start = None


def _line_above(lines: Sequence[str], number: int) -> str:
    """The last line above that is not blank."""
    return next((line.strip() for line in reversed(lines[:number]) if line.strip()), "")
