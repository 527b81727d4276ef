"""Journal of started runs: each run ends, by its own process or by another."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from floe_orchestrator_dagster.config.models import LineageConfig
from floe_orchestrator_dagster.errors import LineageError
from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter
from floe_orchestrator_dagster.lineage.delivery.replay import spool_status
from floe_orchestrator_dagster.lineage.delivery.run_journal import RunJournal, end_open_runs, runs_in_journal
from openlineage_schemas import as_json, assert_valid_json
from processes import clean_environment
from unit.lineage.sample_run import FCT_ORDERS, RUN_ID, sample_events

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=timezone.utc)
WHY = "postgres://u:secret@host: the machine is gone"
# Starts and ends the run's first node, starts the others, and dies.
_DIE = """
import os, signal, sys
from pathlib import Path
from floe_orchestrator_dagster.lineage.delivery.run_journal import RunJournal
from unit.lineage.sample_run import FCT_ORDERS, RUN_ID, sample_events
runs = RunJournal(Path(sys.argv[1]), RUN_ID)
for event in sample_events():
    if event.job.name != FCT_ORDERS or event.eventType.value == "START":
        runs.emit(event, lambda line: True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def die(directory: Path) -> None:
    tests = str(Path(__file__).parents[2])
    python_path = {"PYTHONPATH": ":".join([tests, *sys.path])}
    subprocess.run([sys.executable, "-c", _DIE, str(directory)], env=clean_environment(**python_path), check=False)


def ends(directory: Path, run: str = RUN_ID) -> list[dict[str, Any]]:
    emitted: list[dict[str, Any]] = []
    end_open_runs(directory, run, WHY, NOW, partial(take, emitted))
    return emitted


def take(emitted: list[dict[str, Any]], line: bytes) -> bool:
    emitted.append(json.loads(line))
    return True


def refuse(_line: bytes) -> bool:
    return False


def test_runs_of_a_killed_process_are_ended_once_with_their_start(tmp_path: Path) -> None:
    die(tmp_path / "spool")
    [file] = (tmp_path / "spool").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    assert ends(tmp_path / "spool", "another-run") == []
    [end] = ends(tmp_path / "spool")

    assert_valid_json([end])
    start = next(as_json(event) for event in sample_events() if event.job.name == FCT_ORDERS)
    assert (end["eventType"], end["eventTime"], end["run"]["runId"]) == (
        "ABORT",
        "2026-11-22T06:00:00Z",
        start["run"]["runId"],
    )
    assert (end["inputs"], end["outputs"], end["job"]) == (start["inputs"], start["outputs"], start["job"])
    assert end["run"]["facets"]["errorMessage"]["message"] == "postgres://***@host: the machine is gone"
    assert ends(tmp_path / "spool") == []
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_running_process_ends_its_runs_itself(tmp_path: Path) -> None:
    runs = RunJournal(tmp_path, RUN_ID)
    runs.emit(sample_events()[0], partial(take, []))

    assert ends(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 1
    runs.emit(sample_events()[1], partial(take, []))
    runs.close()
    assert list(tmp_path.iterdir()) == []


def test_an_end_that_was_not_stored_stays_in_the_journal_unchanged(tmp_path: Path) -> None:
    start, end = sample_events()[:2]
    runs = RunJournal(tmp_path, RUN_ID)
    runs.emit(start, partial(take, []))
    runs.emit(end, refuse)
    runs.close()

    assert end.eventType is not None
    assert end.eventType.value == "COMPLETE"
    assert ends(tmp_path) == [as_json(end)]
    assert list(tmp_path.iterdir()) == []


def test_an_abort_that_was_not_stored_is_the_same_the_next_time(tmp_path: Path) -> None:
    die(tmp_path)
    later = NOW.replace(hour=7)

    end_open_runs(tmp_path, RUN_ID, WHY, NOW, refuse)
    emitted: list[dict[str, Any]] = []
    end_open_runs(tmp_path, RUN_ID, "the machine is back", later, partial(take, emitted))

    [end] = emitted
    assert end["eventTime"] == "2026-11-22T06:00:00Z"
    assert end["run"]["facets"]["errorMessage"]["message"] == "postgres://***@host: the machine is gone"


def test_an_incomplete_line_is_ignored(tmp_path: Path) -> None:
    start = json.dumps(as_json(sample_events()[0]))
    (tmp_path / f"{RUN_ID}-1.open").write_text(f"{start}\n{start[:100]}", encoding="utf-8")

    assert len(ends(tmp_path)) == 1


def test_a_directory_that_cannot_be_written_is_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file", encoding="utf-8")
    runs = RunJournal(tmp_path / "spool", RUN_ID)

    emitted: list[dict[str, Any]] = []
    for event in sample_events():
        runs.emit(event, partial(take, emitted))
    runs.close()

    assert emitted == [as_json(event) for event in sample_events()]
    assert (tmp_path / "spool").read_text(encoding="utf-8") == "a file"


def test_a_file_that_cannot_be_removed_is_not_an_error(tmp_path: Path) -> None:
    runs = RunJournal(tmp_path, RUN_ID)
    runs.emit(sample_events()[0], partial(take, []))
    [file] = tmp_path.iterdir()
    file.unlink()
    file.mkdir()

    runs.close()

    assert file.is_dir()


def test_an_unreadable_file_is_an_error_after_all_others_are_processed(tmp_path: Path) -> None:
    (tmp_path / f"{RUN_ID}-0.open").symlink_to(tmp_path / f"{RUN_ID}-0.open")
    (tmp_path / f"{RUN_ID}-1.open").write_text(json.dumps(as_json(sample_events()[0])), encoding="utf-8")
    emitted: list[dict[str, Any]] = []

    with pytest.raises(OSError, match=f"{RUN_ID}-0.open"):
        end_open_runs(tmp_path, RUN_ID, WHY, NOW, partial(take, emitted))

    assert [end["eventType"] for end in emitted] == ["ABORT"]
    assert runs_in_journal(tmp_path) == [RUN_ID]


def test_runs_in_a_file_that_cannot_be_removed_are_ended_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stays, goes = tmp_path / f"{RUN_ID}-0.open", tmp_path / f"{RUN_ID}-1.open"
    for path in (stays, goes):
        path.write_text(json.dumps(as_json(sample_events()[0])), encoding="utf-8")
    remove = Path.unlink

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        if path == stays:
            raise OSError(errno.EPERM, "Operation not permitted", str(path))
        remove(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)

    assert [end["eventType"] for end in ends(tmp_path)] == ["ABORT", "ABORT"]
    assert list(tmp_path.iterdir()) == [stays]
    assert ends(tmp_path) == []


def test_runs_in_a_file_that_cannot_be_written_are_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    die(tmp_path)
    [file] = tmp_path.iterdir()

    def full(_descriptor: int, _line: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        emitted: list[dict[str, Any]] = []
        with pytest.raises(OSError, match="No space left on device"):
            end_open_runs(tmp_path, RUN_ID, WHY, NOW, partial(take, emitted))

    assert emitted == []
    assert list(tmp_path.iterdir()) == [file]
    assert len(ends(tmp_path)) == 1


def test_journal_and_spool_work_where_only_writable_files_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS turns flock into byte-range locks, which depend on how the file is open: flock(2), "NFS details"."""
    lock = fcntl.flock

    def as_on_nfs(file: Any, operation: int) -> None:  # noqa: ANN401  # a descriptor or a file
        access = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
        needed = os.O_WRONLY if operation & fcntl.LOCK_EX else os.O_RDONLY
        if access not in {needed, os.O_RDWR}:
            raise OSError(errno.EBADF, "Bad file descriptor")
        lock(file, operation)

    die(tmp_path)
    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    with LineageEmitter(LineageError("no backend", []), tmp_path, LineageConfig(), run=RUN_ID) as emitter:
        end_open_runs(tmp_path, RUN_ID, WHY, NOW, emitter.emit)
    left = spool_status(tmp_path)

    assert (left.waiting, left.in_progress) == (1, 0)
    assert runs_in_journal(tmp_path) == []


def test_an_unreadable_directory_is_an_error_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file", encoding="utf-8")

    with pytest.raises(NotADirectoryError):
        ends(tmp_path / "spool")

    assert ends(tmp_path / "nowhere") == []
