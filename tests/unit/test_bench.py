"""What the measurements conclude from their figures. How fast anything is, no test asks."""

from __future__ import annotations

import pytest

from bench.__main__ import parse
from bench.catalogue import ROWS
from bench.compare import Spread, ratios, spread, standing, turns
from bench.plan import Figure, Limit, Ratio, Row, Targets
from bench.results import Run, lines
from bench.tables import BEGIN, END, filled, number, table
from bench.work.program import POLLING_PERIOD_S, SHORTEST_PAUSE_S, even_pauses_s, latencies

DURATION = Figure(
    "p50_ms", "a workflow", "ms", targets={"sqlite": Targets(bar=Ratio(3), goal=Ratio(5))}
)
THROUGHPUT = Figure("steps_per_s", "many workflows", "steps/s", more_is_better=True)
ROW = Row("row", "program", (DURATION,), {"steps": 10, "seconds": 3}, {"seconds": 0.5})


def test_the_sides_take_turns_so_that_each_pair_is_close_in_time() -> None:
    order = list(turns(2))

    assert order == ["reference", "ours", "reference", "ours"]


def test_one_side_alone_runs_as_often_as_there_are_pairs() -> None:
    order = list(turns(3, only="ours"))

    assert order == ["ours", "ours", "ours"]


def test_a_spread_has_the_least_the_median_and_the_greatest() -> None:
    numbers = [7.0, 1.0, 100.0, 3.0]

    found = spread(numbers)

    assert found == Spread(least=1.0, middle=5.0, greatest=100.0)


def test_no_numbers_have_no_spread() -> None:
    assert spread([]) is None


def test_a_ratio_above_one_means_that_we_took_less_time() -> None:
    found = ratios([10.0, 30.0], [5.0, 3.0], more_is_better=False)

    assert found == [2.0, 10.0]


def test_a_ratio_above_one_means_that_we_did_more() -> None:
    found = ratios([100.0, 200.0], [400.0, 100.0], more_is_better=True)

    assert found == [4.0, 0.5]


def test_a_pair_that_would_divide_by_zero_has_no_ratio() -> None:
    found = ratios([0.0, 10.0], [50.0, 50.0], more_is_better=True)

    assert found == [5.0]


@pytest.mark.parametrize(
    ("times", "expected"), [(2.9, "below bar"), (3.0, "bar"), (4.9, "bar"), (5.0, "goal")]
)
def test_a_ratio_reaches_a_target_when_its_median_does(times: float, expected: str) -> None:
    targets = DURATION.targets["sqlite"]

    reached = standing(DURATION, targets, Spread(0.1, times, 99.0), None)

    assert reached == expected


@pytest.mark.parametrize(
    ("figure", "middle", "expected"),
    [
        (DURATION, 11.0, "below bar"),
        (DURATION, 10.0, "bar"),
        (DURATION, 2.0, "goal"),
        (THROUGHPUT, 1.0, "below bar"),
        (THROUGHPUT, 10.0, "goal"),
    ],
)
def test_a_limit_is_kept_from_the_side_that_is_better(
    figure: Figure, middle: float, expected: str
) -> None:
    targets = Targets(bar=Limit(10, "ms"), goal=Limit(2, "ms"))

    reached = standing(figure, targets, None, Spread(middle, middle, middle))

    assert reached == expected


def test_without_our_side_there_is_nothing_to_judge() -> None:
    assert standing(DURATION, DURATION.targets["sqlite"], None, None) == ""
    assert standing(DURATION, Targets(Limit(1, ""), Limit(1, "")), None, None) == ""


def test_a_line_compares_the_runs_of_a_pair_with_each_other() -> None:
    runs = [_run("reference", 20.0), _run("ours", 2.0), _run("reference", 60.0), _run("ours", 3.0)]

    (line,) = lines([ROW], runs)

    assert line.reference == Spread(20.0, 40.0, 60.0)
    assert line.ours == Spread(2.0, 2.5, 3.0)
    assert line.ratio == Spread(10.0, 15.0, 20.0)
    assert line.standing == "goal"


