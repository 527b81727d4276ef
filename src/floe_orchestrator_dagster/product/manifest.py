"""Lookup and reading of dbt's ``manifest.json``, trimmed to the fields that Dagster needs.

Format: https://docs.getdbt.com/reference/artifacts/manifest-json
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import ManifestError, Problem
from floe_orchestrator_dagster.product.files import parse_json, read_file
from floe_orchestrator_dagster.product.manifest_check import add_configs, checked_shape, too_deep
from floe_orchestrator_dagster.product.trimmed_file import read_trimmed, write_trimmed
from floe_orchestrator_dagster.product.trimming import trim
from floe_orchestrator_dagster.upstream.dagster_dev import using_dagster_dev
from floe_orchestrator_dagster.wording import closest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

    from floe_orchestrator_dagster.product.project import ProjectDirectory

MANIFEST_FILE = "manifest.json"
PARTIAL_PARSE_FILE = "partial_parse.msgpack"
PREPARE_COMMAND = "floe-dagster prepare"

_ASSET_TYPES = ("model", "seed", "snapshot")
# Collections whose members have no table: what reads them reads the tables that they read.
_READ_THROUGH = ("functions", "metrics", "semantic_models", "saved_queries")


@dataclass(frozen=True)
class Manifest:
    """A dbt manifest, trimmed.

    Attributes:
        path: The file that it was read from.
        content: The manifest without code and macros. Each node has a ``code_version``: its fingerprint, or a
            function's version. Do not change it: the whole process shares it.
    """

    path: Path
    content: dict[str, Any]

    @property
    def asset_nodes(self) -> list[Mapping[str, Any]]:
        """The nodes that become assets: models except ephemeral ones, seeds and snapshots."""
        return [
            node
            for node in self.content["nodes"].values()
            if node["resource_type"] in _ASSET_TYPES and node["config"].get("materialized") != "ephemeral"
        ]

    @property
    def tests(self) -> list[str]:
        """Unique ids of data tests and unit tests, without disabled ones: tests of tables that the project lacks."""
        return [
            *(
                unique_id
                for unique_id, node in self.content["nodes"].items()
                if node["resource_type"] == "test" and (node.get("config") or {}).get("enabled", True)
            ),
            *self.content["unit_tests"],
        ]

    def relations_read_by(self, unique_id: str) -> frozenset[str]:
        """Find the models, seeds, snapshots and sources that a node, test or exposure reads.

        For ephemeral models, functions and the semantic layer, the result has the tables that these read. A unit test
        reads the model that it tests.
        """
        content = self.content
        read_through = [content.get(collection) or () for collection in _READ_THROUGH]
        found: set[str] = set()
        seen: set[str] = set()
        waiting = [*content["parent_map"].get(unique_id, ())]
        while waiting:
            parent = waiting.pop()
            if parent in seen:
                continue
            seen.add(parent)
            node = content["nodes"].get(parent)
            if parent in content["sources"]:
                found.add(parent)
            elif _is_ephemeral(node) if node else any(parent in collection for collection in read_through):
                waiting += content["parent_map"].get(parent, ())
            elif node and node["resource_type"] in _ASSET_TYPES:
                found.add(parent)
        return frozenset(found)

    def with_relations(self, relations: Mapping[str, Mapping[str, Any]]) -> Manifest:
        """Return the manifest with the table names of another dbt process, whose environment may differ.

        Args:
            relations: The fields of a node that name its table, such as ``schema``, by unique id.

        Returns:
            This manifest itself when no name differs.
        """
        content = dict(self.content)
        for collection in ("nodes", "sources"):
            nodes = self.content[collection]
            renamed = {
                unique_id: {**nodes[unique_id], **names}
                for unique_id, names in relations.items()
                if unique_id in nodes and any(nodes[unique_id].get(field) != name for field, name in names.items())
            }
            if renamed:
                content[collection] = {**nodes, **renamed}
        is_same = all(content[collection] is self.content[collection] for collection in ("nodes", "sources"))
        return self if is_same else replace(self, content=content)

    @property
    def model_names(self) -> frozenset[str]:
        """Names that a contract may declare: of models (also ephemeral ones and versions), seeds and snapshots."""
        nodes = [node for node in self.content["nodes"].values() if node["resource_type"] in _ASSET_TYPES]
        versions = (node["alias"] for node in nodes if node.get("version"))
        return frozenset([*(node["name"] for node in nodes), *versions])

    @property
    def names(self) -> frozenset[str]:
        """Names that a declared model may depend on: :attr:`model_names` and source tables."""
        return self.model_names | {source["name"] for source in self.content["sources"].values()}


def _is_ephemeral(node: Mapping[str, Any]) -> bool:
    return node["resource_type"] in _ASSET_TYPES and node["config"].get("materialized") == "ephemeral"


def declared_names(node: Mapping[str, Any]) -> list[str]:
    """Return the names under which a contract may declare a node: two for a version, none for a source."""
    if node["resource_type"] == "source":
        return []
    return [node["alias"], node["name"]] if node.get("version") else [node["name"]]


def declared_nodes(names: Collection[str], content: Mapping[str, Any]) -> dict[str, str]:
    """Find the nodes that a contract declares by name.

    Returns:
        The declared name by unique id. A node of a package is included only when the project itself has no node of
        that name.
    """
    project = (content.get("metadata") or {}).get("project_name")
    found = {}
    for unique_id, node in content["nodes"].items():
        if node["resource_type"] in _ASSET_TYPES:
            name = next((name for name in declared_names(node) if name in names), None)
            if name is not None:
                found[unique_id] = name
    own = {name for unique_id, name in found.items() if content["nodes"][unique_id].get("package_name") == project}
    return {
        unique_id: name
        for unique_id, name in found.items()
        if name not in own or content["nodes"][unique_id].get("package_name") == project
    }


def freshness_criteria(source: Mapping[str, Any]) -> dict[str, str]:
    """Describe a source's freshness limits, such as ``{"warn_after": "36 hours"}``; empty without limits."""
    declared = source.get("freshness") or {}
    criteria = {name: declared.get(name) or {} for name in ("warn_after", "error_after")}
    return {
        name: f"{limit['count']} {limit['period']}{'s' if limit['count'] != 1 else ''}"
        for name, limit in criteria.items()
        if limit.get("count") is not None and limit.get("period")
    }


