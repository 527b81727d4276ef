"""Lock files of databases, for processes of any user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# Takes the database as another user, says so, and keeps it until its input ends.
HOLDER = """
import os, sys
from floe_orchestrator_dagster.execution.dbt.database_locks import lock_databases, open_lock_files
if len(sys.argv) > 2:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
lock_databases(open_lock_files([sys.argv[1]]), lambda path: print("waiting", flush=True))
print("has it", flush=True)
sys.stdin.read()
"""


def start(database: Path, *user: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(database), *user]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def release(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode


@pytest.fixture
def shared() -> Iterator[Path]:
    """Give a directory that other users can reach: they may not enter pytest's own."""
    with TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.mark.parametrize(
    "users",
    [
        (),
        pytest.param(("12345",), marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")),
    ],
)
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_the_second_user_of_a_database_waits_for_the_first(shared: Path, users: tuple[str, ...], mode: int) -> None:
    shared.chmod(mode)
    with start(shared / "shop.duckdb") as first:
        assert line(first) == "has it"
        with start(shared / "shop.duckdb", *users) as second:
            assert line(second) == "waiting"
            assert release(first) == 0
            assert line(second) == "has it"
            assert release(second) == 0


def test_a_database_that_cannot_have_a_lock_file_is_left_to_duckdb(tmp_path: Path) -> None:
    holder = start(tmp_path / "missing" / "shop.duckdb")

    assert line(holder) == "has it"
    assert release(holder) == 0
