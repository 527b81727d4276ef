"""The copy of a step's captured output on the terminal of ``dagster dev``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from processes import clean_environment

if TYPE_CHECKING:
    from pathlib import Path

# Captures its output as Dagster does for a step, and prints to both streams.
STEP = """
import signal
import sys
from dagster._core.execution.compute_logs import mirror_stream_to_file
from floe_orchestrator_dagster.upstream.dagster_dev import end_terminal_copy

out, err = (f"{sys.argv[1]}/step.{name}" for name in ("out", "err"))
# The tests may run in a process that ignores it, and Dagster ends its copies with it.
signal.signal(signal.SIGTERM, signal.SIG_DFL)
with mirror_stream_to_file(sys.stdout, out), mirror_stream_to_file(sys.stderr, err):
    end_terminal_copy()
    end_terminal_copy()
    print("log of dbt", flush=True)
    print("run log", file=sys.stderr, flush=True)
"""


def run_step(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", STEP, str(directory)],
        cwd=directory,
        env=clean_environment(DAGSTER_COMPUTE_LOG_TAIL_WAIT_AFTER_FINISH="2", **environment),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )


def test_terminal_of_dagster_dev_shows_the_run_log_only(tmp_path: Path) -> None:
    shown = run_step(tmp_path, DAGSTER_IS_DEV_CLI="1")

    assert (shown.stdout, shown.stderr) == ("", "run log\n")
    assert (tmp_path / "step.out").read_text(encoding="utf-8") == "log of dbt\n"


@pytest.mark.parametrize("has_ps", [True, False])
def test_output_is_copied_outside_of_dagster_dev_and_without_ps(tmp_path: Path, *, has_ps: bool) -> None:
    tail = shutil.which("tail")
    assert tail is not None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tail").symlink_to(tail)

    shown = run_step(tmp_path) if has_ps else run_step(tmp_path, DAGSTER_IS_DEV_CLI="1", PATH=str(tmp_path / "bin"))

    assert (shown.stdout, shown.stderr) == ("log of dbt\n", "run log\n")
