"""The names of datasets: which table a dbt node is, as the rest of the world calls it.

dbt's database, schema and table make the name, the connection makes the namespace; a table in a database that DuckDB
attaches has the attached system's identity. Names are not escaped: no other producer does it by default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.lineage.datasets.attachments import (
    Attachment,
    Catalog,
    attached_as_main,
    database_name,
    read_attachments,
)
from floe_orchestrator_dagster.lineage.datasets.connection_settings import Settings
from floe_orchestrator_dagster.lineage.datasets.locations import read_location
from floe_orchestrator_dagster.lineage.datasets.namespaces import alternative_namespace, warehouse_namespace

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_QUOTED = re.compile(r"'((?:[^']|'')+)'")
# What dbt calls the database is no part of the name, which has the two parts of OpenLineage's naming page.
_TWO_PARTS = ("mysql", "mysql5", "mariadb", "oceanbase", "oceanbase_mysql", "synapse", "hive", "teradata")
# Where an output says which database is meant when a node names none.
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
    """What a dataset is called.

    Attributes:
        dataset: Its name.
        others: What other producers may call it.
        catalog: The catalog it is registered in, if any.
        location: The file or files that it is a view of; None for a table of its own.
    """

    dataset: DatasetName
    others: tuple[DatasetName, ...] = ()
    catalog: Catalog | None = None
    location: DatasetName | None = None


@dataclass(frozen=True)
class Warehouse:
    """Where the nodes of one dbt target are.

    Attributes:
        adapter: dbt's name of the adapter, such as ``duckdb``.
        namespace: That of its datasets.
        alternative: Another namespace that producers use for the same datasets.
        database: The database where dbt names none.
        declared_database: What the output itself calls the database, where another setting is its name.
        attached: Databases that DuckDB attaches, by alias in lower case.
        directory: What relative paths of files start from: dbt's working directory, the project.
        overrides: Namespaces by the namespaces that they replace.
    """

    adapter: str
    namespace: str
    alternative: str | None = None
    database: str = ""
    declared_database: str = ""
    attached: Mapping[str, Attachment] = field(default_factory=lambda: MappingProxyType({}))
    directory: PurePosixPath = _ROOT
    overrides: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def identify(self, node: Mapping[str, Any], relation: Mapping[str, Any] = _NOTHING) -> DatasetIdentity:
        """Name the dataset of a model, seed, snapshot or source.

        Args:
            node: The node in dbt's manifest.
            relation: dbt's ``node_relation`` of a running node: where it really goes, on whatever target.
        """
        database, schema, table = (_part(node, relation, name) for name in ("database", "schema", "alias"))
        if node.get("resource_type") == "source":
            table = str(node.get("identifier") or node.get("name") or table)
        attachment = self.attached.get(database.lower())
        location = self._location(node)
        if attachment is not None:
            dataset = DatasetName(self.settled(attachment.namespace), attachment.name(schema, table))
            return DatasetIdentity(dataset, catalog=attachment.catalog, location=location)
        name = ".".join(part for part in self._parts(database, schema, table) if part)
        others = self._others(schema, table, name)
        return DatasetIdentity(DatasetName(self.settled(self.namespace), name), others, location=location)

    def _parts(self, database: str, schema: str, table: str) -> tuple[str, ...]:
        if self.adapter in _TWO_PARTS and schema:
            return schema, table
        if self.adapter == "oracle" and database.lower() == self.declared_database.lower():
            # What dbt calls the database stands for the service, of which there is one in a connection.
            database = self.database or database
        if self.adapter == "fabricspark" and not database and schema == self.database:
            return schema, table  # a lakehouse without schemas
        return database or self.database, schema, table

    def _others(self, schema: str, table: str, name: str) -> tuple[DatasetName, ...]:
        is_unity = (self.alternative or "").startswith("unitycatalog:")
        if self.alternative is None or (is_unity and name.startswith((f"{schema}.", "hive_metastore."))):
            return ()
        other = f"table/{schema}/{table}" if self.alternative.startswith(_GLUE_PREFIX) else name
        return (DatasetName(self.settled(self.alternative), other),)

    def settled(self, namespace: str) -> str:
        """Replace a namespace by the one that is configured for it, if any."""
        return self.overrides.get(namespace, namespace)

    def _location(self, node: Mapping[str, Any]) -> DatasetName | None:
        """Find the file behind a source with an ``external_location``, or an external materialization's own."""
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
        return replace(named, namespace=self.settled(named.namespace))


def read_warehouse(
    output: Mapping[str, Any],
    environment: Mapping[str, str],
    directory: PurePosixPath = _ROOT,
    overrides: Mapping[str, str] = MappingProxyType({}),
) -> Warehouse:
    """Read where a dbt output's datasets are; of its settings only those that make names are looked at.

    Args:
        output: An output of ``profiles.yml``; values may be ``env_var()`` templates.
        environment: The environment variables.
        directory: dbt's working directory.
        overrides: Namespaces by the namespaces that they replace.
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
    """Name a file or a pattern of files: ``file`` and its path, or the bucket and the key."""
    return DatasetName(*read_location(location).dataset(directory))


def _part(node: Mapping[str, Any], relation: Mapping[str, Any], name: str) -> str:
    value = relation.get(name) or node.get(name)
    return str(value or (node.get("name") if name == "alias" else None) or "")
