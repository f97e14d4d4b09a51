"""Renders results as a Markdown table, and puts it into a document between two marks."""

from __future__ import annotations

from collections.abc import Sequence

from bench.compare import Spread
from bench.results import Line

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"
TITLES = (
    "work",
    "database",
    "reference",
    "ours",
    "ratio (least - median - most)",
    "bar",
    "goal",
    "reached",
)
ABSENT = "-"


def table(lines: Sequence[Line]) -> str:
    """A Markdown table whose columns also line up on a terminal."""
    cells = [TITLES, *(_cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(TITLES))]
    ruler = tuple("-" * width for width in widths)
    return "\n".join(_joined(row, widths) for row in (cells[0], ruler, *cells[1:]))


def filled(document: str, content: str) -> str:
    """The document with everything between its two marks replaced."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The document needs the lines {BEGIN} and {END}, in this order.")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def number(value: float) -> str:
    """Three digits that count, and no exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _cells(line: Line) -> tuple[str, ...]:
    unit = line.figure.unit
    return (
        line.figure.title,
        line.database,
        _middle(line.reference, unit),
        _middle(line.ours, unit),
        _ratio(line.ratio),
        ABSENT if line.targets is None else str(line.targets.bar).strip(),
        ABSENT if line.targets is None else str(line.targets.goal).strip(),
        line.standing or ABSENT,
    )


def _middle(spread: Spread | None, unit: str) -> str:
    return ABSENT if spread is None else f"{number(spread.middle)} {unit}".strip()


def _ratio(ratio: Spread | None) -> str:
    if ratio is None:
        return ABSENT
    return " - ".join(number(value) for value in (ratio.least, ratio.middle, ratio.greatest))


def _joined(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return f"| {' | '.join(padded)} |"
