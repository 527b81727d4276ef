"""Trust in files and directories that other users of the machine could have written."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_ROOT = 0


def why_distrusted(path: Path | int) -> str | None:
    """Return why a file, directory or descriptor is not trusted; None when only this user and root can write it.

    A group that this process belongs to may write as well: Kubernetes opens volumes to the ``fsGroup`` of a pod.

    Raises:
        OSError: It does not exist, or cannot be looked at.
    """
    status = os.stat(path)  # noqa: PTH116 - a descriptor as well
    if status.st_uid not in {os.geteuid(), _ROOT}:
        return f"it belongs to another user (uid {status.st_uid})"
    is_own_group = status.st_gid in {os.getegid(), *os.getgroups()}
    if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not is_own_group):
        return f"other users can write it (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def is_trusted(path: Path) -> bool:
    """Return whether others cannot write a file; true for what its reader will fail at."""
    try:
        return why_distrusted(path) is None
    except OSError:
        return True


def require_trusted(directory: Path) -> None:
    """Refuse a directory that other users could have written to; one that does not exist is fine.

    Raises:
        PermissionError: It belongs to another user, or others can write it.
        OSError: It cannot be looked at.
    """
    try:
        reason = why_distrusted(directory)
    except FileNotFoundError:
        return
    if reason is not None:
        raise PermissionError(errno.EACCES, f"is not trusted: {reason}", str(directory))
