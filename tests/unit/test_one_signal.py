"""The wrapper of ``make dev``: one signal ends all processes below it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
ONE_SIGNAL = REPOSITORY / "scripts" / "one_signal.py"
# A process and its child, which only SIGKILL ends. The script's argument defines the further behaviour.
STUBBORN = """
import os, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
child = os.fork()
if child:
    print(os.getpid(), child, flush=True)
    if sys.argv[1:] == ["exit"]:
        sys.exit(3)
time.sleep(600)
"""


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    command = [sys.executable, str(ONE_SIGNAL), "0.5", sys.executable, "-c", STUBBORN, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        below = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        try:
            yield process, below
        finally:
            process.kill()


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_ends_processes_that_ignore_it(number: signal.Signals) -> None:
    with started() as (process, below):
        process.send_signal(number)

        assert process.wait(timeout=60) == 128 + number
        assert_gone(below)


def test_background_processes_of_a_command_end_with_it() -> None:
    with started("exit") as (process, _):
        assert process.stdout is not None

        assert process.wait(timeout=60) == 3
        assert process.stdout.read() == ""  # the pipe is closed by all processes


@contextmanager
def made(directory: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """Run ``make dev`` with something stubborn in place of Dagster."""
    commands = {
        "python": f'exec {sys.executable} "$@"',
        "floe-dagster": "true",
        "dagster": f"exec {sys.executable} -c '{STUBBORN}'",
    }
    for name, script in commands.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (directory / name).chmod(0o755)
    makefile = REPOSITORY / "Makefile"
    make = [shutil.which("make") or "make", "--silent", "-f", str(makefile), "--old-file=setup", "dev"]
    environment = {**os.environ, "MAKEFLAGS": ""}
    with subprocess.Popen(
        [*make, f"BIN={directory}", "STOP_SECONDS=0.5"],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        pids = next(line for line in process.stdout if line[0].isdigit())  # after the address of the lineage
        below = [psutil.Process(int(pid)) for pid in pids.split()]
        assert len(below) == 2
        try:
            yield process, below
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_make_alone_ends_what_make_dev_has_started(tmp_path: Path, number: signal.Signals) -> None:
    with made(tmp_path) as (make, below):
        make.send_signal(number)

        # GNU make 4.3 rarely hangs in its signal handler. What it has started then ends when make is killed.
        with suppress(subprocess.TimeoutExpired):
            make.wait(timeout=20)
        make.kill()
        assert_gone(below)
