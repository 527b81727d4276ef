"""Assets that Dagster materializes by itself: the configured rules as automation conditions.

https://docs.dagster.io/guides/automate/declarative-automation
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import PRODUCT_TAG, tag_value
from floe_orchestrator_dagster.assets.translator import FloeDbtTranslator
from floe_orchestrator_dagster.automation.cron import check_cron, check_timezone
from floe_orchestrator_dagster.automation.jobs import job_tags
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from floe_orchestrator_dagster.assets.selection import NodeSelection
    from floe_orchestrator_dagster.config import AutomationConfig, DagsterConfig
    from floe_orchestrator_dagster.product import Product


def automation_conditions(product: Product, selection: NodeSelection) -> dict[str, dg.AutomationCondition[Any]]:
    """Return the condition of each asset that a rule selects, by dbt's unique id; the first rule that fits counts.

    Raises:
        ConfigError: A selection that cannot be used, or a rule whose assets earlier rules have taken.
    """
    conditions: dict[str, dg.AutomationCondition[Any]] = {}
    for row, rule in enumerate(product.config.automation):
        where = config_path("automation", row)
        selected = selection.unique_ids(rule.select, rule.exclude, where)
        left = selected - conditions.keys()
        if not left:
            what = f"all {len(selected)} assets that it selects belong to rules before it, and the first rule counts"
            fix = "Put the narrower rule first, or remove this one. Correct it in manifest.yaml."
            raise ConfigError(product.origin, [Problem(where, what, fix)])
        for sources, unique_ids in _by_sources(product, left).items():
            conditions |= dict.fromkeys(unique_ids, _condition(rule, product.config, sources))
    return conditions


def _by_sources(product: Product, unique_ids: Iterable[str]) -> Mapping[tuple[dg.AssetKey, ...], list[str]]:
    """Group assets by the keys of the sources that they read; those that read the same share one condition."""
    translator, grouped = FloeDbtTranslator(product), defaultdict[tuple[dg.AssetKey, ...], list[str]](list)
    manifest = product.dbt.manifest.content if product.dbt else {"parent_map": {}, "sources": {}, "nodes": {}}
    for unique_id in sorted(unique_ids):
        read = (manifest["sources"][source] for source in _sources_read(manifest, unique_id))
        grouped[tuple(sorted(map(translator.get_asset_key, read)))].append(unique_id)
    return grouped


def automation_sensor(product: Product) -> dg.AutomationConditionSensorDefinition | None:
    """Define the sensor that evaluates the conditions; None without a rule.

    Dagster makes one itself, but leaves it stopped: a configured rule would do nothing. This one is running.
    """
    if not product.config.automation:
        return None
    return dg.AutomationConditionSensorDefinition(
        automation_sensor_name(product),
        target=dg.AssetSelection.tag(PRODUCT_TAG, tag_value(product.name)),
        default_status=dg.DefaultSensorStatus.RUNNING,
        run_tags=job_tags(product),
        description=f"Materializes the assets of {product.name} that the configured automation rules select.",
    )


def automation_sensor_name(product: Product) -> str:
    """Name the sensor that evaluates the conditions."""
    return f"{product.identifier}_automation"


def _condition(
    rule: AutomationConfig, config: DagsterConfig, sources: Sequence[dg.AssetKey]
) -> dg.AutomationCondition[Any]:
    """Dagster's own condition; a source that nobody has ever reported to Dagster does not hold it up."""
    Condition = dg.AutomationCondition  # noqa: N806  # it is used as a namespace
    ours = dg.AssetSelection.assets(*sources)
    if rule.condition == "on_cron":
        cron, timezone = check_cron(rule.cron or ""), check_timezone(rule.timezone or config.timezone)
        stock: dg.AutomationCondition[Any] = Condition.on_cron(cron, timezone)
        waits = Condition.all_deps_updated_since_cron(cron, timezone)
        since_tick = Condition.newly_updated().since(Condition.cron_tick_passed(cron, timezone))
        sources_there = Condition.all_deps_match(Condition.missing() | since_tick).allow(ours)
        return stock.replace(waits, waits.ignore(ours) & sources_there) if sources else stock
    stock = Condition.eager() if rule.condition == "eager" else Condition.on_missing()
    waits = Condition.any_deps_missing()
    return stock.replace(waits, waits.ignore(ours)) if sources else stock


def _sources_read(manifest: Mapping[str, Any], unique_id: str) -> set[str]:
    """Find the sources that an asset reads, through ephemeral models too."""
    found: set[str] = set()
    for parent in manifest["parent_map"].get(unique_id, ()):
        if parent in manifest["sources"]:
            found.add(parent)
        elif manifest["nodes"].get(parent, {}).get("config", {}).get("materialized") == "ephemeral":
            found |= _sources_read(manifest, parent)
    return found
