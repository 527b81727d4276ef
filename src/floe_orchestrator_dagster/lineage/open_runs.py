"""The jobs that a process has begun and not ended, on disk: when it dies without a word, somebody else ends them.

    <run>-<token>.open    one line for each START, the event itself; one for each end, ``{"ended": <runId>}``

The process that writes a file holds its lock, and removes the file when nothing in it is open any more.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import orjson
from openlineage.client.event_v2 import RunState

from floe_orchestrator_dagster.lineage.envelope import error_facet
from floe_orchestrator_dagster.lineage.json_line import as_json_line
from floe_orchestrator_dagster.lineage.run import event_time
from floe_orchestrator_dagster.lineage.segment import open_locked
from floe_orchestrator_dagster.lineage.spool import make_private, run_in_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from openlineage.client.event_v2 import RunEvent

_SUFFIX = ".open"
_NEW_FILE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL


class OpenRuns:
    """What one process has begun; where it cannot be written, nothing is noted and nothing else happens."""

    def __init__(self, directory: Path, run: str) -> None:
        """Take the product's spool directory and the Dagster run; the file is made with the first START."""
        self._path = directory / f"{run_in_name(run)}-{secrets.token_hex(4)}{_SUFFIX}"
        self._descriptor: int | None = None

    def note(self, event: RunEvent) -> None:
        """Note a START or an end."""
        with suppress(OSError):
            if event.eventType is RunState.START:
                self._write(as_json_line(event))
            elif self._descriptor is not None:
                self._write(orjson.dumps({"ended": event.run.runId}))

    def close(self) -> None:
        """Remove the file: all that was begun is ended, which it says itself where it cannot be removed."""
        if self._descriptor is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, line: bytes) -> None:
        if self._descriptor is None:
            make_private(self._path.parent)
            self._descriptor = os.open(self._path, _NEW_FILE, mode=0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(self._descriptor, line + b"\n")


def end_open_runs(directory: Path, run: str, why: str, at: datetime) -> Iterator[bytes]:
    """Make the ABORT of everything that dead processes of a Dagster run have left open; each file goes before that.

    Processes that live are left alone: they tell the end themselves.

    Args:
        directory: The product's spool directory.
        run: The Dagster run's id.
        why: Said in ``errorMessage``.
        at: When.

    Yields:
        Events as JSON, with the run ids, inputs and outputs of their STARTs.

    Raises:
        OSError: The directory cannot be read, or a file of it read or removed, which stays as it is, and nothing of it
            is told; the other files are done then.
    """
    trouble: OSError | None = None
    for path in _files(directory):
        if _run_of(path) != run_in_name(run):
            continue
        try:
            starts = _take(path)
        except OSError as error:
            trouble = error
            continue
        for start in starts:
            yield _aborted(start, why, at)
    if trouble is not None:
        raise trouble


def runs_left_open(directory: Path) -> list[str]:
    """List the Dagster runs whose processes, living or dead, have something open.

    Raises:
        OSError: The directory cannot be read.
    """
    return list(dict.fromkeys(map(_run_of, _files(directory))))


def _files(directory: Path) -> list[Path]:
    """List the files; ``glob`` would find nothing in a directory that cannot be read."""
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == _SUFFIX)
    except FileNotFoundError:
        return []


def _take(path: Path) -> list[dict[str, Any]]:
    """Read what is open in a dead process's file, and remove it: what is told of a file that stays is told for ever."""
    try:
        descriptor = open_locked(path, os.O_RDONLY)
    except FileNotFoundError:
        return []
    if descriptor is None:
        return []
    with os.fdopen(descriptor, "rb") as file:
        starts = _still_open(file.read())
        try:
            path.unlink(missing_ok=True)
        except OSError:
            if starts:
                raise
    return starts


def _run_of(path: Path) -> str:
    return path.stem.rpartition("-")[0]


def _still_open(content: bytes) -> list[dict[str, Any]]:
    """Read the STARTs without an end; a last line that is cut off was never sent."""
    found: dict[str, dict[str, Any]] = {}
    for line in content.splitlines():
        with suppress(orjson.JSONDecodeError):
            entry = orjson.loads(line)
            if "ended" in entry:
                found.pop(entry["ended"], None)
            else:
                found[entry["run"]["runId"]] = entry
    return list(found.values())


def _aborted(start: dict[str, Any], why: str, at: datetime) -> bytes:
    error = orjson.loads(as_json_line(attrs.evolve(error_facet(why, "python"), producer=start["producer"])))
    run = {**start["run"], "facets": {**start["run"]["facets"], "errorMessage": error}}
    return orjson.dumps({**start, "eventType": "ABORT", "eventTime": event_time(at), "run": run})
