"""Dagster's partitions of the product's assets, built from the configuration."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.config.models import CORRECT_IT
from floe_orchestrator_dagster.errors import ConfigError, Problem
from floe_orchestrator_dagster.product.project import PROJECT_DIR_VARIABLE
from floe_orchestrator_dagster.product.trimming import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from floe_orchestrator_dagster.assets.selection import NodeSelection
    from floe_orchestrator_dagster.config.models import PartitionsConfig
    from floe_orchestrator_dagster.product import Product

_OF_TIME = dg.TimeWindowPartitionsDefinition
_HAS_PARTITIONED_CHECKS = "partitions_def" in inspect.signature(dg.AssetCheckSpec.__new__).parameters
_DEFINITIONS: Mapping[str, Callable[..., dg.PartitionsDefinition[str]]] = {
    "hourly": dg.HourlyPartitionsDefinition,
    "daily": dg.DailyPartitionsDefinition,
    "weekly": dg.WeeklyPartitionsDefinition,
    "monthly": dg.MonthlyPartitionsDefinition,
}


def partitioned_nodes(product: Product, selection: NodeSelection) -> dict[str, int]:
    """Return the index in ``partitions`` of each partitioned node, by unique id.

    Raises:
        ConfigError: A selection is not valid or matches nothing, or several entries select the same node. The message
            lists all problems.
    """
    return selection.rows([(rule.select, rule.exclude) for rule in product.config.partitions], "partitions")


def partitions_definitions(product: Product) -> list[dg.PartitionsDefinition[str]]:
    """Create Dagster's definition of each entry in ``partitions``.

    Raises:
        ConfigError: Dagster rejects some entries. The message lists all.
    """
    rules = enumerate(product.config.partitions)
    problems = [problem for row, rule in rules for problem in _problems(product, row, rule)]
    if problems:
        raise ConfigError(product.origin, problems)
    return [_definition(product, rule) for rule in product.config.partitions]


def require_dbt_project(product: Product) -> None:
    """Reject partitions of a product without a dbt project, where their selections cannot be resolved.

    Raises:
        ConfigError: The configuration has partitions.
    """
    if product.config.partitions:
        what = f"product {product.name!r} has no dbt project here, so the selections of partitions match nothing"
        fix = f"Set {PROJECT_DIR_VARIABLE} to the directory with dbt_project.yml."
        raise ConfigError(product.origin, [Problem(config_path("partitions"), what, fix)])


def partition_variables(rule: PartitionsConfig) -> list[str]:
    """Return the names of the dbt variables with the partition of a run."""
    return [rule.vars.key] if rule.type == "static" else [rule.vars.start, rule.vars.end]


def reads_partition(node: Mapping[str, Any], rule: PartitionsConfig) -> bool:
    """Return whether a model or test reads a dbt variable with the partition of a run."""
    return not {*partition_variables(rule)}.isdisjoint(node.get(VARIABLES) or ())


def with_partition_mappings(
    spec: dg.AssetSpec, partitions: Mapping[dg.AssetKey, dg.PartitionsDefinition[str]]
) -> dg.AssetSpec:
    """Return the spec with a mapping for each dependency between time and static partitions, which depend on all.

    Dagster has no default for these, and refuses such definitions when they are validated.

    Args:
        spec: The spec.
        partitions: Partitions of the product's assets, by key.
    """
    own = partitions.get(spec.key)
    if own is None:
        return spec
    deps = [_with_mapping(dep, own, partitions.get(dep.asset_key)) for dep in spec.deps]
    return spec.replace_attributes(deps=deps)


def _with_mapping(
    dep: dg.AssetDep, own: dg.PartitionsDefinition[str], other: dg.PartitionsDefinition[str] | None
) -> dg.AssetDep:
    has_default = other is None or (isinstance(own, _OF_TIME) == isinstance(other, _OF_TIME))
    if dep.partition_mapping is not None or has_default:
        return dep
    return dg.AssetDep(dep.asset_key, partition_mapping=dg.AllPartitionMapping())


def with_partitions(spec: dg.AssetCheckSpec, partitions: dg.PartitionsDefinition[str] | None) -> dg.AssetCheckSpec:
    """Return the spec of a check with a result for each partition; the spec itself if Dagster has no such checks."""
    if partitions is None or not _HAS_PARTITIONED_CHECKS:
        return spec
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dagster calls the argument a preview
        return spec._replace(partitions_def=partitions)


def backfill_policy(rule: PartitionsConfig) -> dg.BackfillPolicy:
    """Return the backfill policy: one run for a range of time partitions, one run per static partition."""
    return dg.BackfillPolicy.multi_run(1) if rule.type == "static" else dg.BackfillPolicy.single_run()


def partition_metadata(rule: PartitionsConfig) -> Mapping[str, str]:
    """Return the metadata for Dagster's I/O managers with the column that partitions use."""
    return {"partition_expr": rule.time_column} if rule.time_column else {}


def _definition(product: Product, rule: PartitionsConfig) -> dg.PartitionsDefinition[str]:
    if rule.type == "static":
        return dg.StaticPartitionsDefinition(rule.values)
    timezone = rule.timezone or product.config.timezone
    return _DEFINITIONS[rule.type](
        start_date=rule.start, end_date=rule.end, timezone=timezone, end_offset=rule.end_offset
    )


def _problems(product: Product, row: int, rule: PartitionsConfig) -> list[Problem]:
    """Return Dagster's errors for static keys, and for a first time partition outside of its calendar."""
    try:
        definition = _definition(product, rule)
        if isinstance(definition, dg.TimeWindowPartitionsDefinition):
            first = definition.get_first_partition_key()
            if first is not None:
                definition.time_window_for_partition_key(first)
    except dg.DagsterError as error:
        where = config_path("partitions", row, "values")
        return [Problem(where, str(error).rstrip("."), f"Give the keys other names. {CORRECT_IT}")]
    except (ValueError, OverflowError):
        what = f"{rule.start!r} is outside of Dagster's calendar, which has the years from 1000 to 9999"
        fix = f"Write the first day that has data. {CORRECT_IT}"
        return [Problem(config_path("partitions", row, "start"), what, fix)]
    return []
