"""What a step selected → what dbt is told to build.

dagster-dbt leaves tests to dbt's eager indirect selection, which also runs tests of assets that were not selected:
on an empty warehouse a subset then fails on tables that nobody asked for. Here the tests are named one by one, so
that a step runs the checks that Dagster selected and no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dagster_dbt.asset_utils import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

    import dagster as dg

    from floe_orchestrator_dagster.product.manifest import Manifest

EVERYTHING = ["--select", "fqn:*"]


@dataclass(frozen=True)
class DbtNodes:
    """The dbt nodes behind the assets and checks of one ``@dbt_assets``.

    Attributes:
        assets: dbt unique id by asset key.
        checks: dbt unique id by check key; checks on sources are among them.
        upstream: Keys that an asset reads, sources included, by asset key.
    """

    assets: Mapping[dg.AssetKey, str]
    checks: Mapping[dg.AssetCheckKey, str]
    upstream: Mapping[dg.AssetKey, frozenset[dg.AssetKey]]


def dbt_nodes(definition: dg.AssetsDefinition) -> DbtNodes:
    """Take the unique ids that dagster-dbt attached to the specs."""
    return DbtNodes(
        assets={spec.key: spec.metadata[DAGSTER_DBT_UNIQUE_ID_METADATA_KEY] for spec in definition.specs},
        checks={spec.key: (spec.metadata or {})[DAGSTER_DBT_UNIQUE_ID_METADATA_KEY] for spec in definition.check_specs},
        upstream={spec.key: frozenset(dep.asset_key for dep in spec.deps) for spec in definition.specs},
    )


def selection_arguments(
    nodes: DbtNodes,
    manifest: Manifest,
    asset_keys: AbstractSet[dg.AssetKey],
    check_keys: AbstractSet[dg.AssetCheckKey],
) -> list[str]:
    """Build dbt's selection arguments for the assets and checks of a step.

    Tests on the sources that the selected assets read are run too, as dbt does, whether selected or not.
    """
    on_assets = {key for key in nodes.checks if key.asset_key in nodes.assets}
    if asset_keys >= nodes.assets.keys() and check_keys >= on_assets:
        return EVERYTHING
    built = {nodes.assets[key] for key in asset_keys}
    read = {parent for key in asset_keys for parent in nodes.upstream[key]} - nodes.assets.keys()
    tests = {nodes.checks[key] for key in nodes.checks if key in check_keys or key.asset_key in read}
    selected = {*built, *tests, *_tests_without_check(built, nodes, manifest)}
    names = sorted(".".join(_fqn(unique_id, manifest)) for unique_id in selected)
    return ["--select", " ".join(names), "--indirect-selection", "empty"]


def _tests_without_check(built: set[str], nodes: DbtNodes, manifest: Manifest) -> Iterator[str]:
    """Find the tests of the selected models that no check stands for: unit tests, and singular ones over several."""
    parent_map, sources = manifest.content["parent_map"], manifest.content["sources"]
    checks = set(nodes.checks.values())
    for unique_id, node in manifest.content["nodes"].items():
        if node["resource_type"] == "test" and unique_id not in checks:
            models = set(parent_map.get(unique_id, ())) - sources.keys()
            if models and models <= built:
                yield unique_id
    for unique_id in manifest.content["unit_tests"]:
        if built.intersection(parent_map.get(unique_id, ())):
            yield unique_id


def _fqn(unique_id: str, manifest: Manifest) -> list[str]:
    content = manifest.content
    node = content["nodes"].get(unique_id) or content["unit_tests"][unique_id]
    fqn: list[str] = node["fqn"]
    return fqn
