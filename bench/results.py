"""What the runs of one session gave, and its lines of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.compare import Side, Spread, Standing, ratios, spread, standing
from bench.plan import Database, Figure, Row, Targets

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one program; `figures` is None when it failed."""

    row: str
    database: Database
    side: Side
    figures: Figures | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One figure on one database: both sides, the ratio, and how that compares with the targets."""

    row: str
    database: Database
    figure: Figure
    reference: Spread | None
    ours: Spread | None
    ratio: Spread | None
    targets: Targets | None
    standing: Standing


def lines(rows: Sequence[Row], runs: Sequence[Run]) -> list[Line]:
    """A line for every figure and database that was run, in the order of the rows."""
    return [
        _line(row, figure, database, runs)
        for row in rows
        for figure in row.figures
        for database in row.databases
        if database in figure.databases and _was_run(row, database, runs)
    ]


def _was_run(row: Row, database: Database, runs: Sequence[Run]) -> bool:
    return any(run.row == row.name and run.database == database for run in runs)


def _line(row: Row, figure: Figure, database: Database, runs: Sequence[Run]) -> Line:
    here = [run for run in runs if run.row == row.name and run.database == database]
    reference = _numbers(figure, [run for run in here if run.side == "reference"])
    ours = _numbers(figure, [run for run in here if run.side == "ours"])
    pairs = [pair for pair in zip(reference, ours, strict=False) if None not in pair]
    ratio = spread(
        ratios(
            [theirs for theirs, _ in pairs if theirs is not None],
            [our for _, our in pairs if our is not None],
            more_is_better=figure.more_is_better,
        )
    )
    our_spread = spread([number for number in ours if number is not None])
    targets = figure.targets.get(database)
    return Line(
        row=row.name,
        database=database,
        figure=figure,
        reference=spread([number for number in reference if number is not None]),
        ours=our_spread,
        ratio=ratio,
        targets=targets,
        standing=standing(figure, targets, ratio, our_spread),
    )


def _numbers(figure: Figure, runs: Sequence[Run]) -> list[float | None]:
    """One entry a run, None for a failed one, so that the pairs of both sides still match."""
    return [None if run.figures is None else run.figures[figure.key] for run in runs]
