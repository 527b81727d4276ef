"""Automation conditions of assets, built from the configured rules.

Guide: https://docs.dagster.io/guides/automate/declarative-automation
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.assets.graph import dependency_order
from floe_orchestrator_dagster.assets.parts import built_parents
from floe_orchestrator_dagster.automation.changed_rule import changed_conditions
from floe_orchestrator_dagster.automation.cron import check_cron, check_timezone
from floe_orchestrator_dagster.automation.jobs import job_tags
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.config.models import CORRECT_IT
from floe_orchestrator_dagster.errors import ConfigError, Problem
from floe_orchestrator_dagster.product.tags import PRODUCT_TAG, tag_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
    from floe_orchestrator_dagster.assets.selection import NodeSelection
    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.config.automation import AutomationConfig
    from floe_orchestrator_dagster.product import Product

    _Condition = dg.AutomationCondition[Any]

_MAX_ASSETS = 500  # Dagster's limit for a sensor that is evaluated in the code server


def automation_conditions(translator: ProductTranslator, selection: NodeSelection) -> dict[str, _Condition]:
    """Return the condition of each asset that a rule selects, by dbt's unique id; the first matching rule applies.

    Raises:
        ConfigError: As :func:`assets_by_rule`.
    """
    conditions: dict[str, _Condition] = {}
    product = translator.product
    for rule, unique_ids in zip(product.config.automation, assets_by_rule(product, selection), strict=True):
        if rule.condition == "changed":
            conditions |= changed_conditions(translator, unique_ids)
            continue
        for upstream, alike in _by_upstream(translator, unique_ids).items():
            conditions |= dict.fromkeys(alike, _condition(rule, product.config, upstream))
    return conditions


def assets_by_rule(product: Product, selection: NodeSelection) -> list[frozenset[str]]:
    """Return the assets of each rule, by dbt's unique id; the first matching rule applies.

    Raises:
        ConfigError: Selections are not valid, or all assets of a rule match earlier rules. The message lists all.
    """
    by_rule: list[frozenset[str]] = []
    problems: list[Problem] = []
    for row, rule in enumerate(product.config.automation):
        where = config_path("automation", row)
        try:
            selected = selection.chosen(rule, where)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        by_rule.append(selected.difference(*by_rule))
        if selected and not by_rule[-1]:
            what = f"each asset that it selects ({len(selected)}) matches an earlier rule, and the first match applies"
            fix = f"Put the narrower rule first, or remove this one. {CORRECT_IT}"
            problems.append(Problem(where, what, fix))
    if problems:
        raise ConfigError(product.origin, problems)
    return by_rule


def automation_sensors(translator: ProductTranslator) -> list[dg.AutomationConditionSensorDefinition]:
    """Define the sensors that evaluate the conditions; empty without rules.

    Dagster's default sensor starts stopped, so that configured rules would have no effect. These start running. One
    sensor is enough, unless a rule has the condition ``changed``. Dagster then evaluates the conditions in the code
    server, and limits the assets of a sensor.
    """
    product = translator.product
    rules = product.config.automation
    if not rules:
        return []
    is_evaluated_here = any(rule.condition == "changed" for rule in rules)
    targets = [dg.AssetSelection.tag(PRODUCT_TAG, tag_value(product.name))]
    if is_evaluated_here and product.dbt is not None and len(product.dbt.manifest.asset_nodes) > _MAX_ASSETS:
        order = dependency_order(built_parents(product.dbt.manifest, {}))
        starts = range(0, len(order), _MAX_ASSETS)
        keys = [[translator.key_of[node] for node in order[start : start + _MAX_ASSETS]] for start in starts]
        targets = [dg.AssetSelection.assets(*part) for part in keys]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return [
            dg.AutomationConditionSensorDefinition(
                automation_sensor_name(product) + (f"_{number}" if number > 1 else ""),
                target=target,
                default_status=dg.DefaultSensorStatus.RUNNING,
                run_tags=job_tags(product),
                description=f"Materializes the assets of {product.name} that the configured automation rules select.",
                use_user_code_server=is_evaluated_here,
            )
            for number, target in enumerate(targets, 1)
        ]


def automation_sensor_name(product: Product) -> str:
    """Return the name of the first sensor that evaluates the conditions."""
    return f"{product.identifier}_automation"


@dataclass(frozen=True)
class _Upstream:
    """The direct upstream assets of an asset.

    Attributes:
        sources: Keys of sources.
        built: Keys of assets that the product builds; empty without sources, where Dagster's own condition applies.
    """

    sources: tuple[dg.AssetKey, ...] = ()
    built: tuple[dg.AssetKey, ...] = ()


def _condition(rule: AutomationConfig, config: DagsterConfig, upstream: _Upstream) -> _Condition:
    """Return Dagster's condition, changed so that sources without any event in Dagster do not block it.

    dbt sources rarely have events in Dagster. With the unchanged conditions, assets that read them are never requested.
    The condition lists upstream assets by key, because ``ignore`` changes other parts of a condition in Dagster 1.10.
    """
    if rule.condition == "on_cron":
        return _on_cron(check_cron(rule.cron or ""), check_timezone(rule.timezone or config.timezone), upstream)
    stock = dg.AutomationCondition.eager() if rule.condition == "eager" else dg.AutomationCondition.on_missing()
    missing_upstream = dg.AutomationCondition.any_deps_missing()
    if not upstream.sources:
        return stock
    if not upstream.built:
        return stock.without(~missing_upstream)
    missing = dg.AutomationCondition.missing() & ~dg.AutomationCondition.will_be_requested()
    return stock.replace(missing_upstream, reduce(or_, _each(upstream.built, missing)))


def _on_cron(cron: str, timezone: str, upstream: _Upstream) -> _Condition:
    stock = dg.AutomationCondition.on_cron(cron, timezone)
    if not upstream.sources:
        return stock
    tick = dg.AutomationCondition.cron_tick_passed(cron, timezone)
    updated = dg.AutomationCondition.newly_updated().since(tick)
    source_there = updated | dg.AutomationCondition.missing()
    asset_there = updated | dg.AutomationCondition.will_be_requested()
    there = [*_each(upstream.sources, source_there), *_each(upstream.built, asset_there)]
    return stock.replace(dg.AutomationCondition.all_deps_updated_since_cron(cron, timezone), reduce(and_, there))


def _each(keys: Iterable[dg.AssetKey], condition: _Condition) -> list[_Condition]:
    return [dg.AutomationCondition.asset_matches(key, condition) for key in keys]


def _by_upstream(translator: ProductTranslator, unique_ids: Iterable[str]) -> Mapping[_Upstream, list[str]]:
    """Group assets by their upstream assets; assets without sources form one group."""
    dbt = translator.product.dbt
    if dbt is None:
        return {_Upstream(): list(unique_ids)}
    manifest, key_of = dbt.manifest, translator.key_of
    nodes, all_sources = manifest.content["nodes"], manifest.content["sources"]
    grouped: dict[_Upstream, list[str]] = defaultdict(list)
    for unique_id in unique_ids:
        read = manifest.relations_read_by(unique_id)
        sources = {key_of[parent] for parent in read & all_sources.keys()}
        built = {key_of[parent] for parent in read & nodes.keys()} if sources else set()
        grouped[_Upstream((*sorted(sources),), (*sorted(built),))].append(unique_id)
    return grouped
