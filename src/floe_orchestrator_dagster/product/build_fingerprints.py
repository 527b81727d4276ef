"""Fingerprints of builds: those of the code, completed with the values that an invocation of dbt would read.

The values are variables, environment variables, the fields of the profile's output without credentials, the content of
seeds, and the versions of dbt and its adapter. A node whose values cannot be known has no fingerprint and is built.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from errno import ENOENT
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import ProjectError
from floe_orchestrator_dagster.product.files import digest_of_file
from floe_orchestrator_dagster.product.project import PROJECT_FILE
from floe_orchestrator_dagster.product.references import texts_in
from floe_orchestrator_dagster.product.trimming import CODE_VERSION, PORTABLE_CODE, READS
from floe_orchestrator_dagster.product.values_read import NOTHING_READ, ValuesRead, values_read, values_read_in_yaml
from floe_orchestrator_dagster.product.yaml_file import read_yaml
from floe_orchestrator_dagster.redaction import is_secret_name, mask

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.product.manifest import Manifest
    from floe_orchestrator_dagster.product.values import DbtConnection

_BUILT = frozenset({"model", "seed", "snapshot"})
_VARIABLES_FILE = "vars.yml"
# Fields of outputs that do not change rows.
_NOT_COMPARED = frozenset({"threads"})
# Between the package and the path in a node's `patch_path`.
_SEPARATOR = "://"


@dataclass(frozen=True)
class BuildFingerprint:
    """The fingerprint of a build, or the reason why there is none.

    Attributes:
        value: The fingerprint; empty when the node must be built.
        doubt: Why the node must be built; empty when it has a fingerprint.
    """

    value: str = ""
    doubt: str = ""


def build_fingerprints(manifest: Manifest, dbt: DbtConnection) -> dict[str, BuildFingerprint]:
    """Compute the fingerprint of the build of each model, seed and snapshot, by unique id.

    Builds of runs that pass variables to dbt do not count, so that these have no part in it.

    Args:
        manifest: The product's manifest.
        dbt: The project, the profile with the selected output, and the engine.
    """
    build = _Build(manifest, dbt)
    nodes = manifest.content["nodes"].items()
    return {unique_id: build.fingerprint(node) for unique_id, node in nodes if node["resource_type"] in _BUILT}


def portable_fingerprints(manifest: Manifest, dbt: DbtConnection) -> dict[str, str]:
    """Compute the fingerprint of each model, seed and snapshot without what differs between environments.

    It depends on the code, the values of variables and the content of seeds, but not on the target, the places of
    tables, environment variables and the adapter's version. Seeds whose file cannot be read are left out.

    Args:
        manifest: The product's manifest.
        dbt: The project.
    """
    build = _Build(manifest, dbt)
    nodes = manifest.content["nodes"].items()
    found = {unique_id: build.portable(node) for unique_id, node in nodes if node["resource_type"] in _BUILT}
    return {unique_id: fingerprint for unique_id, fingerprint in found.items() if fingerprint is not None}


def variables_version(manifest: Manifest, dbt: DbtConnection) -> str:
    """Return a hash of the values of all dbt variables in the project's files."""
    return _Build(manifest, dbt).variables


def settings_files(manifest: Manifest, dbt: DbtConnection) -> frozenset[Path]:
    """Return the YAML files with settings of models, seeds, snapshots and sources, in the project and its packages.

    Args:
        manifest: The product's manifest.
        dbt: The project.
    """
    return _Build(manifest, dbt).settings_files


