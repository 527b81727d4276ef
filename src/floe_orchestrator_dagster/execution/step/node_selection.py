"""Selection of the dbt nodes to run for a step's selected assets and checks.

dagster-dbt selects nodes by FQN, which also matches directories and can exceed the length of a command line. It selects
tests by dbt's eager indirect selection, which also runs tests of assets that were not selected. This module selects
each node and test by its unique id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.product.references import called_functions
from floe_orchestrator_dagster.upstream.dagster_dbt_names import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    import dagster as dg

    from floe_orchestrator_dagster.product.manifest import Manifest

# Fields that dbt requires: without one of them, dbt v2 selects nothing and reports no error.
_INVOCATION = {
    "metadata": {
        "dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json",
        "dbt_version": "1.9.0",
        "generated_at": "2000-01-01T00:00:00Z",
        "invocation_id": "00000000-0000-0000-0000-000000000000",
        "env": {},
    },
    "args": {"command": "build", "which": "build"},
}


@dataclass(frozen=True)
class DbtNodes:
    """The dbt nodes of one definition's assets and checks.

    Attributes:
        assets: dbt unique ids by asset key.
        checks: dbt unique ids by check key, including checks on sources and on assets of other definitions.
        reads: The product's assets (without sources) that each check's SQL reads.
        upstream: Keys that each asset reads, including sources.
        sources: Keys of the sources.
        whole: Whether these are all nodes of the dbt project.
        disabled: dbt unique ids of tests that never run.
        severities: Severities from the contract, by check key.
        functions: Unique ids of the functions that a node calls, by the node's unique id.
        uncalled: Unique ids of functions that no node calls; they are built when all assets are selected.
    """

    assets: Mapping[dg.AssetKey, str]
    checks: Mapping[dg.AssetCheckKey, str]
    reads: Mapping[dg.AssetCheckKey, frozenset[dg.AssetKey]]
    upstream: Mapping[dg.AssetKey, frozenset[dg.AssetKey]]
    sources: frozenset[dg.AssetKey]
    whole: bool = False
    disabled: frozenset[str] = frozenset()
    severities: Mapping[dg.AssetCheckKey, dg.AssetCheckSeverity] = field(default_factory=dict)
    functions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    uncalled: frozenset[str] = frozenset()

    @property
    def check_of(self) -> Mapping[str, dg.AssetCheckKey]:
        """Check keys by dbt unique id."""
        return {unique_id: key for key, unique_id in self.checks.items()}

    @property
    def checks_on_assets(self) -> frozenset[dg.AssetCheckKey]:
        """Checks on the definition's assets, without those on sources and on the product."""
        return frozenset(key for key in self.checks if key.asset_key in self.assets)

    def in_order(self, keys: Iterable[dg.AssetKey]) -> list[dg.AssetKey]:
        """Sort assets so that each follows those that it reads, also through other assets."""
        graph = {key: sorted(self.upstream[key] & self.assets.keys()) for key in sorted(self.assets)}
        wanted = {*keys}
        return [key for key in TopologicalSorter(graph).static_order() if key in wanted]

    def downstream(self, keys: AbstractSet[dg.AssetKey]) -> frozenset[dg.AssetKey]:
        """Return the assets that read some of these assets, also through other assets."""
        found = {*keys}
        for key in self.in_order(self.assets):
            if self.upstream[key] & found:
                found.add(key)
        return frozenset(found - keys)

    def expected(self, selection: Selection) -> frozenset[str]:
        """Return the unique ids of a selection. Each of these nodes must have a result."""
        if selection.unique_ids is not None:
            return selection.unique_ids
        return frozenset([*self.assets.values(), *self.checks.values()]) - selection.excluded

    def along(
        self, asset_keys: AbstractSet[dg.AssetKey], check_keys: AbstractSet[dg.AssetCheckKey]
    ) -> frozenset[dg.AssetCheckKey]:
        """Return the checks that run with a selection without being selected.

        If assets are selected, the checks on the sources that they read run, as in dagster-dbt. If all assets and their
        checks are selected, the checks on the product run.
        """
        sources = {key for asset in asset_keys for key in self.upstream[asset]} & self.sources
        found = {check for check in self.checks if check.asset_key in sources}
        if asset_keys and asset_keys >= self.assets.keys() and check_keys >= self.checks_on_assets:
            found |= {check for check in self.checks if not self.reads[check] and check.asset_key not in self.sources}
        return frozenset(found)


@dataclass(frozen=True)
class Selection:
    """The nodes that dbt runs.

    Attributes:
        unique_ids: dbt's unique ids; None for all nodes except ``excluded``.
        postponed: Checks that are not run, each with the unbuilt assets that it reads besides its own.
        excluded: dbt's unique ids to exclude when ``unique_ids`` is None.
    """

    unique_ids: frozenset[str] | None
    postponed: Mapping[dg.AssetCheckKey, list[str]] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        """Whether no node is selected."""
        return self.unique_ids is not None and not self.unique_ids

    def with_nodes(self, unique_ids: AbstractSet[str]) -> Selection:
        """Return a selection with additional nodes."""
        return self if self.unique_ids is None else replace(self, unique_ids=self.unique_ids | unique_ids)


