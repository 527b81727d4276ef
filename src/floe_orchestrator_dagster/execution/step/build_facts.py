"""Facts about a step's project before a run that may reuse tables: its graph, its code, its sources, its tables."""

from __future__ import annotations

import hashlib
import json
import os
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import ProjectError
from floe_orchestrator_dagster.execution.dbt.catalog import loading_time
from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
from floe_orchestrator_dagster.execution.reuse.waiting import NO_WAITING, Waiting, waiting_time
from floe_orchestrator_dagster.product.fingerprints import FINGERPRINT_FORMAT
from floe_orchestrator_dagster.product.prepare import is_of_other_target, is_parsed_from_files
from floe_orchestrator_dagster.product.project import PROJECT_FILE
from floe_orchestrator_dagster.product.references import texts_in
from floe_orchestrator_dagster.product.templates import rendered
from floe_orchestrator_dagster.product.values_read import NOTHING_READ, values_read_in_yaml
from floe_orchestrator_dagster.product.yaml_file import read_yaml
from floe_orchestrator_dagster.redaction import mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    import dagster as dg

    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
    from floe_orchestrator_dagster.product import DbtConnection
    from floe_orchestrator_dagster.product.manifest import Manifest

# dbt writes the metadata of a manifest, with the id of the invocation, before everything else.
_METADATA_BYTES = 4096
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_OF_THE_RUN = re.compile(r"\b(?:run_started_at|invocation_id|modules|target)\b")
_OF_DATABASE = (
    "type",
    "path",
    "host",
    "port",
    "account",
    "project",
    "dbname",
    "database",
    "catalog",
    "http_path",
    "server",
)
# Databases whose tables are replaced with `drop … cascade`.
_DROP_VIEWS = frozenset({"postgres", "redshift"})
# Databases that resolve the names in a view when it is queried. The others drop a view with a table that it reads.
_KEEP_VIEWS = frozenset({"bigquery", "databricks", "duckdb", "snowflake", "spark"})
# Settings of a connection that change no rows.
_OF_NO_EFFECT = frozenset({"threads", "retries", "connect_timeout", "keepalives_idle", "job_retries"})


def build_graph(step: DbtStep) -> BuildGraph:
    """Return the graph of the product's dbt project."""
    keeps_views = step.connection.profile.adapter in _KEEP_VIEWS
    return project_graph(step.manifest, step.key_of, step.source_tables, keeps_views=keeps_views)


def project_graph(
    manifest: Manifest,
    key_of: Mapping[str, dg.AssetKey],
    source_tables: Mapping[str, str],
    *,
    keeps_views: bool = False,
) -> BuildGraph:
    """Return the graph of a dbt project.

    Args:
        manifest: The project's manifest.
        key_of: Asset key of every model, seed, snapshot and source that is an asset, by unique id.
        source_tables: Unique id of the node that builds a source's table, by that of the source.
        keeps_views: As in :class:`BuildGraph`.
    """
    content = manifest.content
    kinds = dict.fromkeys(content["sources"], "source") | dict.fromkeys(content["functions"], "function")
    kinds |= {unique_id: node_kind(node) for unique_id, node in content["nodes"].items()}
    node_of = {key_of[node["unique_id"]]: node["unique_id"] for node in manifest.asset_nodes}
    keys = ((source, key_of.get(source)) for source in content["sources"])
    built = {source: node_of[key] for source, key in keys if key is not None and key in node_of}
    loaded = {source for source in source_tables.keys() - built.keys() if any(loading_time(content["sources"][source]))}
    return BuildGraph(content["parent_map"], kinds, {**source_tables, **built}, loaded, keeps_views)


def node_kind(node: Mapping[str, Any]) -> str:
    """Return the materialization of a model; the resource type of another node."""
    kind = str(node["resource_type"])
    return str(node["config"].get("materialized")) if kind == "model" else kind


def built_sources(steps: Iterable[DbtStep]) -> dict[str, str]:
    """Return the node that builds the table of a source, by the source's unique id, in all steps of a product."""
    graphs = (project_graph(step.manifest, step.key_of, step.source_tables) for step in steps)
    return {source: node for graph in graphs for source, node in graph.built_sources.items()}


def drops_views(step: DbtStep) -> bool:
    """Return whether the build of a table drops the views that read it."""
    return step.connection.profile.adapter in _DROP_VIEWS


def waiting_times(step: DbtStep, tables: Iterable[str]) -> dict[str, Waiting]:
    """Return how long models may wait for new data; without those that never wait."""
    nodes = step.manifest.content["nodes"]
    found = {
        table: waiting_time(nodes[table]["config"]) for table in tables if nodes[table]["resource_type"] == "model"
    }
    return {table: waiting for table, waiting in found.items() if waiting != NO_WAITING}


def unusable_manifest(step: DbtStep) -> str | None:
    """Return why the manifest may differ from the project that dbt builds; None if it does not."""
    path = step.manifest.path
    try:
        if is_of_other_target(path, step.connection):
            return f"{path.name} was parsed for another target or dbt engine than {step.connection.profile.target}"
        # The content of the files decides, not their times.
        if not is_parsed_from_files(path, step.connection.directory):
            return f"{path.name} was not parsed from the files of the dbt project (floe-dagster prepare)"
        with path.open("rb") as file:
            start = file.read(_METADATA_BYTES)
    except OSError as error:
        return f"the files of the dbt project cannot be compared with {path.name}: {error.strerror}"
    parsed_by = str(step.manifest.content["metadata"].get("invocation_id"))
    is_same = f'"{parsed_by}"'.encode() in start
    return None if is_same else f"{path.name} has been replaced since the code location was loaded"


