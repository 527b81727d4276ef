"""Run a command whose whole process group ends within seconds of one signal.

Usage: ``one_signal.py SECONDS COMMAND...``. Dagster's own shutdown waits up to a minute for open calls and runs, and
its code servers run for another 45 seconds after the process that started them is killed. The group ends in the same
way when the parent of this script is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

_CHECK_SECONDS = 0.1


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; false when none of its processes is left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _end_group(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Interrupt a process group, and kill it when that takes too long."""
    _signal_group(process.pid, signal.SIGINT)
    until = time.monotonic() + seconds
    # poll() also reaps the process, which is part of its group until then.
    while process.poll() is None or _signal_group(process.pid, 0):
        if time.monotonic() > until:
            _signal_group(process.pid, signal.SIGKILL)
            break
        time.sleep(_CHECK_SECONDS)
    process.wait()


def main(seconds: float, command: list[str]) -> int:
    """Run a command, and end it and all processes of its group; returns its exit status."""
    parent = os.getppid()
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: received.append(number))
    # The command runs in a new session: only this process receives a terminal's Ctrl-C, and forwards it once.
    process = subprocess.Popen(command, start_new_session=True)
    while process.poll() is None and not received and os.getppid() == parent:
        time.sleep(_CHECK_SECONDS)
    _end_group(process, seconds)
    return 128 + received[0] if received else process.returncode


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
