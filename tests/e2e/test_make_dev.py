"""``make dev``: one signal to make ends Dagster with all its processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from e2e.conftest import REPOSITORY
from e2e.servers import DagsterDev, answers, free_port, wait_until
from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_SECONDS = 4


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy what ``make dev`` reads of the repository."""
    ignored = shutil.ignore_patterns("target", "logs", "warehouse", "dbt_packages", ".user.yml")
    shutil.copytree(REPOSITORY / "dbt_project", tmp_path / "dbt_project", ignore=ignored)
    shutil.copytree(REPOSITORY / ".ci", tmp_path / ".ci")
    for name in ("Makefile", "workspace.yaml", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def made(checkout: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``make dev`` until it answers."""
    port, log = free_port(), checkout / "make.log"
    variables = [f"PORT={port}", f"STOP_SECONDS={STOP_SECONDS}", f"BIN={Path(sys.executable).parent}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [shutil.which("make") or "make", "--old-file=setup", "dev", *variables],
            cwd=checkout,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    dev = DagsterDev(f"http://127.0.0.1:{port}", checkout / "dbt_project", log)
    below: list[psutil.Process] = []
    try:
        wait_until(lambda: answers(dev), 300, process, log)
        yield process
    finally:
        if process.poll() is None:
            below = psutil.Process(process.pid).children(recursive=True)
            process.kill()
        for left in below:
            left.kill()
        process.wait()


def test_sigterm_to_make_ends_all_of_dagster(made: subprocess.Popen[bytes]) -> None:
    below = psutil.Process(made.pid).children(recursive=True)
    commands = " ".join(part for process in below for part in process.cmdline())
    assert all(name in commands for name in ("dagster dev", "dagster_webserver", "dagster._daemon", "code-server"))

    made.terminate()

    _, alive = psutil.wait_procs(below, timeout=5 * STOP_SECONDS)
    assert alive == []
    made.wait(timeout=60)
