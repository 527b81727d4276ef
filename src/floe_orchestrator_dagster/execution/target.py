"""Target directories: one per dbt invocation, removed when nobody needs them any more."""

from __future__ import annotations

import shutil
import tarfile
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.product.manifest import PARTIAL_PARSE_FILE, find_partial_parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    import dagster as dg

    from floe_orchestrator_dagster.config.dbt import DbtConfig
    from floe_orchestrator_dagster.product import DbtConnection

_SUCCEEDED = ".floe-succeeded"
_FAILED = ".floe-failed"
_STARTED = ".floe-started"
# An invocation that was killed leaves a directory without an end; by then nothing can run in it any more.
_LONGEST_INVOCATION_SECONDS = 3 * 24 * 3600
_ARCHIVE = "dbt_artifacts.tar.gz"
_ARTIFACTS = ("run_results.json", "manifest.json", "sources.json", "compiled", "run")


@dataclass(frozen=True)
class Target:
    """The target directory of one dbt invocation.

    Attributes:
        path: The directory.
        compiled: Where the compiled SQL of the newest invocations stays, as after a plain ``dbt build``.
    """

    path: Path
    compiled: Path

    def compiled_path(self, node: Mapping[str, Any]) -> Path:
        """Tell where dbt writes a node's compiled SQL, in this directory."""
        return self.path / "compiled" / _compiled_name(node)

    def lasting_compiled_path(self, node: Mapping[str, Any]) -> Path:
        """Tell where a node's compiled SQL is found after the invocation."""
        return self.compiled / _compiled_name(node)


def new_target(dbt: DbtConnection, context: dg.OpExecutionContext) -> Target:
    """Give an invocation a directory of its own, with the parse that is already known."""
    name = f"{context.op.name}-{context.run.run_id[:8]}-{uuid.uuid4().hex[:8]}"
    target = dbt.directory.written_target / name
    target.mkdir(parents=True, exist_ok=True)
    (target / _STARTED).touch()
    parsed = find_partial_parse(dbt.directory)
    if parsed:
        shutil.copyfile(parsed, target / parsed.name)
    return Target(target, dbt.directory.written_target / "compiled")


def leave_target(target: Target, config: DbtConfig, *, has_succeeded: bool) -> None:
    """Keep what is still of use of an invocation that has ended, and remove what older ones left."""
    (target.path / (_SUCCEEDED if has_succeeded else _FAILED)).touch()
    (target.path / _STARTED).unlink(missing_ok=True)
    (target.path / PARTIAL_PARSE_FILE).unlink(missing_ok=True)
    compiled = target.path / "compiled"
    if compiled.is_dir():
        shutil.copytree(compiled, target.compiled, dirs_exist_ok=True)
    _remove_old(target, config)


def archive(target: Target, directory: Path) -> Path:
    """Write an invocation's artifacts into ``directory`` as one compressed archive; returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{target.path.name}-{_ARCHIVE}"
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
    directories = target.path.parent
    kept = ((_SUCCEEDED, config.keep_targets), (_FAILED, config.keep_failed_targets))
    old = [directory for marker, count in kept for directory in _marked(directories, marker)[count:]]
    abandoned = time.time() - _LONGEST_INVOCATION_SECONDS
    old += [directory for since, directory in _since(directories, _STARTED) if since < abandoned]
    for directory in dict.fromkeys(old):
        if directory != target.path:
            with suppress(FileNotFoundError):  # another step may be removing it too
                shutil.rmtree(directory)


def _marked(directories: Path, marker: str) -> list[Path]:
    """List the directories with a marker, the newest first."""
    return [directory for _, directory in sorted(_since(directories, marker), reverse=True)]


def _since(directories: Path, marker: str) -> Iterator[tuple[float, Path]]:
    for path in directories.glob(f"*/{marker}"):
        with suppress(FileNotFoundError):
            yield path.stat().st_mtime, path.parent
