"""Target directories: one per dbt invocation, and removal of old ones."""

from __future__ import annotations

import fcntl
import os
import shutil
import tarfile
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.product.manifest import PARTIAL_PARSE_FILE, find_partial_parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from floe_orchestrator_dagster.config.models import DbtConfig
    from floe_orchestrator_dagster.product import DbtConnection

SOURCE_RESULTS_FILE = "sources.json"
_SUCCEEDED = ".floe-succeeded"
_FAILED = ".floe-failed"
_STARTED = ".floe-started"
_ARCHIVE = "dbt_artifacts.tar.gz"
_ARTIFACTS = ("run_results.json", "manifest.json", SOURCE_RESULTS_FILE, "compiled", "run")


@dataclass(frozen=True)
class Target:
    """The target directory of one dbt invocation.

    Attributes:
        path: The directory.
        compiled: Where the compiled SQL of the newest invocations stays, as after a plain ``dbt build``.
        lock: Descriptor of a file in it that this process has locked until the invocation has ended.
    """

    path: Path
    compiled: Path
    lock: int | None = None

    def compiled_path(self, node: Mapping[str, Any]) -> Path:
        """Return where dbt writes a node's compiled SQL, in this directory."""
        return self.path / "compiled" / _compiled_name(node)

    def compiled_code(self, node: Mapping[str, Any]) -> str | None:
        """Read a node's compiled SQL; None where dbt has written none, as of a seed or a snapshot."""
        path = self.compiled_path(node)
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

    def lasting_compiled_path(self, node: Mapping[str, Any]) -> Path:
        """Return where a node's compiled SQL is found after the invocation."""
        return self.compiled / _compiled_name(node)


def new_target(dbt: DbtConnection, step: str, run_id: str) -> Target:
    """Create the directory of an invocation, with a copy of the known partial parse.

    Args:
        dbt: Project and profile.
        step: Name of the step that runs dbt; the directory's name starts with it.
        run_id: Id of the step's run.
    """
    name = f"{step}-{run_id[:8]}-{uuid.uuid4().hex[:8]}"
    target = dbt.directory.written_target / name
    target.mkdir(parents=True, exist_ok=True)
    lock = _locked(target / _STARTED)
    parsed = find_partial_parse(dbt.directory)
    if parsed:
        shutil.copyfile(parsed, target / parsed.name)
    return Target(target, dbt.directory.written_target / "compiled", lock)


def leave_target(target: Target, config: DbtConfig, *, has_succeeded: bool) -> None:
    """Keep what is still of use of an invocation that has ended, and remove what older ones left."""
    (target.path / (_SUCCEEDED if has_succeeded else _FAILED)).touch()
    (target.path / _STARTED).unlink(missing_ok=True)
    if target.lock is not None:
        os.close(target.lock)
    (target.path / PARTIAL_PARSE_FILE).unlink(missing_ok=True)
    compiled = target.path / "compiled"
    if compiled.is_dir():
        shutil.copytree(compiled, target.compiled, dirs_exist_ok=True)
    _remove_old(target, config)


def archive(target: Target, directory: Path) -> Path:
    """Write an invocation's artifacts into ``directory`` as one compressed archive; returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{target.path.name}-{_ARCHIVE}"
    path.touch(mode=0o600)  # dbt v2 masks nothing in its artifacts
    with tarfile.open(path, "w:gz") as writer:
        for name in _ARTIFACTS:
            if (target.path / name).exists():
                writer.add(target.path / name, arcname=name)
    return path


def _compiled_name(node: Mapping[str, Any]) -> Path:
    """As dbt's own ``get_target_write_path``: a generic test lies below the file that declares it."""
    original, path = Path(node["original_file_path"]), Path(node["path"])
    return Path(node["package_name"], original if original.name == path.name else original / path)


def _remove_old(target: Target, config: DbtConfig) -> None:
    """Remove all but the newest directories; the clock orders them, and does not decide which invocations live."""
    directories = target.path.parent
    killed = [(since, path) for since, path in _since(directories, _STARTED) if not _is_locked(path / _STARTED)]
    failed = [*_since(directories, _FAILED), *killed]
    kept = ((list(_since(directories, _SUCCEEDED)), config.keep_targets), (failed, config.keep_failed_targets))
    for found, count in kept:
        for _, directory in sorted(found, reverse=True)[count:]:
            if directory != target.path:
                with suppress(FileNotFoundError):  # another step may be removing it too
                    shutil.rmtree(directory)


def _since(directories: Path, marker: str) -> Iterator[tuple[float, Path]]:
    for path in directories.glob(f"*/{marker}"):
        with suppress(FileNotFoundError):
            yield path.stat().st_mtime, path.parent


def _locked(marker: Path) -> int:
    """Create a file and lock it; the operating system frees it with the end of this process."""
    lock = os.open(marker, os.O_RDWR | os.O_CREAT)
    with suppress(OSError):  # a file system without locks: there, nothing of killed invocations is removed
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may hold it for the moment in which it looks
    return lock


def _is_locked(marker: Path) -> bool:
    """Return whether an invocation runs, or may run: whatever cannot be found out stays."""
    try:
        with marker.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