def is_assumed_unchanged(source: Mapping[str, Any], chosen: AbstractSet[str]) -> bool:
    """Return whether ``assume_unchanged`` names a source or its table."""
    name = str(source.get("source_name"))
    return bool(chosen & {name, f"{name}.{source.get('name')}"})


class SourceFiles:
    """Files with the definitions of sources, each read once."""

    def __init__(self, directory: Path) -> None:
        self._text = cache(lambda name: (directory / name).read_text(encoding="utf-8"))
        self._depends = cache(lambda name: _has_values([self._text(name)]))
        self._content = cache(lambda name: read_yaml(directory / name, ProjectError))

    def has_values(self, source: Mapping[str, Any]) -> bool:
        """Return whether the place of a source may depend on variables or on the target.

        dbt may then read another table or file than the manifest has. The settings of the source and of all sources in
        ``dbt_project.yml`` count. A file is parsed only if one of its templates depends on values.
        """
        name = str(source.get("original_file_path"))
        try:
            if not self._depends(PROJECT_FILE) and not self._depends(name):
                return False
            project, properties = self._content(PROJECT_FILE), self._content(name)
        except (OSError, UnicodeDecodeError, ProjectError):
            return True
        listed = properties.get("sources") if isinstance(properties, dict) else None
        entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        own = [entry for entry in entries if entry.get("name") == source.get("source_name")]
        if not own or not isinstance(project, dict):  # such as a name that is a template
            return True
        return _has_values(texts_in([project.get("sources"), own]))


def _has_values(texts: Iterable[str]) -> bool:
    """Return whether templates in YAML read variables, the target, or values of the run."""
    templates = [template for text in texts for template in _TEMPLATE.findall(text)]
    return any(values_read_in_yaml(text) != NOTHING_READ or _OF_THE_RUN.search(text) for text in templates)


def tests_with_values(step: DbtStep, tests: Iterable[str]) -> dict[str, str]:
    """Return why tests run whose settings are in a file that reads variables. The manifest has rendered settings."""
    nodes, directory = step.manifest.content["nodes"], step.connection.directory.path

    @cache
    def reads_values(name: str) -> bool:
        try:
            return values_read_in_yaml((directory / name).read_text(encoding="utf-8")) != NOTHING_READ
        except (OSError, UnicodeDecodeError):
            return True

    files = {test: str(nodes[test].get("original_file_path")) for test in tests if test in nodes}
    return {test: "its settings may depend on variables" for test, name in files.items() if reads_values(name)}


class Places:
    """Hashes of where tables are: of the connection, versions, the project file, and a table's name."""

    def __init__(self, connection: DbtConnection, epoch: int) -> None:
        """Hash the connection, without its credentials.

        Args:
            connection: The connection.
            epoch: Number of times that the database file was replaced by an older one.
        """
        profile = connection.profile
        output = profile.outputs.get(profile.target or "", {})
        settings = {
            name: mask(rendered(value, profile.environment) or value, profile.secrets)
            if isinstance(value, str)
            else mask(json.dumps(value, sort_keys=True, default=str), profile.secrets)
            for name, value in output.items()
            if name not in _OF_NO_EFFECT
        }
        self._database = {name: settings.get(name) for name in _OF_DATABASE}
        self.epoch = epoch
        project = (connection.directory.path / "dbt_project.yml").read_bytes()
        self._connection = [
            *_files_behind_links(connection),
            profile.target,
            settings,
            str(connection.engine),
            _adapter_version(profile.adapter),
            hashlib.sha256(project).hexdigest(),
            FINGERPRINT_FORMAT,  # another format does not mean that an incremental model's code has changed
        ]

    @property
    def database(self) -> str:
        """The hash of the database. It does not depend on the user who connects to it."""
        return _hash(self._database)

    def place(self, node: Mapping[str, Any]) -> str:
        """Return the hash for the table of a node."""
        return _hash([*self._connection, self.epoch, _table(node)])

    def relation(self, node: Mapping[str, Any]) -> str:
        """Return the hash for a table itself, whichever project, version of dbt and target builds it."""
        return _hash([self._database, _table(node)])


def _files_behind_links(connection: DbtConnection) -> list[str]:
    """Return the DuckDB files whose paths have symbolic links, which can point to another file at any time."""
    paths = [connection.directory.path / file for file in connection.profile.duckdb_files]
    return [real for path in paths if (real := os.path.realpath(path)) != os.path.abspath(path)]  # noqa: PTH100  # no links


def _table(node: Mapping[str, Any]) -> list[str]:
    return [str(node.get(name) or "").lower() for name in ("database", "schema", "alias")]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _adapter_version(adapter: str | None) -> str | None:
    try:
        return version(f"dbt-{adapter}")
    except PackageNotFoundError:
        return None
