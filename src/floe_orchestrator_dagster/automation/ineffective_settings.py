"""Warnings about settings that have no effect, or not the intended one."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.assets.partitions import partitioned_nodes
from floe_orchestrator_dagster.automation.jobs import job_names
from floe_orchestrator_dagster.automation.minutes import shifted_schedules
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.config.automation import AssetSensorConfig
from floe_orchestrator_dagster.errors import Problem
from floe_orchestrator_dagster.product.trimming import VARIABLES
from floe_orchestrator_dagster.wording import closest, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.assets.selection import NodeSelection
    from floe_orchestrator_dagster.automation.cron import JobSchedule
    from floe_orchestrator_dagster.automation.targets import Targets
    from floe_orchestrator_dagster.config.models import PartitionsConfig
    from floe_orchestrator_dagster.product import Product

_FIX = "Correct it in manifest.yaml."
_SHOWN = 5


def ineffective_settings(
    product: Product, selection: NodeSelection, targets: Targets, registered: Sequence[JobSchedule] = ()
) -> list[Problem]:
    """Return a warning for each setting that does not have the intended effect.

    - Partitions whose variables a model does not read, or whose column it does not have.
    - Schedules that the installed Dagster evaluates at other minutes.
    - Sensors on assets that the product does not have.
    - Sensors that make jobs launch each other in a cycle.
    """
    return [
        *shifted_schedules(product, registered),
        *_partitions(product, selection),
        *_unknown_assets(product, targets),
        *_cycles(product, targets),
    ]


def _partitions(product: Product, selection: NodeSelection) -> Iterator[Problem]:
    rules = product.config.partitions
    if not rules or product.dbt is None:
        return
    nodes = product.dbt.manifest.content["nodes"]
    members: list[list[Mapping[str, Any]]] = [[] for _ in rules]
    for unique_id, row in sorted(partitioned_nodes(product, selection).items()):
        members[row].append(nodes[unique_id])
    for row, (rule, following) in enumerate(zip(rules, members, strict=True)):
        variables = [rule.vars.key] if rule.type == "static" else [rule.vars.start, rule.vars.end]
        ignoring = [node["name"] for node in following if _ignores(node, variables, rule)]
        if ignoring:
            read = " or ".join(map(repr, variables))
            kind = "does not read" if rule.type == "static" else "is not microbatch and does not read"
            what = f"each partition builds all of {_listed(ignoring)}: the code {kind} the dbt variable {read}"
            fix = f"Read it with var() in the model, or exclude the model from the partitions. {_FIX}"
            yield Problem(config_path("partitions", row, "select"), what, fix)
        without = [node["name"] for node in following if rule.time_column and _lacks(node, rule.time_column)]
        if without:
            what = f"{rule.time_column!r} is not a described column of {_listed(without)}"
            yield Problem(config_path("partitions", row, "time_column"), what, _FIX)


def _ignores(node: Mapping[str, Any], variables: list[str], rule: PartitionsConfig) -> bool:
    is_microbatch = node["config"].get("incremental_strategy") == "microbatch"
    if is_microbatch and rule.type != "static":
        return False
    return not set(variables) & set(node.get(VARIABLES) or ())


def _lacks(node: Mapping[str, Any], column: str) -> bool:
    """Return whether a model with described columns does not have this one."""
    described = {name.lower() for name in node.get("columns") or {}}
    return bool(described) and column.lower() not in described


def _unknown_assets(product: Product, targets: Targets) -> Iterator[Problem]:
    watched = [(row, entry) for row, entry in enumerate(product.config.sensors) if isinstance(entry, AssetSensorConfig)]
    if not watched:
        return
    keys = (asset.keys if isinstance(asset, dg.AssetsDefinition) else [asset.key] for asset in targets.assets)
    known = {key.to_user_string() for group in keys for key in group}
    for row, entry in watched:
        if entry.asset not in known:
            what = (
                f"{entry.asset!r} is not an asset of this product: "
                "the sensor waits for another code location to materialize it"
            )
            fix = f"{did_you_mean(closest(entry.asset, known))}Keep it if one does. {_FIX}"
            yield Problem(config_path("sensors", row, "asset"), what, fix)


def _cycles(product: Product, targets: Targets) -> Iterator[Problem]:
    followed: dict[str, set[str]] = {}
    for entry in product.config.sensors:
        if isinstance(entry, AssetSensorConfig):
            key, launched = dg.AssetKey(entry.asset.split("/")), entry.job or product.identifier
            watched = [job for job in job_names(product) if key in targets.job_keys(product, job)]
        else:
            launched, watched = entry.job, entry.jobs or [product.identifier]
        followed.setdefault(launched, set()).update(watched)
    try:
        TopologicalSorter(followed).prepare()
    except CycleError as error:
        path = " -> ".join(error.args[1])
        what = f"jobs launch each other in a cycle: {path}"
        yield Problem(config_path("sensors"), what, f"Remove one of the sensors between them. {_FIX}")


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
