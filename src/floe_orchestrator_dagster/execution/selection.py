"""What a step selected → the dbt nodes to run.

dagster-dbt leaves tests to dbt's eager indirect selection, which also runs tests of assets that were not selected, and
it names nodes by FQN, which matches whole directories and soon exceeds the length of a command line. Here nodes are
chosen one by one, by unique id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dagster_dbt.asset_utils import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    import dagster as dg

    from floe_orchestrator_dagster.product.manifest import Manifest

_RUN_RESULTS_SCHEMA = "https://schemas.getdbt.com/dbt/run-results/v6.json"


@dataclass(frozen=True)
class DbtNodes:
    """The dbt nodes behind the assets and checks of one ``@dbt_assets``.

    Attributes:
        assets: dbt unique id by asset key.
        checks: dbt unique id by check key; checks on sources are among them.
        upstream: Keys that an asset reads, sources included, by asset key.
        manifest: The manifest they come from.
        disabled: dbt unique ids of tests that never run.
        severities: Severity of a check's result, where the contract declares one.
    """

    assets: Mapping[dg.AssetKey, str]
    checks: Mapping[dg.AssetCheckKey, str]
    upstream: Mapping[dg.AssetKey, frozenset[dg.AssetKey]]
    manifest: Manifest
    disabled: frozenset[str] = frozenset()
    severities: Mapping[dg.AssetCheckKey, dg.AssetCheckSeverity] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """What dbt is to run.

    Attributes:
        unique_ids: dbt's unique ids; None stands for everything.
        left_out: Assets that a selected check reads besides its own and that nobody has built yet, by check.
        excluded: dbt's unique ids of what everything is without.
    """

    unique_ids: frozenset[str] | None
    left_out: Mapping[dg.AssetCheckKey, list[str]] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()


def dbt_nodes(
    definition: dg.AssetsDefinition,
    manifest: Manifest,
    disabled: frozenset[str] = frozenset(),
    severities: Mapping[dg.AssetCheckKey, dg.AssetCheckSeverity] | None = None,
) -> DbtNodes:
    """Take the unique ids that dagster-dbt attached to the specs."""
    return DbtNodes(
        assets={spec.key: spec.metadata[DAGSTER_DBT_UNIQUE_ID_METADATA_KEY] for spec in definition.specs},
        checks={spec.key: (spec.metadata or {})[DAGSTER_DBT_UNIQUE_ID_METADATA_KEY] for spec in definition.check_specs},
        upstream={spec.key: frozenset(dep.asset_key for dep in spec.deps) for spec in definition.specs},
        manifest=manifest,
        disabled=disabled,
        severities=severities or {},
    )


def select_nodes(
    nodes: DbtNodes,
    asset_keys: AbstractSet[dg.AssetKey],
    check_keys: AbstractSet[dg.AssetCheckKey],
    is_materialized: Callable[[dg.AssetKey], bool],
) -> Selection:
    """Choose the nodes for the assets and checks of a step.

    With the assets come their unit tests, and the tests on the sources they read, as with dagster-dbt. A check that
    came with its asset waits while it reads another asset that is neither selected, upstream nor materialized: dbt
    could only fail on it. A check selected by itself always runs.
    """
    on_assets = {key for key in nodes.checks if key.asset_key in nodes.assets}
    if asset_keys >= nodes.assets.keys() and check_keys >= on_assets:
        return Selection(unique_ids=None, excluded=nodes.disabled)
    key_of = {unique_id: key for key, unique_id in nodes.assets.items()}
    built = {nodes.assets[key] for key in asset_keys}
    present = asset_keys | _upstream(asset_keys, nodes)
    left_out = {}
    for check in check_keys:
        if check.asset_key in asset_keys:
            read = {key_of[unique_id] for unique_id in _relations(nodes.checks[check], nodes.manifest)}
            unbuilt = [key.to_user_string() for key in sorted(read - present) if not is_materialized(key)]
            if unbuilt:
                left_out[check] = unbuilt
    sources = {key for asset in asset_keys for key in nodes.upstream[asset]} - nodes.assets.keys()
    wanted = (check for check in nodes.checks if check in check_keys or check.asset_key in sources)
    tests = {nodes.checks[check] for check in wanted if check not in left_out}
    return Selection(frozenset({*built, *tests, *_tests_without_check(built, nodes)}), left_out)


def selection_arguments(selection: Selection, directory: Path) -> list[str]:
    """Write the selection into ``directory`` and return dbt's arguments for it.

    dbt's ``result`` method selects the unique ids in the ``run_results.json`` of a state directory
    (https://docs.getdbt.com/reference/node-selection/methods#result): exact, and of any length.
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
    content = {"metadata": {"dbt_schema_version": _RUN_RESULTS_SCHEMA}, "elapsed_time": 0.0, "results": results}
    (directory / "run_results.json").write_text(json.dumps(content), encoding="utf-8")


def _result(unique_id: str) -> dict[str, object]:
    empty = {"timing": [], "thread_id": "", "execution_time": 0.0, "adapter_response": {}}
    unknown = dict.fromkeys(("message", "failures", "compiled", "compiled_code", "relation_name"))
    return {"unique_id": unique_id, "status": "success", **empty, **unknown}


def _upstream(keys: AbstractSet[dg.AssetKey], nodes: DbtNodes) -> set[dg.AssetKey]:
    """Find everything that the assets read, directly or not."""
    found: set[dg.AssetKey] = set()
    waiting = list(keys)
    while waiting:
        parents = nodes.upstream.get(waiting.pop(), frozenset()) - found
        found |= parents
        waiting.extend(parents)
    return found


def _relations(unique_id: str, manifest: Manifest) -> set[str]:
    """Find the models, seeds and snapshots that a test's SQL reads; an ephemeral model is read through."""
    content = manifest.content
    found: set[str] = set()
    for parent in content["parent_map"].get(unique_id, ()):
        if parent not in content["nodes"]:
            continue
        ephemeral = content["nodes"][parent]["config"].get("materialized") == "ephemeral"
        found |= _relations(parent, manifest) if ephemeral else {parent}
    return found


def _tests_without_check(built: set[str], nodes: DbtNodes) -> Iterator[str]:
    """Find the tests of the selected models that no check stands for: unit tests, singular ones over several models."""
    content = nodes.manifest.content
    checks = {*nodes.checks.values(), *nodes.disabled}
    for unique_id, node in content["nodes"].items():
        if node["resource_type"] == "test" and unique_id not in checks:
            relations = _relations(unique_id, nodes.manifest)
            if relations and relations <= built:
                yield unique_id
    for unique_id in content["unit_tests"]:
        if built.intersection(content["parent_map"].get(unique_id, ())):
            yield unique_id
