"""Definition of a step that runs dbt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    import dagster as dg

    from floe_orchestrator_dagster.config.models import PartitionsConfig
    from floe_orchestrator_dagster.execution.step.node_selection import DbtNodes
    from floe_orchestrator_dagster.product import DbtConnection, Product
    from floe_orchestrator_dagster.product.manifest import Manifest


@dataclass(frozen=True)
class DbtStep:
    """Definition of a step that runs dbt.

    Attributes:
        connection: The dbt project, and the profile with the target of the step's compute.
        nodes: The dbt nodes behind the step's assets and checks.
        manifest: The manifest of the assets.
        product: The product.
        steps: Names of all steps of the product that run dbt.
        key_of: Asset key of every model, seed, snapshot and served source of the product, by unique id.
        product_key: Asset key of the product itself.
        excluded: Resolves a run's ``exclude`` to unique ids, including tests of excluded nodes, and logs warnings.
        partitions: The partitions of its assets; None without partitions.
    """

    connection: DbtConnection
    nodes: DbtNodes
    manifest: Manifest
    product: Product
    steps: tuple[str, ...]
    key_of: Mapping[str, dg.AssetKey]
    product_key: dg.AssetKey
    excluded: Callable[[str | None, Callable[[str], None]], frozenset[str]]
    partitions: PartitionsConfig | None = None

    @property
    def has_hooks(self) -> bool:
        """Whether the project has on-run hooks. dbt runs them only together with nodes."""
        return any(node["resource_type"] == "operation" for node in self.manifest.content["nodes"].values())

    def ephemeral_models_of(self, unique_ids: AbstractSet[str]) -> set[str]:
        """Find the ephemeral models of unit tests: dbt runs a unit test only if its model is selected."""
        content, parents = self.manifest.content, self.manifest.content["parent_map"]
        tested = {model for test in unique_ids & content["unit_tests"].keys() for model in parents.get(test, ())}
        nodes = (content["nodes"].get(model, {}) for model in tested)
        return {node["unique_id"] for node in nodes if node and node["config"].get("materialized") == "ephemeral"}
