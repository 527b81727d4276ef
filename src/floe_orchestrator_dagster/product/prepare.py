"""Generation of the manifest with ``dbt deps`` and ``dbt parse``, and checks whether they have to run.

dbt writes to a temporary directory. Each result then replaces the old file in one step, so that a reader never finds
a partial file, and a killed parse leaves the old files in place.

Packages: https://docs.getdbt.com/docs/build/packages
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from errno import ENOENT
from hashlib import sha1, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import ManifestError, Problem, ProjectError
from floe_orchestrator_dagster.product.dbt_command import run_dbt
from floe_orchestrator_dagster.product.files import digest_of_file, remove_abandoned
from floe_orchestrator_dagster.product.manifest import (
    MANIFEST_FILE,
    PARTIAL_PARSE_FILE,
    Manifest,
    find_manifest,
    find_partial_parse,
    read_product_manifest,
)
from floe_orchestrator_dagster.product.project import (
    ENVIRONMENT_FILE,
    PACKAGE_FILES,
    PACKAGE_LOCK,
    PROJECT_FILE,
    file_names_below,
    newest_change,
    parsed_paths,
)
from floe_orchestrator_dagster.product.same_tables import NAMING_SETTINGS
from floe_orchestrator_dagster.product.templates import rendered
from floe_orchestrator_dagster.product.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from floe_orchestrator_dagster.product.engines import DbtEngine
    from floe_orchestrator_dagster.product.project import ProjectDirectory
    from floe_orchestrator_dagster.product.values import DbtConnection

    Entry = Mapping[str, object]


logger = logging.getLogger(__name__)

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
PARSED_FOR_FILE = "parsed_for_target.txt"
PARSED_FILES_FILE = "parsed_files.txt"
_SCRATCH_PREFIX = ".parse-"
_ABANDONED_AFTER_SECONDS = 3600


def prepare_manifest(dbt: DbtConnection) -> Manifest:
    """Install the project's missing dbt packages, parse the project and read the manifest.

    Environment variables of the profile that are not set get placeholders. dbt does not connect to the database.

    Raises:
        ManifestError: dbt failed. The message has dbt's output.
        EngineError: The configured dbt engine cannot be used.
    """
    if not packages_are_installed(dbt.directory, dbt.engine):
        with tempfile.TemporaryDirectory(prefix="floe-dbt-deps-") as scratch:
            run_dbt("deps", dbt, Path(scratch))
    return parse_project(dbt)


def fresh_manifest(dbt: DbtConnection, artifacts_path: Path | None) -> Manifest:
    """Read the manifest. Generate it first when it is missing, not valid, or older than the project or its artifacts.

    Raises:
        ManifestError: dbt failed. The message has dbt's output.
        EngineError: The configured dbt engine cannot be used.
    """
    path = find_manifest(dbt.directory)
    if path is not None and not is_outdated(path, dbt, artifacts_path) and not _is_of_other_files(path, dbt.directory):
        try:
            return read_product_manifest(path)
        except ManifestError as error:
            logger.warning("%s: parsing the dbt project again", error)
    else:
        why = "outdated" if path else "missing"
        logger.debug("%s: parsing the dbt project, its manifest is %s", dbt.directory.path, why)
    return prepare_manifest(dbt)


def is_outdated(path: Path, dbt: DbtConnection, artifacts_path: Path | None) -> bool:
    """Return whether a manifest is older than the project's files or the artifacts, or of another target or engine."""
    project = dbt.directory
    compiled = artifacts_path.stat().st_mtime if artifacts_path else 0.0
    changed = newest_change([*project.source_paths, *package_source_paths(project)])
    return path.stat().st_mtime < max(changed, compiled) or is_of_other_target(path, dbt)


def is_of_other_target(path: Path, dbt: DbtConnection) -> bool:
    """Return whether a manifest is known to be parsed for another target or engine."""
    parsed_for = path.with_name(PARSED_FOR_FILE)
    return parsed_for.is_file() and not parsed_for.read_text(encoding="utf-8").startswith(_parsed_for(dbt))


def is_parsed_with_names(path: Path, dbt: DbtConnection) -> bool:
    """Return whether the profile had the same database and schema when the manifest was parsed.

    Raises:
        OSError: The file beside the manifest cannot be read.
    """
    return path.with_name(PARSED_FOR_FILE).read_text(encoding="utf-8") == _parsed_for(dbt) + _names(dbt)


def is_current(path: Path, dbt: DbtConnection) -> bool:
    """Return whether a manifest is that of the project's files, by their content, or else by their times."""
    if path.with_name(PARSED_FILES_FILE).is_file():
        return not _is_of_other_files(path, dbt.directory)
    return not is_outdated(path, dbt, None)


def _is_of_other_files(manifest: Path, project: ProjectDirectory) -> bool:
    """Return whether a manifest is known to be parsed from files with another content."""
    try:
        return manifest.with_name(PARSED_FILES_FILE).is_file() and not is_parsed_from_files(manifest, project)
    except OSError:
        return False


