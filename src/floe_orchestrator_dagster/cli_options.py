"""What the commands of ``floe-dagster`` have in common."""

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

artifacts_argument = click.argument("artifacts", required=False, type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def errors_reported() -> Iterator[None]:
    """Turn an error that was raised on purpose into a message and exit code 1."""
    try:
        yield
    except FloeDagsterError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


def artifacts_path(named: Path | None) -> Path:
    """Return the artifacts that the command line names, else those of the environment.

    Raises:
        ArtifactsError: Neither names any.
    """
    from floe_orchestrator_dagster.product import artifacts_path_from_environment

    return named.absolute() if named else artifacts_path_from_environment()


def echo_json(content: object) -> None:
    """Print JSON; instants as ISO 8601."""
    click.echo(json.dumps(content, indent=2, default=datetime.isoformat))
