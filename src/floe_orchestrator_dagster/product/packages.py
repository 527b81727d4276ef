"""dbt packages of a project: comparison of the declared, locked and installed ones.

Format: https://docs.getdbt.com/docs/build/packages
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha1
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import ProjectError
from floe_orchestrator_dagster.product.project import (
    PACKAGE_FILES,
    PACKAGE_LOCK,
    PROJECT_FILE,
    newest_change,
    parsed_paths,
)
from floe_orchestrator_dagster.product.templates import rendered
from floe_orchestrator_dagster.product.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.product.engines import DbtEngine
    from floe_orchestrator_dagster.product.project import ProjectDirectory

    Entry = Mapping[str, object]

_GIT = {"revision": None, "subdirectory": None, "warn-unpinned": None}
# Keys that dbt adds to an entry before it hashes the lock, by the key that defines the kind of package.
_ADDED: Mapping[str, Entry] = {
    "package": {"install_prerelease": False},
    "git": _GIT,
    "private": {**_GIT, "provider": None},
    "local": {},
    "tarball": {},
}
# Tolerance for copied projects: a package that was installed after the lock may look older in the copy.
_COPYING_SECONDS = 60


def packages_are_installed(project: ProjectDirectory, engine: DbtEngine) -> bool:
    """Return whether ``dbt deps`` has nothing to install.

    This is so when the lock's hash matches the declared packages, as in dbt-core, and each locked package is installed
    in its version. Modification times decide where there is no version or hash, and for locks of dbt v2, which computes
    the hash in a way that it does not document.
    """
    declared = _declared(project.path)
    if not declared:
        return True
    lock = _mapping(project.path / PACKAGE_LOCK)
    locked = _entries(lock)
    if not locked or not all(_is_installed(entry, project) for entry in locked):
        return False
    computed = _lock_hash(declared)
    if computed is not None:
        if lock.get("sha1_hash") == computed:
            return True
        if engine.kind == "core" or not {*_addresses(declared)} <= {*_addresses(locked)}:
            return False
    return all(_is_older_than_packages(project.path / name, project) for name in PACKAGE_FILES)


def package_source_paths(project: ProjectDirectory) -> Iterator[Path]:
    """List the files and directories that dbt parses in installed packages and in local ones."""
    local = (_local_path(entry, project) for entry in _declared(project.path))
    for directory in {*_installed(project), *(path.resolve() for path in local if path)}:
        yield from parsed_paths(directory, _mapping(directory / PROJECT_FILE))


def _declared(directory: Path) -> Sequence[Entry]:
    return [entry for name in PACKAGE_FILES for entry in _entries(_mapping(directory / name))]


def _entries(content: Entry) -> Sequence[Entry]:
    packages = content.get("packages")
    return [entry for entry in packages if isinstance(entry, Mapping)] if isinstance(packages, list) else []


def _addresses(entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    """Name each package by its kind and address, without its version."""
    for entry in entries:
        kind = next((key for key in _ADDED if key in entry), "")
        address = str(entry.get(kind))
        yield kind, rendered(address) or address


def _mapping(path: Path) -> Entry:
    """Read a YAML file; empty when it is missing or not valid, which dbt reports itself."""
    if not path.is_file():
        return {}
    try:
        content = read_yaml(path, ProjectError)
    except ProjectError:
        return {}
    return content if isinstance(content, Mapping) else {}


def _lock_hash(declared: Sequence[Entry]) -> str | None:
    """Compute the lock's ``sha1_hash`` as dbt does, from each entry in its written and its rendered form."""
    try:
        texts = sorted(json.dumps(_specification(entry), sort_keys=True) for entry in declared)
    except (TypeError, ValueError):  # a value without a JSON form, or a template that reads more than env_var()
        return None
    return sha1("\n".join(texts).encode(), usedforsecurity=False).hexdigest()


def _specification(entry: Entry) -> Entry:
    added = next((added for key, added in _ADDED.items() if key in entry), {})
    return {**added, **{key: _rendered(value) for key, value in entry.items()}, "unrendered": entry}


def _rendered(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = rendered(value)
    if text is None:
        raise ValueError(value)
    return text


def _is_installed(entry: Entry, project: ProjectDirectory) -> bool:
    local = _local_path(entry, project)
    name = entry.get("name") or (local and _mapping(local / PROJECT_FILE).get("name"))
    if not isinstance(name, str) or not (project.packages_path / name / PROJECT_FILE).is_file():
        return False
    installed = project.packages_path / name
    if local:
        return installed.resolve() == local.resolve() or _is_current_copy(local, project)
    version = _mapping(installed / PROJECT_FILE).get("version")
    if "package" in entry and entry.get("version") == version:
        return True
    # Not every package declares its version. dbt installs after it has written the lock.
    return _is_older_than_packages(project.path / PACKAGE_LOCK, project)


def _is_current_copy(local: Path, project: ProjectDirectory) -> bool:
    """Return whether a local package is unchanged since dbt copied it, as dbt does where it cannot create a link."""
    changed = newest_change(parsed_paths(local, _mapping(local / PROJECT_FILE)))
    return changed <= project.packages_path.stat().st_mtime


def _is_older_than_packages(path: Path, project: ProjectDirectory) -> bool:
    if not path.exists():
        return True
    return path.stat().st_mtime <= project.packages_path.stat().st_mtime + _COPYING_SECONDS


def _local_path(entry: Entry, project: ProjectDirectory) -> Path | None:
    local = entry.get("local")
    text = rendered(local) if isinstance(local, str) else None
    return project.path / text if text else None


def _installed(project: ProjectDirectory) -> Iterator[Path]:
    yield from (path.parent.resolve() for path in project.packages_path.glob(f"*/{PROJECT_FILE}"))
