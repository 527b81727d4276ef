"""Files: reading of JSON and paths with helpful errors, digests, checks of who can write, and scratch directories."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from floe_orchestrator_dagster.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from floe_orchestrator_dagster.errors import FloeDagsterError

    FileError = Callable[[str, Sequence[Problem]], FloeDagsterError]


_LET_READ = "Let the user that runs Dagster read it"
_ROOT = 0
_CHUNK_BYTES = 1 << 20


def user_path(named: Path | str, origin: str, error: FileError, fix: str) -> Path:
    """Make a user's path absolute; ``~`` and ``~user`` expand to home directories.

    Args:
        named: The path.
        origin: Where the user wrote it, such as the name of a variable.
        error: Class of the error to raise.
        fix: The fix for a path that cannot be expanded.

    Raises:
        FloeDagsterError: Of the class ``error``: the user is unknown or has no home directory.
    """
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError:
        what = f"{str(named)!r} cannot be expanded: the user is unknown on this machine or has no home directory"
        raise error(origin, [Problem("", what, fix)]) from None


def read_json(path: Path, error: FileError, fix: str) -> object:
    """Parse a JSON file.

    Args:
        path: An existing file.
        error: Class of the error to raise.
        fix: The fix for content that is not JSON.

    Raises:
        FloeDagsterError: Of the class ``error``: the file is unreadable, truncated or not JSON.
    """
    return parse_json(read_file(path, error), path, error, fix)


def read_file(path: Path, error: FileError) -> bytes:
    """Read a file.

    Raises:
        FloeDagsterError: Of the class ``error``: the file is unreadable.
    """
    try:
        return path.read_bytes()
    except OSError as cause:
        raise error(str(path), [Problem("", f"cannot be read ({cause.strerror})", f"{_LET_READ}.")]) from None


def parse_json(source: bytes, path: Path, error: FileError, fix: str) -> object:
    """Parse the content of a JSON file; arguments and errors as for :func:`read_json`."""
    try:
        content: object = orjson.loads(source)
    except orjson.JSONDecodeError as cause:
        what = f"is not JSON, or is cut off: {cause.msg} (line {cause.lineno}, column {cause.colno})"
        raise error(str(path), [Problem("", what, fix)]) from None
    return content


def is_deeper_than(content: object, levels: int) -> bool:
    """Return whether mappings and lists are nested more than ``levels`` deep, without recursion."""
    row = [content]
    for _ in range(levels + 1):
        children = (
            child
            for value in row
            if isinstance(value, (Mapping, list))
            for child in (value.values() if isinstance(value, Mapping) else value)
        )
        row = [*{id(child): child for child in children}.values()]
        if not row:
            return False
    return True


def remove_abandoned(parent: Path, prefix: str, older_than_seconds: float) -> None:
    """Remove scratch directories of this user's processes that were killed."""
    for path in parent.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):  # another process may be removing it too
            status = path.stat()
            if status.st_uid == os.geteuid() and status.st_mtime < time.time() - older_than_seconds:
                shutil.rmtree(path)


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
    """Return whether no other user can write a file; also true for one without access, because reading it fails."""
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


def digest_of_file(path: Path | str) -> bytes:
    """Compute the SHA-256 of a file.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # a path object for each of thousands of files is slow
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()
