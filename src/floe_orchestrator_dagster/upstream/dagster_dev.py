"""Processes of ``dagster dev``: how they are known, and the copy of a step's captured output on the terminal."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress

# The processes that Dagster starts for the copy: https://github.com/dagster-io/dagster, execution/compute_logs.py.
# The file of standard error, which has the run log, ends with `.err`.
_COPY = re.compile(r"\s*(\d+)\s+(\d+)\s+tail -F -c \+0 .*\.out")


def using_dagster_dev() -> bool:
    """Return whether this process belongs to ``dagster dev``, or to a command of ``dg``."""
    return bool(os.environ.get("DAGSTER_IS_DEV_CLI"))


def end_terminal_copy() -> None:
    """End the copy of this process's standard output on the terminal of ``dagster dev``.

    The captured output stays on the run's page, and the run log on the terminal. Dagster has no setting for this.
    Without effect outside of ``dagster dev``, and where ``ps`` is not installed.
    """
    command = shutil.which("ps") if using_dagster_dev() else None
    if command is None:
        return
    listed = subprocess.run(
        [command, "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=False
    )
    for line in listed.stdout.splitlines():
        found = _COPY.fullmatch(line)
        if found and int(found[2]) == os.getpid():
            with suppress(ProcessLookupError):
                os.kill(int(found[1]), signal.SIGTERM)
