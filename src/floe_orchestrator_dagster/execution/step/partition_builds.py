"""Partitions of a run, and the builds that a step's tables have of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.reuse.partitions import unbuilt_partition
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord
from floe_orchestrator_dagster.execution.step.build_history import recorded_build
from floe_orchestrator_dagster.product.build_traits import OF_BATCHES
from floe_orchestrator_dagster.product.partition_variables import reads_variables
from floe_orchestrator_dagster.product.trimming import KEEPS_PARTITIONS, VARIABLES
from floe_orchestrator_dagster.upstream.dagster_materializations import partition_materializations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import dagster as dg

    from floe_orchestrator_dagster.execution.reuse.knowledge import Known
    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
    from floe_orchestrator_dagster.execution.step.time_windows import Window
    from floe_orchestrator_dagster.upstream.dagster_materializations import Materialization

_MICROBATCH, _UTC = "microbatch", "UTC"
# Partitions in UTC that consist of whole batches, by the size of a batch.
_WHOLE_BATCHES = {
    "hour": frozenset({"hourly", "daily", "weekly", "monthly"}),
    "day": frozenset({"daily", "weekly", "monthly"}),
    "month": frozenset({"monthly"}),
}
# Environment variables that replace all tables of incremental models in each run.
_REFRESHING = frozenset({"DBT_FULL_REFRESH", "DBT_ENGINE_FULL_REFRESH"})
_OF_PARTITIONS = "its result belongs to the partitions of a run"


@dataclass(frozen=True)
class PartitionBuilds:
    """The partitions of a run, and the last builds of them.

    Attributes:
        windows: Hash of what dbt gets of the partitions, by unique id of the step's nodes; empty without partitions.
        builds: The last materialization of each partition, by unique id and partition.
        unbuilt: Why the table of a node does not have the rows of the partitions, by unique id.
        keeps_others: Nodes whose build certainly leaves the rows of other partitions in an existing table.
        rule: Hash of the rule by which the step's assets have partitions.
        tests: Tests of the step whose result belongs to the partitions.
        varying: Nodes whose inputs or settings may depend on the partitions.
    """

    windows: Mapping[str, str] = field(default_factory=dict)
    builds: Mapping[str, Mapping[str, Materialization]] = field(default_factory=dict)
    unbuilt: Mapping[str, str] = field(default_factory=dict)
    keeps_others: frozenset[str] = frozenset()
    rule: str = ""
    tests: frozenset[str] = frozenset()
    varying: frozenset[str] = frozenset()


def read_partition_builds(
    instance: dg.DagsterInstance, step: DbtStep, window: Window, nodes: Iterable[str], known: Known
) -> PartitionBuilds:
    """Read what the tables of a step's nodes have of the run's partitions.

    Args:
        instance: The Dagster instance.
        step: The step's definition.
        window: The partitions.
        nodes: Unique ids of the selected nodes.
        known: What is known about the tables.
    """
    content = step.manifest.content["nodes"]
    states = {node: known.states[node] for node in sorted(nodes)}
    recorded = {node: state for node, state in states.items() if isinstance(state, BuildRecord)}
    if not window.keys:
        unbuilt = {
            node: why
            for node, state in recorded.items()
            if (why := unbuilt_partition(state, None, {}, keeps_others=False))
        }
        return PartitionBuilds(unbuilt=unbuilt)
    rule = _rule(step)
    keeping = {node for node in states if _keeps_others(step, content[node])}
    windows = {node: _window_of(step, window, content[node], rule, is_kept=node in keeping) for node in states}
    # Nothing is read of tables that are built in any case.
    current = {node: state for node, state in recorded.items() if state.fingerprint == known.fingerprints.get(node)}
    builds = {node: partition_materializations(instance, step.key_of[node], window.keys) for node in current}
    found = {
        node: unbuilt_partition(
            state,
            windows[node],
            {key: recorded_build(builds[node][key]) if key in builds[node] else None for key in window.keys},
            keeps_others=node in keeping,
        )
        for node, state in current.items()
    }
    failed = {test for test, record in known.test_records.items() if not record.passed}
    tested = frozenset[str]().union(*(known.tests.get(test, frozenset()) for test in failed))
    unbuilt, kept = {node: why for node, why in found.items() if why}, frozenset(keeping & current.keys() - tested)
    return PartitionBuilds(windows, builds, unbuilt, kept, rule, _tests_of(step, window))


def always_built(partitions: PartitionBuilds, window: Window, always: Mapping[str, str]) -> dict[str, str]:
    """Return why nodes and tests are built or run in each run of a window of partitions.

    Args:
        partitions: The builds of the partitions.
        window: The partitions.
        always: The reasons without partitions.
    """
    own = partitions.windows.keys() if window.arguments else frozenset[str]()
    batched = {node for node in own & always.keys() if always[node] == OF_BATCHES}
    tests = dict.fromkeys(partitions.tests, _OF_PARTITIONS)
    return {**tests, **{node: why for node, why in always.items() if node not in batched}}


def variables_of_partitions(step: DbtStep) -> frozenset[str]:
    """Return the names of the dbt variables that may have the partitions of a product's assets."""
    rules = step.product.config.partitions
    return frozenset(name for rule in rules for name in rule.vars.model_dump().values())


def _tests_of(step: DbtStep, window: Window) -> frozenset[str]:
    """Return the tests that read the variables of the partitions."""
    nodes, names = step.manifest.content["nodes"], window.variables.keys()
    return frozenset(
        test for test in step.nodes.checks.values() if not names.isdisjoint(nodes.get(test, {}).get(VARIABLES) or ())
    )


def _keeps_others(step: DbtStep, node: Mapping[str, Any]) -> bool:
    """Return whether a build certainly leaves the rows of other partitions in an existing table."""
    rule, config, profile = step.partitions, node["config"], step.connection.profile
    is_refreshed = not _REFRESHING.isdisjoint(profile.environment)
    is_of_adapter = profile.adapter == step.manifest.content["metadata"].get("adapter_type")
    if rule is None or is_refreshed or not is_of_adapter or not node.get(KEEPS_PARTITIONS):
        return False
    if config.get("incremental_strategy") != _MICROBATCH:
        return True
    sizes = _WHOLE_BATCHES.get(str(config.get("batch_size")), ())
    return rule.type in sizes and (rule.timezone or step.product.config.timezone) == _UTC


def _rule(step: DbtStep) -> str:
    """Return the hash of what decides where the partitions of a step's assets begin and end."""
    rule = step.partitions
    if rule is None:
        return ""
    timezone = rule.timezone or step.product.config.timezone
    return _hash([rule.type, rule.start, timezone, rule.vars.model_dump()])


def _window_of(step: DbtStep, window: Window, node: Mapping[str, Any], rule: str, *, is_kept: bool) -> str:
    """Return the hash of what dbt gets of a run's partitions for a node.

    The batches of a microbatch model that reads no variable of the partitions are the same in a run of a range.
    """
    is_batched = node["config"].get("incremental_strategy") == _MICROBATCH and bool(window.arguments)
    if is_batched and is_kept and not reads_variables(node, variables_of_partitions(step)):
        return rule
    return _hash([window.variables, window.arguments])


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
