"""Databases that let one process in at a time: who wants such a one queues, with a lock file beside it."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WAITING = "FloeDbtWaiting"
"""Event of a process that waits for a database; data: its ``path``."""
STARTED = "FloeDbtStarted"
"""Event of a process that has locked its databases and starts dbt."""

_CHECK_SECONDS = 0.2
# Whoever may write the database may lock it: the file's mode is that of a new database, until there is one.
_NEW_FILE_MODE = 0o666


def open_lock_files(databases: Sequence[str]) -> dict[str, int]:
    """Open the lock file of each database; returns the descriptor by path, without those that cannot be opened.

    Args:
        databases: Paths of their files.
    """
    locks = {path: _open(Path(path).with_name(f".{Path(path).name}.lock")) for path in sorted(databases)}
    return {path: lock for path, lock in locks.items() if lock is not None}


def lock_databases(locks: Mapping[str, int], waiting: Callable[[str], None]) -> None:
    """Lock databases until this process, and those that have inherited the descriptors, have ended or closed them.

    DuckDB itself lets one process in, and refuses the next one instead of queueing it. So it does where no lock file
    can be opened.

    Args:
        locks: Descriptors of their lock files, by the database's path.
        waiting: Is called with the path of each that another process has locked.
    """
    for path, lock in locks.items():
        if _take(lock):
            continue
        waiting(path)
        while not _take(lock):
            time.sleep(_CHECK_SECONDS)


def _open(lock: Path) -> int | None:
    """Open a lock file, which another user may own; None where that is not possible."""
    # First without O_CREAT: in directories such as /tmp, Linux refuses that for the files of other users.
    for flags in (os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        with suppress(OSError):
            return os.open(lock, flags, _NEW_FILE_MODE)
    return None


def _take(lock: int) -> bool:
    """Take a lock; false while another process has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
