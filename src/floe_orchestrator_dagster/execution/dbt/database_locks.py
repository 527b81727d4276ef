"""Locks of databases that only one process can open, such as DuckDB files, with a lock file beside each database."""

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
# The user's umask applies. Users who may only read a lock file can lock it, too.
_NEW_FILE_MODE = 0o666


def open_lock_files(databases: Sequence[str]) -> dict[str, int]:
    """Open the lock file of each database.

    Args:
        databases: Paths of the databases.

    Returns:
        The file descriptors by the databases' paths. Lock files that cannot be opened are left out.
    """
    locks = {path: _open(Path(path).with_name(f".{Path(path).name}.lock")) for path in sorted(databases)}
    return {path: lock for path, lock in locks.items() if lock is not None}


def lock_databases(locks: Mapping[str, int], waiting: Callable[[str], None]) -> None:
    """Lock databases until all processes with the descriptors have ended or closed them.

    Without a lock, DuckDB rejects a second process instead of letting it wait.

    Args:
        locks: Descriptors of the lock files, by the database's path.
        waiting: Called with the path of each database that another process has locked.
    """
    for path, lock in locks.items():
        if _take(lock):
            continue
        waiting(path)
        while not _take(lock):
            time.sleep(_CHECK_SECONDS)


def _open(lock: Path) -> int | None:
    """Open a lock file, which can belong to another user; None when that fails."""
    # First without O_CREAT, which Linux rejects for files of other users in directories such as /tmp.
    for flags in (os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        with suppress(OSError):
            return os.open(lock, flags, _NEW_FILE_MODE)
    return None


def _take(lock: int) -> bool:
    """Lock a file; return False when another process has locked it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system does not support locks
        return True
    return True