def dbt_nodes(
    specs: Iterable[dg.AssetSpec],
    check_specs: Iterable[dg.AssetCheckSpec],
    manifest: Manifest,
    key_of: Mapping[str, dg.AssetKey],
) -> DbtNodes:
    """Collect the unique ids in the metadata that dagster-dbt attached to specs.

    Args:
        specs: Assets of a definition.
        check_specs: Checks of the definition.
        manifest: The manifest of the specs.
        key_of: Asset key of every model, seed, snapshot and source that is an asset, by unique id.
    """
    specs = list(specs)
    assets = {spec.key: spec.metadata[DAGSTER_DBT_UNIQUE_ID_METADATA_KEY] for spec in specs}
    checks = {spec.key: (spec.metadata or {})[DAGSTER_DBT_UNIQUE_ID_METADATA_KEY] for spec in check_specs}
    sources = manifest.content["sources"].keys()
    # The spec of an asset that reads a source lists the model that builds the source, if there is one. The source is
    # added, because its tests run, too.
    upstream = {
        spec.key: frozenset(dep.asset_key for dep in spec.deps).union(
            key_of[read] for read in manifest.relations_read_by(assets[spec.key]) if read in sources
        )
        for spec in specs
    }
    return DbtNodes(
        assets=assets,
        checks=checks,
        reads={
            key: frozenset(key_of[read] for read in manifest.relations_read_by(test) if read not in sources)
            for key, test in checks.items()
        },
        upstream=upstream,
        sources=frozenset(key_of[source] for source in sources if source in key_of),
        functions=called_functions(manifest.content, [*assets.values(), *checks.values()]),
    )


def select_nodes(  # noqa: PLR0913, PLR0917  # a selection depends on all of these
    nodes: DbtNodes,
    asset_keys: AbstractSet[dg.AssetKey],
    check_keys: AbstractSet[dg.AssetCheckKey],
    is_readable: Callable[[dg.AssetKey], bool],
    excluded: AbstractSet[str] = frozenset(),
    passed: AbstractSet[dg.AssetCheckKey] = frozenset(),
    along: AbstractSet[dg.AssetCheckKey] | None = None,
) -> Selection:
    """Select the nodes for the assets and checks of a step, with the functions that they call.

    A check that runs because of its asset or source is postponed if it reads another asset that is neither selected,
    upstream nor readable: dbt would fail. A check that was selected without its asset always runs.

    Args:
        nodes: The step's nodes.
        asset_keys: The assets to build, without excluded ones.
        check_keys: The checks to evaluate.
        is_readable: Whether dbt can read an asset that is neither selected nor upstream.
        excluded: Unique ids that the run excludes.
        passed: Checks that are not evaluated again.
        along: Checks that run without being selected; None for :meth:`DbtNodes.along` of the keys.
    """
    on_assets = {key for key in nodes.checks_on_assets if nodes.checks[key] not in excluded}
    if nodes.whole and not passed and asset_keys >= nodes.assets.keys() and check_keys >= on_assets:
        return Selection(unique_ids=None, excluded=nodes.disabled | excluded)
    present = asset_keys | _upstream(asset_keys, nodes)
    chosen = check_keys | (nodes.along(asset_keys, check_keys) if along is None else along)
    wanted = {
        check
        for check, test in nodes.checks.items()
        if check in chosen and check not in passed and test not in excluded
    }
    postponed = {}
    for check in wanted:
        built_elsewhere = check.asset_key not in nodes.assets and check.asset_key not in nodes.sources
        if check.asset_key in asset_keys or built_elsewhere or check not in check_keys:
            read = sorted(nodes.reads[check] - present)
            unbuilt = [key.to_user_string() for key in read if not is_readable(key)]
            if unbuilt:
                postponed[check] = unbuilt
    run = wanted - postponed.keys()
    unique_ids = {nodes.assets[key] for key in asset_keys} | {nodes.checks[check] for check in run}
    called = frozenset[str]().union(*(nodes.functions.get(unique_id, ()) for unique_id in unique_ids))
    return Selection(frozenset(unique_ids | (called - excluded)), postponed)


def selection_arguments(selection: Selection, directory: Path) -> list[str]:
    """Write the selection to ``directory``, and return dbt's arguments for it.

    dbt's ``result`` method selects the unique ids in the ``run_results.json`` of a state directory
    (https://docs.getdbt.com/reference/node-selection/methods#result). It is exact and has no limit of length.
    """
    if selection.unique_ids is None and not selection.excluded:
        return ["--select", "fqn:*"]
    if selection.unique_ids is None:
        _write_results(selection.excluded, directory)
        return ["--select", "fqn:*", "--exclude", "result:success", "--state", str(directory)]
    _write_results(selection.unique_ids, directory)
    return ["--select", "result:success", "--state", str(directory), "--indirect-selection", "empty"]


def _write_results(unique_ids: frozenset[str], directory: Path) -> None:
    directory.mkdir(parents=True)
    results = [_result(unique_id) for unique_id in sorted(unique_ids)]
    content = {**_INVOCATION, "elapsed_time": 0.0, "results": results}
    (directory / "run_results.json").write_text(json.dumps(content), encoding="utf-8")


def _result(unique_id: str) -> dict[str, object]:
    empty = {"timing": [], "thread_id": "", "execution_time": 0.0, "adapter_response": {}}
    unknown = dict.fromkeys(("message", "failures", "compiled", "compiled_code", "relation_name"))
    return {"unique_id": unique_id, "status": "success", **empty, **unknown}


def _upstream(keys: AbstractSet[dg.AssetKey], nodes: DbtNodes) -> set[dg.AssetKey]:
    """Return all assets and sources upstream of the assets."""
    found: set[dg.AssetKey] = set()
    waiting = list(keys)
    while waiting:
        parents = nodes.upstream.get(waiting.pop(), frozenset()) - found
        found |= parents
        waiting.extend(parents)
    return found
