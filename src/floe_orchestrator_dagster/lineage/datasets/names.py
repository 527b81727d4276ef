"""OpenLineage names of the tables of dbt nodes.

The name consists of dbt's database, schema and table; the namespace comes from the connection. A table in a database
that DuckDB attaches has the name that it has in the attached system. Names are not escaped, because other producers do
not escape them either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.node_result import NO_RELATION, NodeRelation
from floe_orchestrator_dagster.lineage.datasets.attachments import (
    Attachment,
    Catalog,
    attached_as_main,
    database_name,
    read_attachments,
)
from floe_orchestrator_dagster.lineage.datasets.locations import read_location
from floe_orchestrator_dagster.lineage.datasets.namespaces import Settings, alternative_namespace, warehouse_namespace

if TYPE_CHECKING:
    from collections.abc import Mapping

_QUOTED = re.compile(r"'((?:[^']|'')+)'")
# Adapters whose names have two parts in OpenLineage's naming page, without dbt's database.
_TWO_PARTS = ("mysql", "mysql5", "mariadb", "oceanbase", "oceanbase_mysql", "synapse", "hive", "teradata")
# Settings of an output with the default database.
_DATABASES = {
    "oracle": ("service", "database"),
    "bigquery": ("project", "database"),
    "fabricspark": ("lakehouse", "database"),
}
_ROOT = PurePosixPath("/")
_GLUE_PREFIX = "arn:aws:glue:"


@dataclass(frozen=True)
class DatasetName:
    """The identity of a dataset in OpenLineage."""

    namespace: str
    name: str


@dataclass(frozen=True)
class DatasetIdentity:
    """The names of a dataset.

    Attributes:
        dataset: Its name.
        others: Names that other producers may use.
        catalog: The catalog with the dataset, if any.
        location: The file or files that the dataset reads as a view; None for an ordinary table.
    """

    dataset: DatasetName
    others: tuple[DatasetName, ...] = ()
    catalog: Catalog | None = None
    location: DatasetName | None = None


@dataclass(frozen=True)
class Warehouse:
    """The warehouse of one dbt target.

    Attributes:
        adapter: dbt's name of the adapter, such as ``duckdb``.
        namespace: Namespace of its datasets.
        alternative: Another namespace that producers use for the same datasets.
        database: The default database.
        declared_database: The output's ``database``, for adapters whose real database is in another setting.
        attached: Databases that DuckDB attaches, by alias in lower case.
        directory: Base of relative paths of files: dbt's working directory, the project.
        overrides: Configured namespaces, by the namespaces that they replace.
    """

    adapter: str
    namespace: str
    alternative: str | None = None
    database: str = ""
    declared_database: str = ""
    attached: Mapping[str, Attachment] = field(default_factory=lambda: MappingProxyType({}))
    directory: PurePosixPath = _ROOT
    overrides: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def identify(self, node: Mapping[str, Any], relation: NodeRelation = NO_RELATION) -> DatasetIdentity:
        """Return the dataset of a model, seed, snapshot or source.

        Args:
            node: The node in dbt's manifest.
            relation: The actual names of the node's table on the current target; empty when dbt has not reported them.
        """
        database, schema, table = (_part(node, relation, name) for name in ("database", "schema", "alias"))
        if node.get("resource_type") == "source":
            table = str(node.get("identifier") or node.get("name") or table)
        attachment = self.attached.get(database.lower())
        location = self._location(node)
        if attachment is not None:
            dataset = DatasetName(self.configured_namespace(attachment.namespace), attachment.name(schema, table))
            return DatasetIdentity(dataset, catalog=attachment.catalog, location=location)
        name = ".".join(part for part in self._parts(database, schema, table) if part)
        others = self._others(schema, table, name)
        return DatasetIdentity(DatasetName(self.configured_namespace(self.namespace), name), others, location=location)

    def _parts(self, database: str, schema: str, table: str) -> tuple[str, ...]:
        if self.adapter in _TWO_PARTS and schema:
            return schema, table
        if self.adapter == "oracle" and database.lower() == self.declared_database.lower():
            # dbt's database means the service, and a connection has one service.
            database = self.database or database
        if self.adapter == "fabricspark" and not database and schema == self.database:
            return schema, table  # a lakehouse without schemas
        return database or self.database, schema, table

    def _others(self, schema: str, table: str, name: str) -> tuple[DatasetName, ...]:
        is_unity = (self.alternative or "").startswith("unitycatalog:")
        if self.alternative is None or (is_unity and name.startswith((f"{schema}.", "hive_metastore."))):
            return ()
        other = f"table/{schema}/{table}" if self.alternative.startswith(_GLUE_PREFIX) else name
        return (DatasetName(self.configured_namespace(self.alternative), other),)

    def configured_namespace(self, namespace: str) -> str:
        """Return the namespace that the configuration replaces this one with, or this one."""
        return self.overrides.get(namespace, namespace)

    def _location(self, node: Mapping[str, Any]) -> DatasetName | None:
        """Return the file of a source with ``external_location``, or of an external materialization."""
        if self.adapter != "duckdb":
            return None
        if node.get("resource_type") == "source":
            quoted = _QUOTED.search(str(node.get("relation_name") or ""))
            path = quoted[1].replace("''", "'") if quoted else ""
        else:
            config = node.get("config") or {}
            path = str(config.get("location") or "") if config.get("materialized") == "external" else ""
        if not path or "{{" in path:
            return None
        named = file_name(path, self.directory)
        return replace(named, namespace=self.configured_namespace(named.namespace))


def read_warehouse(
    output: Mapping[str, Any],
    environment: Mapping[str, str],
    directory: PurePosixPath = _ROOT,
    overrides: Mapping[str, str] = MappingProxyType({}),
) -> Warehouse:
    """Read the warehouse of a dbt output.

    Args:
        output: An output of ``profiles.yml``; values may be ``env_var()`` templates.
        environment: The environment variables.
        directory: dbt's working directory.
        overrides: Configured namespaces, by the namespaces that they replace.
    """
    adapter = str(output.get("type") or "unknown").lower()
    settings = Settings(output, environment)
    warehouse = Warehouse(
        adapter=adapter,
        namespace=warehouse_namespace(adapter, settings),
        alternative=alternative_namespace(adapter, settings),
        database=settings.text(*_DATABASES.get(adapter, ())),
        declared_database=settings.text("database"),
        directory=directory,
        overrides=overrides,
    )
    return _with_attachments(warehouse, settings) if adapter == "duckdb" else warehouse


def _with_attachments(warehouse: Warehouse, settings: Settings) -> Warehouse:
    path = settings.text("path")
    database = database_name(path)
    attached = read_attachments(settings, warehouse.directory)
    main = attached_as_main(path, settings, warehouse.directory)
    if main is not None:
        warehouse = replace(warehouse, namespace=main.namespace)
        attached[database.lower()] = main
    return replace(warehouse, database=database, attached=MappingProxyType(attached))


def file_name(location: str, directory: PurePosixPath) -> DatasetName:
    """Return the name of a file or a pattern of files: ``file`` and the path, or the bucket and the key."""
    return DatasetName(*read_location(location).dataset(directory))


def _part(node: Mapping[str, Any], relation: NodeRelation, name: str) -> str:
    value = getattr(relation, name) or node.get(name)
    return str(value or (node.get("name") if name == "alias" else None) or "")
