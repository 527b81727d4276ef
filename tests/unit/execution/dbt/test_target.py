"""Target directories of ended invocations go, those of running ones and the newest stay."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config.models import DbtConfig
from floe_orchestrator_dagster.execution.dbt.target import Target, archive, leave_target

if TYPE_CHECKING:
    from pathlib import Path


def begin(directory: Path, name: str, age: float = 0.0) -> Target:
    target = directory / name
    target.mkdir(parents=True)
    marker = target / ".floe-started"
    lock = os.open(marker, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.utime(marker, (time.time() - age, time.time() - age))
    return Target(target, directory / "compiled", lock)


def kill(target: Target) -> None:
    """Do what the operating system does when the process of an invocation is killed."""
    assert target.lock is not None
    os.close(target.lock)


def end(target: Target, *, has_succeeded: bool = True, age: float = 0.0) -> None:
    leave_target(target, DbtConfig(keep_targets=2, keep_failed_targets=1), has_succeeded=has_succeeded)
    for marker in target.path.glob(".floe-*"):
        os.utime(marker, (time.time() - age, time.time() - age))


def test_the_newest_of_each_kind_and_those_that_run_stay(tmp_path: Path) -> None:
    running, killed = begin(tmp_path, "running"), begin(tmp_path, "killed", age=200)
    kill(killed)
    for row in range(4):
        end(begin(tmp_path, f"ok{row}"), age=100 - row)
    for row in range(3):
        end(begin(tmp_path, f"bad{row}"), has_succeeded=False, age=100 - row)

    end(begin(tmp_path, "last"))

    assert {path.name for path in tmp_path.iterdir()} == {"running", "last", "ok3", "bad2"}
    assert running.path.is_dir()


def test_a_running_invocation_keeps_its_directory_when_the_clock_jumps(tmp_path: Path) -> None:
    running = begin(tmp_path, "running", age=400 * 24 * 3600)
    ahead = begin(tmp_path, "ahead", age=-400 * 24 * 3600)

    for row in range(4):
        end(begin(tmp_path, f"ok{row}"))
        end(begin(tmp_path, f"bad{row}"), has_succeeded=False)

    assert running.path.is_dir()
    assert ahead.path.is_dir()


def test_killed_invocations_are_counted_among_those_that_failed(tmp_path: Path) -> None:
    for row in range(5):
        kill(begin(tmp_path, f"killed{row}", age=100 - row))

    end(begin(tmp_path, "last"))

    assert {path.name for path in tmp_path.iterdir()} == {"last", "killed4"}


def test_an_invocation_that_took_long_keeps_its_own_directory(tmp_path: Path) -> None:
    slow = begin(tmp_path, "slow", age=3600)
    for row in range(3):
        end(begin(tmp_path, f"quick{row}"))

    end(slow)

    assert slow.path.is_dir()


def test_compiled_sql_stays_and_the_copied_parse_goes(tmp_path: Path) -> None:
    target = begin(tmp_path, "one")
    sql = target.path / "compiled" / "shop" / "models" / "a.sql"
    sql.parent.mkdir(parents=True)
    sql.write_text("select 1", encoding="utf-8")
    (target.path / "partial_parse.msgpack").touch()

    end(target)

    node = {"original_file_path": "models/a.sql", "path": "a.sql", "package_name": "shop"}
    assert target.lasting_compiled_path(node).read_text(encoding="utf-8") == "select 1"
    assert not (target.path / "partial_parse.msgpack").exists()


def test_artifacts_are_archived(tmp_path: Path) -> None:
    target = begin(tmp_path / "target", "one")
    (target.path / "run_results.json").write_text("{}", encoding="utf-8")

    path = archive(target, tmp_path / "storage" / "run")

    assert path == tmp_path / "storage" / "run" / "one-dbt_artifacts.tar.gz"
    assert path.stat().st_size > 0


def test_compiled_sql_of_a_microbatch_model_is_that_of_its_batches(tmp_path: Path) -> None:
    node = {"package_name": "shop", "original_file_path": "models/m.sql", "path": "m.sql"}
    target = begin(tmp_path, "run")
    assert target.compiled_codes(node) == []
    batches = target.compiled_path(node).with_suffix("")
    batches.mkdir(parents=True)
    # The last one is that of an hour with dbt-core 1.9.
    names = ["m_2024", "m_2024-09", "m_2024-09-17", "m_2024-09-17T16", "m_2024-09-17 16:00:00+00:00"]
    for name in [*names, "m_other", "other"]:
        (batches / f"{name}.sql").write_text(name, encoding="utf-8")
    assert sorted(target.compiled_codes(node)) == sorted(names)
    target.compiled_path(node).write_text("all", encoding="utf-8")
    assert target.compiled_codes(node) == ["all"]