def find_manifest(project: ProjectDirectory) -> Path | None:
    """Return the first ``manifest.json`` in the project's target directories, or None."""
    return _find(MANIFEST_FILE, project)


def find_partial_parse(project: ProjectDirectory) -> Path | None:
    """Return the first ``partial_parse.msgpack``, with which dbt parses changed files only, or None."""
    return _find(PARTIAL_PARSE_FILE, project)


def _find(name: str, project: ProjectDirectory) -> Path | None:
    return next((path for target in project.read_targets if (path := target / name).is_file()), None)


def prepared_manifest(project: ProjectDirectory, artifacts_path: Path | None) -> Manifest:
    """Read the existing manifest, from an image build, CI or ``floe-dagster prepare``.

    Raises:
        ManifestError: The manifest is missing or not valid.
    """
    path = find_manifest(project)
    if path is None:
        looked = " and ".join(str(target) for target in project.read_targets)
        command = f"{PREPARE_COMMAND} {artifacts_path}" if artifacts_path else PREPARE_COMMAND
        problem = Problem("", f"no {MANIFEST_FILE} in {looked}", f"Run `{command}` (dbt deps and dbt parse).")
        raise ManifestError(str(project.path), [problem])
    return read_product_manifest(path)


def read_manifest(path: Path) -> Manifest:
    """Read and trim a manifest. A process parses each version of a file once.

    Raises:
        ManifestError: The file is truncated, not JSON or not a dbt manifest.
    """
    status = path.stat()
    return _read_manifest(path, status.st_mtime_ns, status.st_size)


def read_product_manifest(path: Path) -> Manifest:
    """Read a manifest through its trimmed copy, which the first process writes beside it for all others.

    Raises:
        ManifestError: As :func:`read_manifest`.
    """
    status = path.stat()
    return _read_product_manifest(path, status.st_mtime_ns, status.st_size)


def check_models_exist(artifacts: CompiledArtifacts, manifest: Manifest, origin: str) -> None:
    """Check that the dbt project has every model that the artifacts declare.

    Raises:
        ManifestError: Some models are missing. The message lists all, each with the most similar name, or with a note
            that the model is disabled.
    """
    models = artifacts.transforms.models if artifacts.transforms else []
    known = manifest.model_names
    parse = "load the code location again" if using_dagster_dev() else f"run `{PREPARE_COMMAND}`"
    problems = [
        Problem(
            f"transforms.models[{row}].name",
            f"{model.name!r} is not in the dbt manifest {manifest.path}{_reason(model.name, known, manifest)}",
            f"Add the model, or remove it from floe.yaml and compile again; then {parse}.",
        )
        for row, model in enumerate(models)
        if model.name not in known
    ]
    if problems:
        raise ManifestError(origin, problems)


@lru_cache(maxsize=4)
def _read_manifest(path: Path, _modified: int, _size: int) -> Manifest:
    return Manifest(path, _trimmed(path, read_file(path, ManifestError)))


@lru_cache(maxsize=8)
def _read_product_manifest(path: Path, _modified: int, _size: int) -> Manifest:
    content = read_trimmed(path)
    if content is None:
        source = read_file(path, ManifestError)
        content = _trimmed(path, source)
        write_trimmed(path, source, content)
    return Manifest(path, content)


def _trimmed(path: Path, source: bytes) -> dict[str, Any]:
    content = parse_json(source, path, ManifestError, f"Run `{PREPARE_COMMAND}` to write it again.")
    add_configs(content)
    try:
        trimmed = trim(checked_shape(content, path))
        TopologicalSorter(trimmed["parent_map"]).prepare()
    except RecursionError:
        raise ManifestError(str(path), [too_deep()]) from None
    except CycleError as error:
        cycle = " -> ".join(reversed(error.args[1]))
        problem = Problem(
            "parent_map", f"has a cycle: {cycle}", f"Run `{PREPARE_COMMAND}` to write the manifest again."
        )
        raise ManifestError(str(path), [problem]) from None
    return trimmed


def _reason(name: str, known: frozenset[str], manifest: Manifest) -> str:
    if any(unique_id.split(".")[-1] == name for unique_id in manifest.content["disabled"]):
        return " (it is disabled there)"
    close = closest(name, known)
    return f" (did you mean {close!r}?)" if close else ""
