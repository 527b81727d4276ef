"""The Dagster instance whose records a command reads."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.errors import InstanceError, Problem
from floe_orchestrator_dagster.redaction import redact_urls

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOME = "DAGSTER_HOME"
# Directory that `dagster dev` without DAGSTER_HOME creates where it was started, and removes when it stops.
_OF_DAGSTER_DEV = ".tmp_dagster_home_*"


@dataclass(frozen=True)
class FoundInstance:
    """An instance with the runs and events of earlier runs.

    Attributes:
        instance: The instance; an empty one in memory if there is none.
        place: Its directory; empty if there is none.
    """

    instance: dg.DagsterInstance
    place: str


@contextmanager
def instance_of_user() -> Iterator[FoundInstance]:
    """Open the instance of ``DAGSTER_HOME``, or that of a ``dagster dev`` that runs in the current directory.

    Raises:
        InstanceError: ``DAGSTER_HOME`` or its ``dagster.yaml`` is not valid.
    """
    home = os.environ.get(_HOME, "")
    running = sorted(Path.cwd().glob(_OF_DAGSTER_DEV), key=lambda path: path.stat().st_mtime)
    place = home or (str(running[-1]) if running else "")
    with _opened(place) as instance:
        yield FoundInstance(instance, place)


@contextmanager
def _opened(place: str) -> Iterator[dg.DagsterInstance]:
    if not place:
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance
        return
    path = Path(place).expanduser()
    if not path.is_absolute() or not path.is_dir():
        fix = "Set DAGSTER_HOME to the absolute path of an existing directory."
        raise InstanceError(_HOME, [Problem("", f"{place!r} is not an absolute path of a directory", fix)])
    try:
        opened = dg.DagsterInstance.from_config(str(path))
    except Exception as error:  # noqa: BLE001 - each storage's library raises its own errors
        what = redact_urls(str(error).strip() or type(error).__name__)
        fix = "Correct dagster.yaml in this directory, and check that its database runs."
        raise InstanceError(_HOME, [Problem("", f"Dagster cannot open {place}: {what}", fix)]) from None
    with opened as instance:
        yield instance
