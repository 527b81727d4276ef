"""What the commands share: errors as messages, and the artifacts that are meant when none are named."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.errors import FloeDagsterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def errors_reported() -> Iterator[None]:
    """Turn an error that was raised on purpose into a message and exit code 1."""
    try:
        yield
    except FloeDagsterError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


def artifacts_path(named: Path | None) -> Path:
    """Return the artifacts named on the command line, or those of ``FLOE_ARTIFACTS_PATH``.

    Raises:
        ArtifactsError: Neither is there.
    """
    from floe_orchestrator_dagster.product import artifacts_path_from_environment

    return named.absolute() if named else artifacts_path_from_environment()
