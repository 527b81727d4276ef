"""What a process has begun, for whoever has to end it."""

from __future__ import annotations

import errno
import json
import stat
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from floe_orchestrator_dagster.lineage.open_runs import OpenRuns, end_open_runs, runs_left_open
from openlineage_schemas import as_json, assert_valid_json
from processes import clean_environment
from unit.lineage.sample_run import FCT_ORDERS, RUN_ID, sample_events

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=timezone.utc)
WHY = "postgres://u:secret@host: the machine is gone"
# Begins the run's first node, ends it, begins the others, and dies.
_DIE = """
import os, signal, sys
from pathlib import Path
from floe_orchestrator_dagster.lineage.open_runs import OpenRuns
from unit.lineage.sample_run import FCT_ORDERS, RUN_ID, sample_events
runs = OpenRuns(Path(sys.argv[1]), RUN_ID)
for event in sample_events():
    if event.job.name != FCT_ORDERS or event.eventType.value == "START":
        runs.note(event)
os.kill(os.getpid(), signal.SIGKILL)
"""


def die(directory: Path) -> None:
    tests = str(Path(__file__).parents[2])
    python_path = {"PYTHONPATH": ":".join([tests, *sys.path])}
    subprocess.run([sys.executable, "-c", _DIE, str(directory)], env=clean_environment(**python_path), check=False)


def ends(directory: Path, run: str = RUN_ID) -> list[dict[str, Any]]:
    return [json.loads(line) for line in end_open_runs(directory, run, WHY, NOW)]


def test_what_a_killed_process_has_begun_is_ended_once_as_it_began(tmp_path: Path) -> None:
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


def test_a_process_that_lives_ends_its_runs_itself(tmp_path: Path) -> None:
    runs = OpenRuns(tmp_path, RUN_ID)
    runs.note(sample_events()[0])

    assert ends(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 1
    runs.close()
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_a_crash_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    start = json.dumps(as_json(sample_events()[0]))
    (tmp_path / f"{RUN_ID}-1.open").write_text(f"{start}\n{start[:100]}", encoding="utf-8")

    assert len(ends(tmp_path)) == 1


def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file", encoding="utf-8")
    runs = OpenRuns(tmp_path / "spool", RUN_ID)

    for event in sample_events():
        runs.note(event)
    runs.close()

    assert (tmp_path / "spool").read_text(encoding="utf-8") == "a file"


def test_a_file_that_cannot_be_removed_is_no_error(tmp_path: Path) -> None:
    runs = OpenRuns(tmp_path, RUN_ID)
    runs.note(sample_events()[0])
    [file] = tmp_path.iterdir()
    file.unlink()
    file.mkdir()

    runs.close()

    assert file.is_dir()


def test_a_file_that_cannot_be_read_is_an_error_once_the_others_are_done(tmp_path: Path) -> None:
    (tmp_path / f"{RUN_ID}-0.open").symlink_to(tmp_path / f"{RUN_ID}-0.open")
    (tmp_path / f"{RUN_ID}-1.open").write_text(json.dumps(as_json(sample_events()[0])), encoding="utf-8")
    found = end_open_runs(tmp_path, RUN_ID, WHY, NOW)

    assert json.loads(next(found))["eventType"] == "ABORT"
    with pytest.raises(OSError, match=f"{RUN_ID}-0.open"):
        next(found)

    assert runs_left_open(tmp_path) == [RUN_ID]


def test_what_is_in_a_file_that_cannot_be_removed_is_not_told_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = as_json(sample_events()[0])
    stays, goes = tmp_path / f"{RUN_ID}-0.open", tmp_path / f"{RUN_ID}-1.open"
    for path in (stays, goes):
        path.write_text(json.dumps(start), encoding="utf-8")
    remove = Path.unlink

    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        if path == stays:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        remove(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    found = end_open_runs(tmp_path, RUN_ID, WHY, NOW)

    assert json.loads(next(found))["eventType"] == "ABORT"  # of the other file
    with pytest.raises(OSError, match=f"Read-only file system: .*{RUN_ID}-0.open"):
        next(found)
    assert list(tmp_path.iterdir()) == [stays]

    stays.write_text(f'{json.dumps(start)}\n{{"ended": "{start["run"]["runId"]}"}}\n', encoding="utf-8")
    assert ends(tmp_path) == []  # nothing in it is open: that it stays is no matter


def test_a_directory_that_cannot_be_read_is_an_error_and_one_that_is_not_there_is_empty(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file", encoding="utf-8")

    with pytest.raises(NotADirectoryError):
        ends(tmp_path / "spool")

    assert ends(tmp_path / "nowhere") == []
