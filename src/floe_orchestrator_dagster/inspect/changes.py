"""Plan of a run that builds what has changed: decisions about assets and checks, made as a run makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.execution.reuse.decision import short_name
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord
from floe_orchestrator_dagster.execution.step.build_decision import decide_step
from floe_orchestrator_dagster.execution.step.build_plan import is_materialized
from floe_orchestrator_dagster.execution.step.build_request import changed_request
from floe_orchestrator_dagster.execution.step.node_selection import select_nodes
from floe_orchestrator_dagster.execution.step.other_computes import on_own_manifest
from floe_orchestrator_dagster.execution.step.run_options import DbtOptions
from floe_orchestrator_dagster.execution.step.time_windows import Window
from floe_orchestrator_dagster.garbage import collection_paused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import dagster as dg

    from floe_orchestrator_dagster.execution.step.build_decision import StepDecision
    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep

_NO_RUN = ""  # the plan belongs to no run, so the history leaves none out


@dataclass(frozen=True)
class PlannedAsset:
    """The decision about an asset.

    Attributes:
        asset: Key of the asset, its parts joined by slashes.
        node: Unique id of the dbt node.
        is_built: Whether a run would build it.
        reason: Why, or why not.
    """

    asset: str
    node: str
    is_built: bool
    reason: str


@dataclass(frozen=True)
class PlannedCheck:
    """The decision about a check.

    Attributes:
        asset: Key of its asset.
        check: Its name.
        node: Unique id of the dbt test.
        is_run: Whether a run would evaluate it.
        reason: Why, or why not.
    """

    asset: str
    check: str
    node: str
    is_run: bool
    reason: str


@dataclass(frozen=True)
class ChangePlan:
    """Decisions about all assets and checks of a product's dbt project, in the order of its steps."""

    assets: Sequence[PlannedAsset] = ()
    checks: Sequence[PlannedCheck] = ()
    decisions: Sequence[tuple[DbtStep, StepDecision]] = field(default=(), repr=False)


@dataclass(frozen=True)
class Explanation:
    """The decision about an asset, and its causes.

    Attributes:
        asset: The decision.
        causes: Decisions about assets upstream that lead to the build, from the asset to the first cause.
        inputs: What the asset reads, also behind views and ephemeral models, each with the decision about it.
        checks: Decisions about its checks.
        built_at: Time of its last materialization; None without one.
        built_in_run: Id of the run of its last materialization; None without one.
    """

    asset: PlannedAsset
    causes: Sequence[PlannedAsset]
    inputs: Sequence[tuple[str, str]]
    checks: Sequence[PlannedCheck]
    built_at: datetime | None
    built_in_run: str | None


@collection_paused()  # as in a decision
def plan_changes(instance: dg.DagsterInstance, steps: Iterable[DbtStep]) -> ChangePlan:
    """Decide what a run of all assets would build now.

    Nothing is built or recorded. dbt starts only to query a database other than a DuckDB file, or the newest rows of
    sources.

    Args:
        instance: The Dagster instance.
        steps: The product's steps, each after those that it reads.
    """
    before: dict[str, str] = {}
    assets: list[PlannedAsset] = []
    checks: list[PlannedCheck] = []
    decisions: list[tuple[DbtStep, StepDecision]] = []
    for step in map(on_own_manifest, steps):
        nodes = step.nodes
        every, all_checks = nodes.assets.keys(), nodes.checks.keys()
        is_known = partial(is_materialized, instance)
        selection = select_nodes(nodes, every, all_checks, is_known, along=nodes.along(every, all_checks))
        request = changed_request(step, DbtOptions(), Window())
        found = decide_step(instance, _NO_RUN, step, nodes.expected(selection), request.build_all, before)
        before |= found.decision.built
        decisions.append((step, found))
        assets += _assets(step, found)
        checks += _checks(step, found)
    return ChangePlan(assets, checks, decisions)


def _assets(step: DbtStep, found: StepDecision) -> list[PlannedAsset]:
    decided = {True: found.decision.built, False: found.decision.reused}
    return [
        PlannedAsset(step.key_of[node].to_user_string(), node, is_built, reason)
        for is_built, reasons in decided.items()
        for node, reason in reasons.items()
    ]


def _checks(step: DbtStep, found: StepDecision) -> list[PlannedCheck]:
    decided, check_of = {True: found.decision.run, False: found.decision.kept}, step.nodes.check_of
    return [
        PlannedCheck(check_of[test].asset_key.to_user_string(), check_of[test].name, test, is_run, reason)
        for is_run, reasons in decided.items()
        for test, reason in reasons.items()
    ]


def explain(plan: ChangePlan, node: str) -> Explanation:
    """Explain the decision about an asset.

    Args:
        plan: The decisions about all assets.
        node: Unique id of its dbt node, which is in the plan.
    """
    by_node = {asset.node: asset for asset in plan.assets}
    step, found = next((step, found) for step, found in plan.decisions if node in step.nodes.assets.values())
    latest = found.history.materializations.get(step.key_of[node])
    return Explanation(
        by_node[node],
        _causes(found, by_node, node),
        [(short_name(read), _input(found, by_node, node, read)) for read in sorted(found.graph.inputs(node))],
        [check for check in plan.checks if node in found.graph.parents.get(check.node, ())],
        datetime.fromtimestamp(latest.timestamp, tz=timezone.utc) if latest else None,
        latest.run_id if latest else None,
    )


def _causes(found: StepDecision, by_node: Mapping[str, PlannedAsset], node: str) -> list[PlannedAsset]:
    causes: list[PlannedAsset] = []
    seen = {node}
    while by_node[node].is_built:
        reason = by_node[node].reason
        parents = (read for read in sorted(found.graph.inputs(node)) if read in by_node and read not in seen)
        cause = next((read for read in parents if reason == f"{short_name(read)} is built"), None)
        if cause is None:
            break
        seen.add(cause)
        causes.append(by_node[cause])
        node = cause
    return causes


def _input(found: StepDecision, by_node: Mapping[str, PlannedAsset], node: str, read: str) -> str:
    if read in by_node:
        return f"{'built' if by_node[read].is_built else 'reused'}, because {by_node[read].reason}"
    state, version = found.known.states.get(node), found.known.versions.get(read)
    if version is None:
        return "it is not known whether its data has changed"
    if not isinstance(state, BuildRecord):
        return "there is no earlier build to compare with"
    has = "has not" if version == state.inputs.get(read) else "has"
    return f"its data {has} changed since the last build"