def is_parsed_from_files(manifest: Path, project: ProjectDirectory) -> bool:
    """Return whether a manifest is that of the project's files, by their content: times can be those of older files.

    Raises:
        OSError: A file cannot be read.
    """
    recorded = manifest.with_name(PARSED_FILES_FILE)
    if not recorded.is_file():
        return False
    return recorded.read_bytes().split() == [digest_of_file(manifest).hex().encode(), _digest_of_files(project)]


def _digest_of_files(project: ProjectDirectory) -> bytes:
    """Compute the SHA-256 of the names and contents of all files that dbt parses, of the project and its packages.

    Variables in ``.env`` are left out, because their values are compared by themselves.

    Raises:
        OSError: A file cannot be read, or a directory is the result of a template, which only dbt can render.
    """
    digest, root = sha256(), str(project.path.resolve())
    paths = [*project.source_paths, *package_source_paths(project)]
    if any("{{" in str(path) for path in paths):
        raise OSError(ENOENT, "a path of the project is a template")
    for path in sorted(file_names_below(path.resolve() for path in paths), key=lambda path: path.split(os.sep)):  # noqa: PTH206  # see below
        if os.path.basename(path) != ENVIRONMENT_FILE:  # noqa: PTH119  # a path object for each file is slow
            digest.update(os.fsencode(os.path.relpath(path, root)) + b"\0" + digest_of_file(path) + b"\n")
    return digest.hexdigest().encode()


def _parsed_for(dbt: DbtConnection) -> str:
    """Return profile and target, which determine the schemas in the manifest, and the engine that parses.

    ``FLOE_ENV`` can change the target. The engines and their versions write different manifests.
    """
    return f"{dbt.profile.name} {dbt.profile.target} {dbt.engine}\n"


def _names(dbt: DbtConnection) -> str:
    """Return the hash of the settings from which dbt takes the names of tables. They can contain tokens.

    Only the name of a DuckDB file counts: an image can be built in another directory.
    """
    output = dbt.profile.outputs.get(dbt.profile.target or "", {})
    settings = {**output, "path": Path(str(output.get("path"))).name}
    names = [str(settings.get(name)) for name in NAMING_SETTINGS]
    return sha256(json.dumps(names).encode()).hexdigest()[:16] + "\n"


def check_parse(dbt: DbtConnection) -> None:
    """Parse the project without keeping the result.

    A project whose packages are not installed is not parsed: dbt v2 would install them.

    Raises:
        ManifestError: dbt failed. The message has dbt's output.
        EngineError: The configured dbt engine cannot be used.
    """
    if packages_are_installed(dbt.directory, dbt.engine):
        with tempfile.TemporaryDirectory(prefix="floe-dbt-parse-") as scratch:
            run_dbt("parse", dbt, Path(scratch))


def parse_project(dbt: DbtConnection) -> Manifest:
    """Parse the project with its installed packages and read the manifest.

    Raises:
        ManifestError: dbt failed, and the message has dbt's output; or the target directory cannot be created.
    """
    project = dbt.directory
    target = project.written_target
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "Set DBT_TARGET_PATH or FLOE_STATE_DIR to a directory that this user can create and write."
        raise ManifestError(str(target), [Problem("", f"cannot be created ({error.strerror})", fix)]) from None
    started = time.time()
    remove_abandoned(target, _SCRATCH_PREFIX, _ABANDONED_AFTER_SECONDS)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=target) as name:
        scratch = Path(name)
        known = find_partial_parse(project) if dbt.engine.kind == "core" else None
        if known:
            shutil.copyfile(known, scratch / known.name)
        files = b""
        with suppress(OSError):  # without the digest, builds reuse nothing
            files = _digest_of_files(project)
        run_dbt("parse", dbt, scratch)
        # dbt may have missed a change during the parse. Such a change must be newer than the manifest.
        os.utime(scratch / MANIFEST_FILE, (started, started))
        (scratch / PARSED_FOR_FILE).write_text(_parsed_for(dbt) + _names(dbt), encoding="utf-8")
        parsed = digest_of_file(scratch / MANIFEST_FILE).hex().encode()
        (scratch / PARSED_FILES_FILE).write_bytes(parsed + b" " + files + b"\n")
        for file in (PARTIAL_PARSE_FILE, PARSED_FOR_FILE, PARSED_FILES_FILE, MANIFEST_FILE):
            if (scratch / file).is_file():
                (scratch / file).replace(target / file)
    return read_product_manifest(target / MANIFEST_FILE)


def packages_are_installed(project: ProjectDirectory, engine: DbtEngine) -> bool:
    """Return whether ``dbt deps`` has nothing to install.

    Nothing is missing when the lock's hash matches the declared packages, as in dbt-core, and each locked package is
    installed with its version. Modification times are compared instead when a version or the hash is missing, and for
    locks of dbt v2, whose hash is not documented.
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
    """Return whether a local package is unchanged since dbt copied it. dbt copies it where it cannot create a link."""
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
