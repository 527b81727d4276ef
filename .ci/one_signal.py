"""A command whose whole process group ends within seconds of one signal.

Usage: ``one_signal.py SECONDS COMMAND...``. Dagster's own shutdown waits a minute for calls and runs under way, and its
code servers live on for three quarters of a minute when the process that started them is killed.
"""

# ruff: noqa: INP001 - a script beside others
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_CHECK_SECONDS = 0.1


class _Stop(Exception):  # noqa: N818 - a signal, not an error
    """Somebody asked for the end."""


def _stop(number: int, _frame: FrameType | None) -> None:
    raise _Stop(number)


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; false when nobody of it is left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def main(seconds: float, command: list[str]) -> int:
    """Run a command, and end it and all processes of its group; returns its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    # A session of its own: a terminal's Ctrl-C comes here only, and is passed on once.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        status = process.wait()
    except _Stop as stop:
        status = 128 + int(stop.args[0])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _signal_group(process.pid, signal.SIGINT)
    until = time.monotonic() + seconds
    while process.poll() is None or _signal_group(process.pid, 0):
        if time.monotonic() > until:
            _signal_group(process.pid, signal.SIGKILL)
            break
        time.sleep(_CHECK_SECONDS)
    with suppress(ChildProcessError):
        process.wait()
    return status


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
