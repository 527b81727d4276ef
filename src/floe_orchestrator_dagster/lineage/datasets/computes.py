"""OpenLineage names of the nodes of a product with several computes, each named as on its own compute's target."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.node_result import NO_RELATION, NodeRelation
from floe_orchestrator_dagster.lineage.datasets.attachments import database_name
from floe_orchestrator_dagster.lineage.datasets.names import read_warehouse
from floe_orchestrator_dagster.lineage.datasets.namespaces import Settings
from floe_orchestrator_dagster.product.manifest import declared_nodes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import PurePosixPath

    from floe_orchestrator_dagster.lineage.datasets.names import DatasetIdentity, Warehouse
    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.product.profiles import Profile

_DATABASES = ("database", "dbname", "catalog", "project")
_SCHEMAS = ("schema", "dataset")


@dataclass(frozen=True)
class ComputeTarget:
    """A dbt target: its warehouse, and the defaults for nodes without their own settings.

    Attributes:
        warehouse: The warehouse of its datasets.
        database: The default database.
        schema: The default schema, which is the prefix of custom schemas.
    """

    warehouse: Warehouse
    database: str = ""
    schema: str = ""


@dataclass(frozen=True)
class Computes:
    """The targets of a product's computes, relative to the target of one dbt invocation.

    Attributes:
        own: The target that dbt runs on.
        others: The other targets, by compute.
        compute_of: The compute of declared models, by unique id.
        default: The compute of all other nodes.
        nodes: The manifest's nodes, with their names on the default compute's target.
    """

    own: ComputeTarget
    others: Mapping[str, ComputeTarget] = field(default_factory=lambda: MappingProxyType({}))
    compute_of: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    default: str = ""
    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))

    def identify(self, node: Mapping[str, Any], relation: NodeRelation = NO_RELATION) -> DatasetIdentity:
        """Return the dataset of a model, seed, snapshot or source.

        A table in a database that DuckDB attaches has the name that it has in the attached system, whichever compute
        builds it. A source has the name that it has on the target that reads it.

        Args:
            node: The node in the manifest of the target that dbt runs on.
            relation: The relation of a node that this target builds; empty for other nodes.
        """
        compute = self._compute(node)
        other = self.others.get(compute)
        warehouse = self.own.warehouse
        if other is None or relation != NO_RELATION or str(node.get("database") or "").lower() in warehouse.attached:
            return warehouse.identify(node, relation)
        if compute == self.default and node.get("unique_id") in self.nodes:
            return other.warehouse.identify(self.nodes[node["unique_id"]])
        return other.warehouse.identify(self._moved(node, other))

    def _compute(self, node: Mapping[str, Any]) -> str:
        if node.get("resource_type") == "source":
            return ""
        return self.compute_of.get(str(node.get("unique_id")), self.default)

    def _moved(self, node: Mapping[str, Any], other: ComputeTarget) -> Mapping[str, Any]:
        """Return the node with database and schema of another target, except those that the node configures itself."""
        config = node.get("config") or {}
        database, schema = node.get("database"), str(node.get("schema") or "")
        if not config.get("database") and str(database or "").lower() == self.own.database.lower():
            database = other.database
        if schema == self.own.schema or schema.startswith(f"{self.own.schema}_"):
            schema = f"{other.schema}{schema.removeprefix(self.own.schema)}"
        return {**node, "database": database, "schema": schema}


def read_computes(
    product: Product, profile: Profile, environment: Mapping[str, str], directory: PurePosixPath
) -> Computes:
    """Read the targets of a product's computes.

    Args:
        product: A product with a dbt project.
        profile: The profile with the target that dbt runs on.
        environment: The environment variables.
        directory: dbt's working directory.
    """
    own = _target(profile)
    profiles = product.dbt.profiles if product.dbt else {}
    transforms = product.artifacts.transforms
    # A target from the run configuration may belong to no compute. The targets of other computes are then unknown.
    is_computes = own in map(_target, profiles.values())
    others = {
        compute: _place(product, other, environment, directory)
        for compute, other in profiles.items()
        if is_computes and _target(other) != own
    }
    computes = {model.name: model.compute for model in product.models}
    declared = declared_nodes(computes, product.dbt.manifest.content) if product.dbt else {}
    return Computes(
        own=_place(product, profile, environment, directory),
        others=others,
        compute_of={unique_id: computes[name] for unique_id, name in declared.items()},
        default=transforms.default_compute if transforms else "",
        nodes=product.dbt.manifest.content["nodes"] if product.dbt else {},
    )


def _target(profile: Profile) -> str:
    return profile.target or profile.default_target


def _place(
    product: Product, profile: Profile, environment: Mapping[str, str], directory: PurePosixPath
) -> ComputeTarget:
    output = profile.outputs[_target(profile)]
    warehouse = read_warehouse(output, environment, directory, product.config.lineage.namespaces)
    settings = Settings(output, environment)
    is_duckdb = warehouse.adapter == "duckdb"
    database = database_name(settings.text("path")) if is_duckdb else settings.text(*_DATABASES)
    return ComputeTarget(warehouse, database, settings.text(*_SCHEMAS) or ("main" if is_duckdb else ""))
