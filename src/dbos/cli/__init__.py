"""The `dbos` command."""

from __future__ import annotations

import typer

from dbos.version import PACKAGE_VERSION

app: typer.Typer = typer.Typer(
    help="Durable workflows for Python.", no_args_is_help=True, add_completion=False
)


@app.callback()
def commands() -> None:
    """Durable workflows for Python."""


@app.command()
def version() -> None:
    """Print the version of this package."""
    typer.echo(PACKAGE_VERSION)


def main() -> None:
    """Run the command line."""
    app()
