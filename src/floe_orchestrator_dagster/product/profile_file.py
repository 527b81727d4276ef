"""Temporary, private ``profiles.yml`` files for dbt processes.

Format: https://docs.getdbt.com/docs/core/connect-data-platform/profiles.yml
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from floe_orchestrator_dagster.product.profiles import Profile

_PREFIX = "floe-dbt-profile-"
_LOCK = ".lock"
_UNLOCKED_SECONDS = 60  # ample time between the creation of a directory and of the lock in it


@contextmanager
def written_profile(profile: Profile) -> Iterator[Path]:
    """Write ``profiles.yml`` (0600) to a new private directory (0700) and yield the directory; remove both at the end.

    Directories of processes that were killed are removed first.
    """
    outputs = {name: dict(output) for name, output in profile.outputs.items()}
    content = {profile.name: {"target": profile.default_target, "outputs": outputs}}
    _remove_abandoned(Path(tempfile.gettempdir()))
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    # The operating system releases the lock when this process ends. NFS locks only files that are open for writing.
    lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, mode=0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Dagster may drop a step's suspended generator. Then `finally` does not run, and `atexit` removes the directory.
    remove = partial(shutil.rmtree, directory, ignore_errors=True)
    atexit.register(remove)
    try:
        path = directory / "profiles.yml"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        yield directory
    finally:
        os.close(lock)  # NFS cannot remove a directory with an open file in it
        remove()
        atexit.unregister(remove)


def _remove_abandoned(parent: Path) -> None:
    """Remove this user's directories that no running process has locked."""
    for path in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another process may use it, or remove it at the same time
            status = path.stat()
            if status.st_uid == os.geteuid() and status.st_mtime < time.time() - _UNLOCKED_SECONDS:
                lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, mode=0o600)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                finally:
                    os.close(lock)
                shutil.rmtree(path)
