"""Journal of started OpenLineage runs, on disk; a sensor ends those of dead processes.

    <run>-<token>.open    ``<event>``            each START, before it is emitted
                          ``{"ending": <event>}``  each end, before it is emitted
                          ``{"ended": <runId>}``   the same end, once it is stored

A process locks its file, and removes it when every run in it has ended. Whenever a process is killed, each of its runs
has either ended or is in the journal. The same end may be emitted twice, but none is lost.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import attrs
import orjson
from openlineage.client.event_v2 import RunState

from floe_orchestrator_dagster.lineage.delivery.json_line import as_json_line, is_event, read_line, text_of
from floe_orchestrator_dagster.lineage.delivery.segment import open_locked, write_line
from floe_orchestrator_dagster.lineage.delivery.spool import filename_run_id, make_private
from floe_orchestrator_dagster.lineage.events.run import error_facet, event_time
from floe_orchestrator_dagster.product.files import is_trusted, require_trusted

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from openlineage.client.event_v2 import RunEvent

    # Stores an event; returns whether it did.
    Emit = Callable[[bytes], bool]

_SUFFIX = ".open"
_NEW_FILE = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL
# NFS locks only files that are open for writing. Runs in a file that cannot be written would be ended repeatedly.
_EXISTING_FILE = os.O_RDWR | os.O_APPEND


class RunJournal:
    """Journal of one process's runs. Events are also emitted when the directory cannot be written."""

    def __init__(self, directory: Path, run: str) -> None:
        """Use the product's spool directory for a Dagster run; the file is created with the first START."""
        self._path = directory / f"{filename_run_id(run)}-{secrets.token_hex(4)}{_SUFFIX}"
        self._descriptor: int | None = None
        self._open: set[str] = set()

    def emit(self, event: RunEvent, emit: Emit) -> None:
        """Emit an event, and write to the journal before and after.

        Args:
            event: A START or an end.
            emit: Stores an event and returns whether it succeeded. An end that is not stored stays in the journal.

        Raises:
            ValueError: The event cannot be written as JSON.
        """
        line, run_id = as_json_line(event), event.run.runId
        if event.eventType is RunState.START:
            self._write(line)
            self._open.add(run_id)
            emit(line)
            return
        if run_id in self._open:
            self._write(_ending(line))
        if emit(line) and run_id in self._open:
            self._write(_ended(run_id))
            self._open.remove(run_id)

    def close(self) -> None:
        """Release the file, and remove it unless a run in it has not ended."""
        if self._descriptor is None:
            return
        if not self._open:
            with suppress(OSError):
                self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = None

    def _write(self, line: bytes) -> None:
        with suppress(OSError):
            if self._descriptor is None:
                make_private(self._path.parent)
                self._descriptor = open_locked(self._path, _NEW_FILE)
            if self._descriptor is not None:
                write_line(self._descriptor, line)


def end_open_runs(directory: Path, run: str, why: str, at: datetime, emit: Emit) -> None:
    """End the open runs of a Dagster run's dead processes, then remove their journals.

    Runs of running processes are skipped. An end that a process was emitting when it died is emitted unchanged; every
    other run ends with ABORT.

    Args:
        directory: The product's spool directory.
        run: The Dagster run's id.
        why: Text of ``errorMessage``.
        at: Time of the ABORT events.
        emit: Stores an end, and returns whether it succeeded. The end has the run id, inputs and outputs of its START.
            An end that is not stored stays in the journal.

    Raises:
        OSError: The directory or a file in it cannot be read or written. All other files have been processed.
    """
    ending, trouble = _Ending(why, at, emit), None
    for path in _files(directory):
        if _run_of(path) != filename_run_id(run):
            continue
        try:
            ending.end_file(path)
        except OSError as error:
            trouble = error
    if trouble is not None:
        raise trouble


def runs_in_journal(directory: Path) -> list[str]:
    """List the ids of Dagster runs with a journal, of running and dead processes.

    Raises:
        OSError: The directory cannot be read.
    """
    return list(dict.fromkeys(map(_run_of, _files(directory))))


def last_written(directory: Path, run: str) -> float:
    """Return when a journal of a Dagster run was last written, in seconds since the epoch; 0 when there is none."""
    times = [0.0]
    for path in directory.glob(f"{filename_run_id(run)}-*{_SUFFIX}"):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def _files(directory: Path) -> list[Path]:
    """List the journals. Not with ``glob``, which hides that a directory cannot be read."""
    require_trusted(directory)
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == _SUFFIX and is_trusted(path))
    except FileNotFoundError:
        return []


def _run_of(path: Path) -> str:
    return path.stem.rpartition("-")[0]


@dataclass
class _OpenRun:
    """A run without a stored end.

    Attributes:
        start: Its START.
        end: The end that the process was emitting when it died, or None.
    """

    start: dict[str, Any] = field(default_factory=dict)
    end: bytes | None = None


@dataclass(frozen=True)
class _Ending:
    """Ends the runs of dead processes, with this reason and time."""

    why: str
    at: datetime
    emit: Emit

    def end_file(self, path: Path) -> None:
        """End the runs in a dead process's file; remove it once all ends are stored."""
        try:
            descriptor = open_locked(path, _EXISTING_FILE)
        except FileNotFoundError:
            return
        if descriptor is None:
            return
        with os.fdopen(descriptor, "rb") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                write_line(descriptor, b"")  # end an incomplete line before the next one is appended
            stored = [self._end(descriptor, run_id, run) for run_id, run in _open_runs_in(content).items()]
            if all(stored):
                with suppress(OSError):  # the file records that all its runs have ended
                    path.unlink(missing_ok=True)

    def _end(self, descriptor: int, run_id: str, run: _OpenRun) -> bool:
        end = run.end
        if end is None:
            end = _aborted(run.start, self.why, self.at)
            write_line(descriptor, _ending(end))
        if not self.emit(end):
            return False
        write_line(descriptor, _ended(run_id))
        return True


def _open_runs_in(content: bytes) -> dict[str, _OpenRun]:
    """Read the runs without a stored end, by run id.

    Lines that are not valid are skipped: the event of an incomplete last line was never emitted.
    """
    found: dict[str, _OpenRun] = {}
    for line in content.splitlines():
        entry = read_line(line) or {}
        end = entry.get("ending")
        if "ended" in entry:
            found.pop(text_of(entry, "ended"), None)
        elif is_event(end):
            found.setdefault(end["run"]["runId"], _OpenRun()).end = orjson.dumps(end)
        elif is_event(entry):
            found[entry["run"]["runId"]] = _OpenRun(entry)
    return found


def _ending(line: bytes) -> bytes:
    return b'{"ending":%b}' % line


def _ended(run_id: str) -> bytes:
    return orjson.dumps({"ended": run_id})


def _aborted(start: dict[str, Any], why: str, at: datetime) -> bytes:
    facet = attrs.evolve(error_facet(why, "python"), producer=start["producer"])
    error = orjson.loads(as_json_line(facet))
    run = {**start["run"], "facets": {**(start["run"].get("facets") or {}), "errorMessage": error}}
    return orjson.dumps({**start, "eventType": "ABORT", "eventTime": event_time(at), "run": run})
