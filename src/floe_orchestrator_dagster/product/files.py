"""JSON files and paths of a product, read with errors that say what is wrong and what to do; scratch directories."""

from __future__ import annotations

import os
import shutil
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


def user_path(named: Path | str, origin: str, error: FileError, fix: str) -> Path:
    """Make a path that somebody wrote absolute; ``~`` and ``~user`` are home directories.

    Args:
        named: The path.
        origin: Where it was written, such as a variable's name.
        error: Makes the error to raise.
        fix: What to do about a path that cannot be one.

    Raises:
        FloeDagsterError: As made by ``error``: that user, or the home directory of this process's, is not known.
    """
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError:
        what = f"{str(named)!r} has no home directory: the user is not known to this machine, or has none"
        raise error(origin, [Problem("", what, fix)]) from None


def read_json(path: Path, error: FileError, fix: str) -> object:
    """Parse a JSON file.

    Args:
        path: An existing file.
        error: Makes the error to raise.
        fix: What to do when the content is no JSON.

    Raises:
        FloeDagsterError: As made by ``error``: unreadable, cut off, or no JSON.
    """
    return parse_json(read_file(path, error), path, error, fix)


def read_file(path: Path, error: FileError) -> bytes:
    """Read a file.

    Raises:
        FloeDagsterError: As made by ``error``: unreadable.
    """
    try:
        return path.read_bytes()
    except OSError as cause:
        raise error(str(path), [Problem("", f"cannot be read ({cause.strerror})", f"{_LET_READ}.")]) from None


def parse_json(source: bytes, path: Path, error: FileError, fix: str) -> object:
    """Parse the JSON that was read from a file; the rest as :func:`read_json`."""
    try:
        content: object = orjson.loads(source)
    except orjson.JSONDecodeError as cause:
        what = f"is not JSON, or is cut off: {cause.msg} (line {cause.lineno}, column {cause.colno})"
        raise error(str(path), [Problem("", what, fix)]) from None
    return content


def is_deeper_than(content: object, levels: int) -> bool:
    """Whether mappings and lists in each other are more levels deep, at which Python's recursion ends early."""
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
    """Remove scratch directories that processes of the same user left behind when they were killed."""
    for path in parent.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):  # another process may be removing it too
            status = path.stat()
            if status.st_uid == os.geteuid() and status.st_mtime < time.time() - older_than_seconds:
                shutil.rmtree(path)
