"""The README keeps its shape and its word."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import dbos
from tests.docs.pages import README, ROOT, blocks_of, run_program

TEXT = README.read_text()


def program_named(name: str) -> str:
    return next(block.text for block in blocks_of(TEXT) if block.program == name)


def between_marks(name: str) -> str:
    return TEXT.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]


def exists(name: str) -> bool:
    owner = dbos.DBOS if name.startswith("DBOS.") else dbos
    return hasattr(owner, name.removeprefix("DBOS."))


def test_the_example_is_killed_and_goes_on_from_its_record(tmp_path: Path) -> None:
    program = program_named("order.py")

    first = run_program(program, tmp_path / "order.py", CRASH="1")
    second = run_program(program, tmp_path / "order.py")
    third = run_program(program, tmp_path / "order.py")

    assert (first.code, first.printed) == (-signal.SIGKILL, ""), first.complained
    told = f"telescope reserved by process {first.pid}, sold by process {second.pid}\n"
    assert (second.code, second.printed) == (0, told), second.complained
    assert (third.code, third.printed) == (0, told), third.complained
    assert (tmp_path / "shop.sqlite").exists()


def test_the_example_has_fifteen_lines() -> None:
    lines = [line for line in program_named("order.py").splitlines() if line]

    assert len(lines) == 15


def test_every_program_of_its_own_is_run_by_a_test() -> None:
    programs = {block.program for block in blocks_of(TEXT)} - {None}

    assert programs == {"order.py"}


def test_the_readme_is_short() -> None:
    assert len(TEXT.splitlines()) < 150


def test_the_first_commands_are_the_demonstration_and_the_tests() -> None:
    commands = re.findall(r"^    (\S.*)$", TEXT, re.MULTILINE)

    assert commands[:2] == ["make demo", "make test"]


def test_commands_that_are_named_are_targets() -> None:
    texts = (TEXT, (ROOT / "CONTRIBUTING.md").read_text())
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    named = {name for text in texts for name in re.findall(r"(?:^    |`)make (\w+)", text, re.M)}

    assert named
    assert named <= set(targets)


def test_what_is_said_to_be_missing_is_missing() -> None:
    names = re.findall(r"`([\w.]+)`", between_marks("missing"))

    arrived = [name for name in names if exists(name)]

    assert names
    assert arrived == [], "these are there now: list them under 'Working today' in README.md"
