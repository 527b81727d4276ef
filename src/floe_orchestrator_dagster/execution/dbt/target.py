"""Target directories: one per dbt invocation, and removal of old ones."""

from __future__ import annotations

import fcntl
import os
import re
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
# Names of the files of a microbatch model's batches, behind that of the model; dbt-core 1.9 writes hours with a space.
_BATCH = re.compile(r"_\d{4}[-\dT :+]*")
_ARTIFACTS = ("run_results.json", "manifest.json", SOURCE_RESULTS_FILE, "compiled", "run")


@dataclass(frozen=True)
class Target:
    """The target directory of one dbt invocation.

    Attributes:
        path: The directory.
        compiled: Directory for the compiled SQL of the newest invocations, as after a plain ``dbt build``.
        lock: Descriptor of a file in the directory that this process locks until the end of the invocation.
    """

    path: Path
    compiled: Path
    lock: int | None = None

    def compiled_path(self, node: Mapping[str, Any]) -> Path:
        """Return the path of a node's compiled SQL in this directory."""
        return self.path / "compiled" / _compiled_name(node)

    def compiled_code(self, node: Mapping[str, Any]) -> str | None:
        """Read a node's compiled SQL; None when dbt does not write it, as for seeds and snapshots."""
        path = self.compiled_path(node)
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

    def compiled_codes(self, node: Mapping[str, Any]) -> list[str]:
        """Read all compiled SQL of a node: with dbt-core, a microbatch model has one file for each batch."""
        code, path = self.compiled_code(node), self.compiled_path(node)
        if code is not None:
            return [code]
        found = sorted(path.with_suffix("").glob(f"*{path.suffix}"))
        batches = [file for file in found if _BATCH.fullmatch(file.stem.removeprefix(path.stem))]
        return [file.read_text(encoding="utf-8", errors="replace") for file in batches]

    def lasting_compiled_path(self, node: Mapping[str, Any]) -> Path:
        """Return the path of a node's compiled SQL after the invocation."""
        return self.compiled / _compiled_name(node)


def new_target(dbt: DbtConnection, step: str, run_id: str) -> Target:
    """Create the directory of an invocation, with a copy of the partial parse.

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
    """Keep the artifacts of an ended invocation, and remove old directories."""
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
    """Write an invocation's artifacts to ``directory`` as a compressed archive; return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{target.path.name}-{_ARCHIVE}"
    path.touch(mode=0o600)  # dbt v2 masks nothing in its artifacts
    with tarfile.open(path, "w:gz") as writer:
        for name in _ARTIFACTS:
            if (target.path / name).exists():
                writer.add(target.path / name, arcname=name)
    return path


def _compiled_name(node: Mapping[str, Any]) -> Path:
    """Return the path as dbt's ``get_target_write_path`` does: a generic test is in a directory of its YAML file."""
    original, path = Path(node["original_file_path"]), Path(node["path"])
    return Path(node["package_name"], original if original.name == path.name else original / path)


def _remove_old(target: Target, config: DbtConfig) -> None:
    """Remove all but the newest directories of ended invocations. A lock, not a time, marks running ones."""
    directories = target.path.parent
    killed = [(since, path) for since, path in _since(directories, _STARTED) if not _is_locked(path / _STARTED)]
    failed = [*_since(directories, _FAILED), *killed]
    kept = ((list(_since(directories, _SUCCEEDED)), config.keep_targets), (failed, config.keep_failed_targets))
    for found, count in kept:
        for _, directory in sorted(found, reverse=True)[count:]:
            if directory != target.path:
                with suppress(FileNotFoundError):  # another step can remove it at the same time
                    shutil.rmtree(directory)


def _since(directories: Path, marker: str) -> Iterator[tuple[float, Path]]:
    for path in directories.glob(f"*/{marker}"):
        with suppress(FileNotFoundError):
            yield path.stat().st_mtime, path.parent


def _locked(marker: Path) -> int:
    """Create a file and lock it. The operating system releases the lock at the end of this process."""
    lock = os.open(marker, os.O_RDWR | os.O_CREAT)
    with suppress(OSError):  # without support for locks, directories of killed invocations are not removed
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process can lock it briefly to check it
    return lock


def _is_locked(marker: Path) -> bool:
    """Return whether an invocation is running, or may be: True when this cannot be determined."""
    try:
        with marker.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
