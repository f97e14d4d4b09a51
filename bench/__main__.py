"""The command line of the measurements: `python -m bench --help`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import environments, machine
from bench.catalogue import ROWS
from bench.compare import SIDES, Side, turns
from bench.databases import Databases, SqliteFiles, needs_server, postgres
from bench.environments import Interpreter
from bench.execution import run_once
from bench.plan import DATABASES, Database, Row
from bench.results import Run, lines
from bench.tables import filled, number, table


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    rows: tuple[Row, ...]
    databases: tuple[Database, ...]
    pairs: int
    quick: bool
    only: Side | None
    reference_python: Path | None
    postgres_url: str | None
    json: Path | None
    markdown: Path | None


def main() -> int:
    options = parse(sys.argv[1:])
    environments.prepare_cache()
    interpreters = _interpreters(options)
    facts = machine.facts()
    for interpreter in interpreters.values():
        facts[interpreter.side] = _listed(interpreter.versions())
    with ExitStack() as stack:
        databases: dict[Database, Databases] = {"sqlite": SqliteFiles()}
        if needs_server(options.databases):
            server = stack.enter_context(postgres(options.postgres_url))
            facts["postgres"] = _listed(server.settings())
            databases["postgres"] = server
        runs = measure(options, databases, interpreters)
    publish(options, facts, runs)
    return 1 if any(run.figures is None for run in runs) else 0


def measure(
    options: Options,
    databases: Mapping[Database, Databases],
    interpreters: Mapping[Side, Interpreter],
) -> list[Run]:
    """All rows on all databases, each row in turns of the two sides."""
    runs: list[Run] = []
    for row in options.rows:
        for database in (each for each in row.databases if each in options.databases):
            for side in turns(options.pairs, options.only):
                run = run_once(
                    row, database, databases[database], interpreters[side], quick=options.quick
                )
                runs.append(run)
                print(_progress(run), file=sys.stderr, flush=True)
    return runs


def publish(options: Options, facts: Mapping[str, str], runs: Sequence[Run]) -> None:
    """Prints the table, and writes the files that were asked for."""
    shown = table(lines(options.rows, runs))
    how = f"{options.pairs} alternating pairs" + (", short runs" if options.quick else "")
    listed = "\n".join(f"* {name}: {value}" for name, value in {**facts, "runs": how}.items())
    print(shown)
    if options.json is not None:
        content = {"facts": dict(facts), "runs": [asdict(run) for run in runs]}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    if options.markdown is not None:
        document = options.markdown.read_text()
        options.markdown.write_text(filled(document, f"{listed}\n\n{shown}"))


def parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m bench", description=_DESCRIPTION)
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", default=",".join(names), help="which, by name, with commas")
    parser.add_argument("--databases", default=",".join(DATABASES))
    parser.add_argument("--pairs", type=_positive, default=5)
    parser.add_argument("--quick", action="store_true", help="short runs, for a first look")
    parser.add_argument("--only", choices=SIDES, help="run one side alone")
    parser.add_argument("--reference-python", type=Path, metavar="PATH")
    parser.add_argument("--postgres-url", metavar="URL", help="a server to use; default: our own")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every run's figures")
    parser.add_argument("--markdown", type=Path, metavar="DOCUMENT", help="fill in the table")
    given = parser.parse_args(arguments)
    chosen = _chosen(parser, given.rows, names)
    return Options(
        rows=tuple(row for row in ROWS if row.name in chosen),
        databases=tuple(
            each for each in DATABASES if each in _chosen(parser, given.databases, DATABASES)
        ),
        pairs=given.pairs,
        quick=given.quick,
        only=given.only,
        reference_python=given.reference_python,
        postgres_url=given.postgres_url,
        json=given.json,
        markdown=given.markdown,
    )


_DESCRIPTION = "Compares this package with the reference, in alternating runs of the same programs."


def _chosen(parser: argparse.ArgumentParser, text: str, known: Sequence[str]) -> set[str]:
    chosen = {name.strip() for name in text.split(",")}
    if unknown := chosen - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return chosen


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _interpreters(options: Options) -> dict[Side, Interpreter]:
    found: dict[Side, Interpreter] = {}
    if options.only != "ours":
        found["reference"] = environments.reference(options.reference_python)
    if options.only != "reference":
        found["ours"] = environments.ours()
    return found


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _progress(run: Run) -> str:
    what = f"{run.row:18} {run.database:9} {run.side:10}"
    if run.figures is None:
        return f"{what} failed: {run.failure}"
    return what + "  ".join(f"{name} {number(value)}" for name, value in run.figures.items())


if __name__ == "__main__":
    sys.exit(main())
