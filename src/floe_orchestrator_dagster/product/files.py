"""YAML and JSON files of a product, read with errors that say what is wrong and what to do; and scratch directories."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import orjson
import yaml

from floe_orchestrator_dagster.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.errors import FloeDagsterError

    FileError = Callable[[str, Sequence[Problem]], FloeDagsterError]

_LET_READ = "Let the user that runs Dagster read it"


def read_yaml(path: Path, error: FileError) -> object:
    """Parse a YAML file in UTF-8.

    Raises:
        FloeDagsterError: As made by ``error``: unreadable, or no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as cause:
        raise error(str(path), [Problem("", f"cannot be read ({cause})", f"{_LET_READ}, as UTF-8.")]) from None
    except yaml.YAMLError as cause:
        raise error(str(path), [Problem("", f"is not YAML: {cause}", "Correct the YAML.")]) from None


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


def remove_abandoned(parent: Path, prefix: str, older_than_seconds: float) -> None:
    """Remove scratch directories that processes of the same user left behind when they were killed."""
    for path in parent.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):  # another process may be removing it too
            status = path.stat()
            if status.st_uid == os.geteuid() and status.st_mtime < time.time() - older_than_seconds:
                shutil.rmtree(path)