def test_a_failed_run_takes_its_partner_out_of_the_ratio_and_no_other() -> None:
    runs = [_run("reference", 20.0), _run("ours", None), _run("reference", 60.0), _run("ours", 3.0)]

    (line,) = lines([ROW], runs)

    assert line.ratio == Spread(20.0, 20.0, 20.0)
    assert line.reference == Spread(20.0, 40.0, 60.0)


def test_a_database_that_was_not_run_has_no_line() -> None:
    found = lines([ROW], [_run("ours", 2.0)])

    assert [line.database for line in found] == ["sqlite"]


def test_a_table_shows_the_spread_of_the_ratio_beside_bar_and_goal() -> None:
    runs = [_run("reference", 20.0), _run("ours", 2.0), _run("reference", 60.0), _run("ours", 3.0)]

    _, _, shown = table(lines([ROW], runs)).splitlines()

    cells = [cell.strip() for cell in shown.strip("|").split("|")]
    assert cells == [
        "a workflow",
        "sqlite",
        "40.0 ms",
        "2.50 ms",
        "10.0 - 15.0 - 20.0",
        "3x",
        "5x",
        "goal",
    ]


def test_a_table_of_one_side_leaves_the_rest_open() -> None:
    _, _, shown = table(lines([ROW], [_run("reference", 250.0)])).splitlines()

    cells = [cell.strip() for cell in shown.strip("|").split("|")]
    assert cells == ["a workflow", "sqlite", "250 ms", "-", "-", "3x", "5x", "-"]


def test_all_lines_of_a_table_are_equally_wide() -> None:
    shown = table(lines([ROW], [_run("reference", 12345.0)])).splitlines()

    assert len({len(line) for line in shown}) == 1


@pytest.mark.parametrize(
    ("value", "shown"), [(0.234, "0.23"), (9.876, "9.88"), (12.34, "12.3"), (12345.6, "12346")]
)
def test_a_number_shows_about_three_digits_that_count(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_document_keeps_what_is_outside_the_marks() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"

    changed = filled(document, "new")

    assert changed == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


def test_a_document_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="bench:begin"):
        filled("nothing to fill in", "new")


def test_a_quick_row_replaces_only_the_parameters_it_names() -> None:
    assert ROW.arguments(quick=False) == ["steps=10", "seconds=3"]
    assert ROW.arguments(quick=True) == ["steps=10", "seconds=0.5"]


def test_rows_have_names_of_their_own_and_figures_with_keys_of_their_own() -> None:
    names = [row.name for row in ROWS]

    assert len(set(names)) == len(names)
    for row in ROWS:
        assert len({figure.key for figure in row.figures}) == len(row.figures)


def test_rows_are_chosen_by_name_and_run_in_their_own_order() -> None:
    options = parse(["--rows", "threads,sequential_10", "--databases", "sqlite"])

    assert [row.name for row in options.rows] == ["sequential_10", "threads"]
    assert options.databases == ("sqlite",)


def test_an_unknown_row_is_refused_with_the_names_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse(["--rows", "sequential_11"])

    message = capsys.readouterr().err
    assert "unknown: sequential_11" in message
    assert "sequential_10" in message


def test_pauses_cover_a_polling_period_evenly() -> None:
    lengths = sorted(even_pauses_s(4))

    expected = [
        SHORTEST_PAUSE_S + POLLING_PERIOD_S * share for share in (1 / 8, 3 / 8, 5 / 8, 7 / 8)
    ]
    assert lengths == pytest.approx(expected)


def test_latencies_are_the_median_the_95th_percentile_and_the_worst_in_milliseconds() -> None:
    durations_s = [number / 1000 for number in range(101)]

    found = latencies(durations_s)

    assert found == pytest.approx({"p50_ms": 50.0, "p99_ms": 99.0, "max_ms": 100.0})


def _run(side: str, milliseconds: float | None) -> Run:
    figures = None if milliseconds is None else {"p50_ms": milliseconds}
    return Run("row", "sqlite", "ours" if side == "ours" else "reference", figures)
