"""Definition of a step that runs dbt, and the plan of its build: nodes to run, and results kept from earlier tries."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.execution.step.node_selection import select_nodes
from floe_orchestrator_dagster.execution.step.retry import done_before

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    import dagster as dg

    from floe_orchestrator_dagster.config.models import PartitionsConfig
    from floe_orchestrator_dagster.execution.step.node_selection import DbtNodes, Selection
    from floe_orchestrator_dagster.execution.step.retry import Done, Evaluation
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
        key_of: Asset key of every model, seed, snapshot and source that is an asset, by unique id.
        source_tables: The node of the step's compute that builds the table of a source, by the source's unique id.
        unclear_sources: Sources whose tables nodes build, but not one node of the step's compute before all readers.
        product_key: Asset key of the product itself.
        excluded: Resolves a run's ``exclude`` to unique ids, including tests of excluded nodes, and logs warnings.
        partitions: The partitions of its assets; None without partitions.
        compute: The step's compute.
        lanes: Compute and partitions of each model, seed and snapshot of the product, by unique id.
        all_checks: Returns the checks of all tests of the product by unique id, once all definitions exist.
    """

    connection: DbtConnection
    nodes: DbtNodes
    manifest: Manifest
    product: Product
    steps: tuple[str, ...]
    key_of: Mapping[str, dg.AssetKey]
    source_tables: Mapping[str, str]
    unclear_sources: AbstractSet[str]
    product_key: dg.AssetKey
    excluded: Callable[[str | None, Callable[[str], None]], frozenset[str]]
    partitions: PartitionsConfig | None = None
    compute: str = ""
    lanes: Mapping[str, tuple[str, int | None]] = field(default_factory=dict)
    all_checks: Callable[[], Mapping[str, dg.AssetCheckKey]] = dict

    def compute_of(self, unique_id: str) -> str:
        """Return the compute that builds a node; the step's own compute for a test and an ephemeral model."""
        lane = self.lanes.get(unique_id)
        return lane[0] if lane is not None else self.compute

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


@dataclass(frozen=True)
class BuildPlan:
    """The nodes to run in a step, and the assets and checks that are not repeated.

    Attributes:
        selection: The nodes to run.
        built: Assets that are not built again, each with the id of the run that built it.
        passed: Checks that are not evaluated again, each with its evaluation.
        unassigned: Unique ids of selected nodes that failed before and belong to no asset or check of the step.
    """

    selection: Selection
    built: Mapping[dg.AssetKey, str]
    passed: Mapping[dg.AssetCheckKey, Evaluation]
    unassigned: frozenset[str] = frozenset()


def plan_build(
    context: dg.AssetExecutionContext,
    step: DbtStep,
    excluded: frozenset[str],
    is_readable: Callable[[dg.AssetKey], bool],
) -> BuildPlan:
    """Plan the build of a step's selected assets and checks.

    Args:
        context: The step's context.
        step: The step's definition.
        excluded: Unique ids that the run excludes.
        is_readable: As in :func:`select_nodes`.
    """
    nodes = step.nodes
    assets = {key for key in context.selected_asset_keys if nodes.assets[key] not in excluded}
    checks = {key for key in context.selected_asset_check_keys if nodes.checks[key] not in excluded}
    done = done_before(context.op_execution_context, nodes.reads)
    select = partial(select_nodes, nodes, is_readable=is_readable, along=nodes.along(assets, checks))
    left = _with_downstream(assets - done.assets.keys(), assets, nodes)
    # A test of several tables runs again when one of them is built again.
    passed = {check for check in done.checks if not nodes.reads.get(check, frozenset()) & left}
    # dbt also runs tests of sources that the step did not select. Such a test can be the only failure.
    again = {key for key in done.failed if key in nodes.checks and nodes.checks[key] not in excluded}
    unassigned = frozenset(node for key, node in done.failed_nodes.items() if key not in nodes.checks) - excluded
    # A function that no node calls has no event in Dagster. Therefore every try builds it.
    uncalled = nodes.uncalled - excluded if assets >= nodes.assets.keys() else frozenset()
    selection = select(left, (checks - passed) | again, excluded=excluded, passed=passed)
    selection = selection.with_nodes(unassigned | uncalled)
    if selection.is_empty and (assets or checks & passed) and step.has_hooks:
        context.log.warning("all assets were built before; dbt runs again, because an on-run hook may have failed")
        return BuildPlan(select(assets, checks, excluded=excluded), {}, {})
    return BuildPlan(selection, *_kept(done, assets - left, checks & passed), unassigned)


def _kept(
    done: Done, assets: AbstractSet[dg.AssetKey], checks: AbstractSet[dg.AssetCheckKey]
) -> tuple[dict[dg.AssetKey, str], dict[dg.AssetCheckKey, Evaluation]]:
    """Return the completed work of these assets and checks."""
    built = {key: run_id for key, run_id in done.assets.items() if key in assets}
    return built, {key: evaluation for key, evaluation in done.checks.items() if key in checks}


def is_materialized(instance: dg.DagsterInstance, key: dg.AssetKey) -> bool:
    """Return whether an asset was ever materialized."""
    return instance.get_latest_materialization_event(key) is not None


def _with_downstream(
    left: AbstractSet[dg.AssetKey], assets: AbstractSet[dg.AssetKey], nodes: DbtNodes
) -> AbstractSet[dg.AssetKey]:
    """Add the selected assets downstream, because they read tables that are built again."""
    found = set(left)
    while more := {key for key in assets - found if nodes.upstream.get(key, frozenset()) & found}:
        found |= more
    return found
