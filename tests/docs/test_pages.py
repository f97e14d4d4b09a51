"""The pages run as written, and point to what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import (
    ALL_PAGES,
    DECISIONS,
    FENCE,
    PAGES,
    ROOT,
    RUN_ELSEWHERE,
    blocks_of,
    program_of,
    run_program,
)

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def runs_here(page: Path) -> bool:
    blocks = blocks_of(page.read_text())
    return page not in RUN_ELSEWHERE and any(block.continues_the_page for block in blocks)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors_of(markdown: str) -> set[str]:
    """The anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.*)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [page for page in PAGES if runs_here(page)], ids=named)
def test_a_page_runs_as_written(page: Path, tmp_path: Path) -> None:
    program = program_of(page.read_text())

    ended = run_program(program, tmp_path / "page.py")

    assert ended.code == 0, f"{named(page)} (lines are those of the page):\n{ended.complained}"


def test_a_page_whose_claim_does_not_hold_fails_at_the_line_of_the_claim(tmp_path: Path) -> None:
    page = (
        f"# Title\n\n{FENCE}python\nx = 1\n{FENCE}\n\nText\n\n{FENCE}python\nassert x == 2\n{FENCE}"
    )

    ended = run_program(program_of(page), tmp_path / "page.py")

    assert ended.code == 1
    assert 'page.py", line 10' in ended.complained


@pytest.mark.parametrize("page", RUN_ELSEWHERE, ids=named)
def test_a_page_that_is_run_elsewhere_is_named_there(page: Path) -> None:
    assert page.name in RUN_ELSEWHERE[page].read_text()


def test_the_tests_of_a_page_are_called(tmp_path: Path) -> None:
    page = f"{FENCE}python\ndef test_it() -> None:\n    raise SystemExit(7)\n{FENCE}\n"

    ended = run_program(program_of(page), tmp_path / "page.py")

    assert ended.code == 7


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_each_python_block_of_a_page_is_found(page: Path) -> None:
    markdown = page.read_text()

    fences = re.findall(rf"^\s*{FENCE}py.*$", markdown, re.MULTILINE)

    assert len(blocks_of(markdown)) == len(fences)


@pytest.mark.parametrize("page", ALL_PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]

    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target.read_text()), link


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_parts_and_is_in_the_list(decision: Path) -> None:
    text = decision.read_text()
    listed = (decision.parent / "README.md").read_text()

    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)

    assert headings == ["Context", "Decision", "Consequences"]
    assert text.startswith(f"# {int(decision.stem[:4])}. ")
    assert f"({decision.name})" in listed


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(decision.stem[:4]) for decision in DECISIONS]

    assert numbers == list(range(1, len(DECISIONS) + 1))


def test_the_glossary_is_in_order() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()

    words = re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE)

    assert words
    assert words == sorted(words)


def test_sources_named_in_the_documentation_exist() -> None:
    named_files = {
        (named(page), path)
        for page in ALL_PAGES
        for path in re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text())
    }

    missing = [(page, path) for page, path in named_files if not _source_exists(path)]

    assert named_files
    assert missing == []


def _source_exists(path: str) -> bool:
    return (ROOT / path).exists() or (ROOT / "src" / "dbos" / path).exists()
