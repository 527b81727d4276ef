"""Databases that let one process in at a time: who wants such a one queues, with a lock file beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CHECK_SECONDS = 0.2
_kept: list[FileLock] = []  # a lock that nobody refers to is released


def lock_databases(databases: Sequence[str], waiting: Callable[[str], None]) -> None:
    """Lock databases for the rest of this process; the operating system frees them, however it ends.

    DuckDB itself lets one process in, and refuses the next one instead of queueing it.

    Args:
        databases: Paths of their files.
        waiting: Is told the path of each that another process has locked.
    """
    for path in sorted(databases):
        lock = FileLock(Path(path).with_name(f".{Path(path).name}.lock"))
        _kept.append(lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting(path)
            lock.acquire(poll_interval=_CHECK_SECONDS)
