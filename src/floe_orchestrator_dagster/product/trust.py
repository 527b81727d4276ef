"""Checks of files and directories that other users of the machine could have written."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_ROOT = 0


def distrust_reason(path: Path | int) -> str | None:
    """Return why a file, directory or descriptor is not trusted; None when only this user and root can write it.

    Groups of this process may also write: Kubernetes makes volumes writable for the ``fsGroup`` of a pod.

    Raises:
        OSError: It does not exist or cannot be accessed.
    """
    status = os.stat(path)  # noqa: PTH116 - a descriptor as well
    if status.st_uid not in {os.geteuid(), _ROOT}:
        return f"it belongs to another user (uid {status.st_uid})"
    is_own_group = status.st_gid in {os.getegid(), *os.getgroups()}
    if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not is_own_group):
        return f"other users can write it (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def is_trusted(path: Path) -> bool:
    """Return whether no other user can write a file. True for a file that cannot be accessed: its reader fails."""
    try:
        return distrust_reason(path) is None
    except OSError:
        return True


def require_trusted(directory: Path) -> None:
    """Check that no other user can write to a directory. A missing directory passes.

    Raises:
        PermissionError: It belongs to another user, or others can write it.
        OSError: It cannot be accessed.
    """
    try:
        reason = distrust_reason(directory)
    except FileNotFoundError:
        return
    if reason is not None:
        raise PermissionError(errno.EACCES, f"is not trusted: {reason}", str(directory))
