"""Files of tests: small projects, written from the text of their files, and locks."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from textwrap import dedent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def write_files(directory: Path, files: Mapping[str, str]) -> Path:
    """Write each text into the file of its name below ``directory``, without its indentation; returns the directory."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(content).lstrip(), encoding="utf-8")
    return directory


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which other processes may have first."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
