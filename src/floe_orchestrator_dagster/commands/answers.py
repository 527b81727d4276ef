"""Output of commands: results on standard output, errors and progress on standard error."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from floe_orchestrator_dagster.errors import ArtifactsError, FloeDagsterError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WIDTH = 100
# The page of `dagster dev` with the graph of all assets. Dagster's first page lists runs.
_LINEAGE_PAGE = "http://127.0.0.1:3000/asset-groups"
_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
artifacts_argument = click.argument("artifacts", required=False, type=click.Path(path_type=Path))


def artifacts_path(named: Path | None) -> Path:
    """Return the path of the artifacts: the command line's, else that of FLOE_ARTIFACTS_PATH.

    Raises:
        ArtifactsError: Neither the command line nor the environment names artifacts.
    """
    from floe_orchestrator_dagster.product import ARTIFACTS_PATH_VARIABLE, artifacts_path_from_environment

    if named is not None:
        return named.absolute()
    if os.environ.get(ARTIFACTS_PATH_VARIABLE):
        return artifacts_path_from_environment()
    here = ", which is in this directory" if Path("compiled_artifacts.json").is_file() else ""
    fix = (
        f"Pass the path of the product's compiled_artifacts.json{here}, or set the variable to it.\n"
        "    No product yet? `floe-dagster init` makes one of a dbt project, `floe-dagster demo orders` a sample."
    )
    raise ArtifactsError(ARTIFACTS_PATH_VARIABLE, [Problem("", "the environment variable is not set", fix)])


def echo_json(content: object) -> None:
    """Print a JSON object."""
    click.echo(json.dumps(content, indent=2, default=datetime.isoformat))


def echo_listed(names: str) -> None:
    """Print indented names: wrapped on a terminal, and whole in a pipe, so that ``grep`` finds them."""
    click.echo(click.wrap_text(names, _WIDTH, "    ", "    ") if sys.stdout.isatty() else f"    {names}")


def echo_dagster_commands(commands: Iterable[str]) -> None:
    """Print the commands that serve a product with ``dagster dev``, and the page to open."""
    click.echo("\nTo start Dagster:\n")
    for command in commands:
        click.echo(f"  {command}")
    click.echo(f"\nThe lineage is then at {_LINEAGE_PAGE}")


def echo_message(kind: Literal["error", "warning", "note"], text: object) -> None:
    """Print a message to standard error; its kind is coloured on a terminal unless ``NO_COLOR`` is set."""
    shown = kind if os.environ.get("NO_COLOR") else click.style(kind, fg=_COLOURS[kind], bold=True)
    click.echo(f"{shown}: {text}", err=True)


@contextmanager
def errors_reported(exit_code: int = 1) -> Iterator[None]:
    """Turn a ``FloeDagsterError`` into a message and an exit code."""
    try:
        yield
    except FloeDagsterError as error:
        echo_message("error", error)
        sys.exit(exit_code)


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """Show a progress bar with the elapsed time, on a terminal only. The bar disappears at the end."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TimeElapsedColumn())
    console = Console(stderr=True)
    # Other output keeps its stream: only the bar itself is drawn on standard error.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as shown:
        shown.add_task(doing, total=None)
        yield
