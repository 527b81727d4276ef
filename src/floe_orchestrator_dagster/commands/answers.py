"""Output of commands: results on standard output, errors and progress on standard error."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.errors import FloeDagsterError

if TYPE_CHECKING:
    from collections.abc import Iterator

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
artifacts_argument = click.argument("artifacts", required=False, type=click.Path(path_type=Path))


def artifacts_path(named: Path | None) -> Path:
    """Return the path of the artifacts: the command line's, else that of FLOE_ARTIFACTS_PATH.

    Raises:
        ArtifactsError: Neither the command line nor the environment names artifacts.
    """
    from floe_orchestrator_dagster.product import artifacts_path_from_environment

    return named.absolute() if named else artifacts_path_from_environment()


def echo_json(content: object) -> None:
    """Print a JSON object."""
    click.echo(json.dumps(content, indent=2, default=datetime.isoformat))


@contextmanager
def errors_reported() -> Iterator[None]:
    """Turn a ``FloeDagsterError`` into a message and exit code 1."""
    try:
        yield
    except FloeDagsterError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


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