class _Build:
    """The values that an invocation of dbt reads, each read once for all nodes."""

    def __init__(self, manifest: Manifest, dbt: DbtConnection) -> None:
        self._manifest, self._dbt = manifest, dbt
        self._read_in_file = cache(self._values_read_in)

    def fingerprint(self, node: Mapping[str, Any]) -> BuildFingerprint:
        """Compute a node's fingerprint."""
        read = self._values_read(node)
        if read.environment is None:
            return BuildFingerprint(doubt="it reads environment variables whose names are computed")
        try:
            seed = self._seed(node)
        except OSError as error:
            return BuildFingerprint(doubt=f"its file cannot be read ({error.strerror})")
        environment = {name: self._dbt.profile.environment.get(name) for name in read.environment}
        values = self._values_of(read)
        return BuildFingerprint(_digest([node[CODE_VERSION], self._common, environment, values, seed]))

    def portable(self, node: Mapping[str, Any]) -> str | None:
        """Compute a node's fingerprint without what differs between environments; None for an unreadable seed."""
        try:
            seed = self._seed(node)
        except OSError:
            return None
        code = node.get(PORTABLE_CODE, node[CODE_VERSION])
        return _digest([code, self._values_of(self._values_read(node)), seed])

    @property
    def variables(self) -> str:
        """The hash of all variables."""
        return _digest(self._variables)

    def _values_read(self, node: Mapping[str, Any]) -> ValuesRead:
        """Return the values that a node reads, also in YAML files."""
        read = _values_read_by(node) | self._read_in_projects
        for name in self._files(node):
            read |= self._read_in_file(name)
        return read

    def _values_of(self, read: ValuesRead) -> dict[str, list[list[Any]] | None]:
        """Return the values of the variables that are read; of all, if it is not known which."""
        names = self._variables if read.variables is None else {*read.variables}
        return {name: self._variables.get(name) for name in names}

    @cached_property
    def _common(self) -> str:
        """The part that all fingerprints have in common: the output of the profile, and the version of dbt."""
        profile = self._dbt.profile
        output = profile.outputs[profile.target] if profile.target else {}
        compared = {
            name: value for name, value in output.items() if name not in _NOT_COMPARED and not is_secret_name(name)
        }
        read = values_read(texts_in(compared)).environment
        environment = {name: profile.environment.get(name) for name in read if not is_secret_name(name)} if read else {}
        # Credentials can also be deeper in the output, such as in DuckDB's `secrets`.
        text = json.dumps([profile.target, compared, environment, self._version], sort_keys=True, default=str)
        return _digest(mask(text, profile.secrets))

    @property
    def settings_files(self) -> frozenset[Path]:
        """The YAML files with settings of all nodes and sources."""
        content = self._manifest.content
        nodes = [node for node in content["nodes"].values() if node["resource_type"] in _BUILT]
        names = {PROJECT_FILE}.union(*map(_own_files, [*nodes, *content["sources"].values()]))
        patches = (patch for node in content["disabled"].values() if node for patch in node["patch_path"])
        names |= {patch.rpartition(_SEPARATOR)[2] for patch in patches}
        paths = (directory / name for directory in self._projects.values() for name in names)
        return frozenset(path for path in paths if path.is_file())

    @property
    def _version(self) -> str:
        """The version of dbt v2, which contains its adapters, or that of dbt-core's adapter."""
        engine = self._dbt.engine
        if engine.kind != "core":
            return engine.version
        try:
            return version(f"dbt-{self._dbt.profile.adapter}")
        except PackageNotFoundError:
            return ""

    @cached_property
    def _projects(self) -> Mapping[str, Path]:
        """The directory of each package by its name, and that of the project itself under an empty name."""
        directory = self._dbt.directory
        packages = sorted(directory.packages_path.glob(f"*/{PROJECT_FILE}"))
        return {"": directory.path, **{path.parent.name: path.parent for path in packages}}

    @cached_property
    def _variables(self) -> Mapping[str, list[list[Any]]]:
        """The values of each variable in the project and its packages, each with its package and file."""
        found: dict[str, list[list[Any]]] = {}
        for project, directory in self._projects.items():
            for file in (PROJECT_FILE, _VARIABLES_FILE):
                for name, value in _declared(_settings(directory / file).get("vars")):
                    found.setdefault(name, []).append([project, file, value])
        return found

    @cached_property
    def _read_in_projects(self) -> ValuesRead:
        """The values that the project files read."""
        read = NOTHING_READ
        for directory in self._projects.values():
            read |= _values_read_in(directory / PROJECT_FILE)
        return read

    def _values_read_in(self, name: str) -> ValuesRead:
        """Return the values that a file reads, in each project that has it."""
        read = NOTHING_READ
        for directory in self._projects.values():
            if (path := directory / name).is_file():
                read |= _values_read_in(path)
        return read

    def _files(self, node: Mapping[str, Any]) -> set[str]:
        """Name the YAML files with settings of a node and of its sources. Their templates can read values too."""
        return set[str]().union(*map(_own_files, [node, *self._read_by(node)]))

    def _read_by(self, node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """List the sources and ephemeral models that a node reads, also through ephemeral models."""
        nodes, sources = self._manifest.content["nodes"], self._manifest.content["sources"]
        seen: set[str] = set()
        waiting = list(_parents(node))
        while waiting:
            parent = waiting.pop()
            if parent in seen:
                continue
            seen.add(parent)
            if parent in sources:
                yield sources[parent]
            elif parent in nodes and nodes[parent]["config"].get("materialized") == "ephemeral":
                yield nodes[parent]
                waiting.extend(_parents(nodes[parent]))

    def _seed(self, node: Mapping[str, Any]) -> list[str]:
        """Return the checksum of a seed's file; empty for other nodes. The manifest has none for large files.

        Raises:
            OSError: The file cannot be read.
        """
        if node["resource_type"] != "seed":
            return []
        name = str(node.get("original_file_path"))
        files = [path for directory in self._projects.values() if (path := directory / name).is_file()]
        if not files:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), name)
        return [digest_of_file(path).hex() for path in files]


def _own_files(node: Mapping[str, Any]) -> set[str]:
    """Name the YAML file with settings of a node or source, if it has one."""
    patch = str(node.get("patch_path") or "").rpartition(_SEPARATOR)[2]
    defined = str(node.get("original_file_path") or "") if node["resource_type"] == "source" else ""
    return {patch, defined} - {""}


def _parents(node: Mapping[str, Any]) -> Sequence[str]:
    return (node.get("depends_on") or {}).get("nodes") or ()


def _values_read_by(node: Mapping[str, Any]) -> ValuesRead:
    read = node.get(READS) or {}
    variables, environment = read.get("variables", ()), read.get("environment", ())
    return ValuesRead(
        None if variables is None else frozenset(variables),
        None if environment is None else frozenset(environment),
    )


def _values_read_in(path: Path) -> ValuesRead:
    try:
        return values_read_in_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ValuesRead(environment=None)


def _settings(path: Path) -> Mapping[str, Any]:
    """Read a file with settings; empty when it is missing or not valid, which dbt reports itself."""
    try:
        content = read_yaml(path, ProjectError) if path.is_file() else None
    except ProjectError:
        return {}
    return content if isinstance(content, Mapping) else {}


def _declared(variables: object) -> Iterator[tuple[str, Any]]:
    """List the variables in ``vars`` with their values, including those in the section of a package."""
    if isinstance(variables, Mapping):
        for name, value in variables.items():
            yield str(name), value
            yield from _declared(value)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
