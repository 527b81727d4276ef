"""Quality checks of the contract as attributes of asset checks."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import dagster as dg
from floe_core.schemas.quality_config import SeverityLevel

from floe_orchestrator_dagster.product.quality import (
    QualityMatches,
    check_weight,
    is_ephemeral,
    match_quality_checks,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from floe_core.schemas.quality_score import QualityCheck

    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.product.quality import DeclaredCheck

_SEVERITY = "floe/severity"


def product_quality(product: Product) -> QualityMatches:
    """Bring the product's declared checks and its dbt tests together; nothing without a dbt project or a check."""
    if product.dbt is None or not any(model.quality_checks for model in product.models):
        return QualityMatches((), {}, frozenset())
    return match_quality_checks(product.models, product.dbt.manifest.content)


def declared_check_spec(spec: dg.AssetCheckSpec, check: QualityCheck, product: Product) -> dg.AssetCheckSpec:
    """Give a check what the contract declares; its name stays."""
    return spec._replace(
        description=spec.description or describe_check(check),
        metadata={**(spec.metadata or {}), **declared_metadata(check, product)},
        blocking=check.severity is SeverityLevel.CRITICAL,
    )


def declared_metadata(check: QualityCheck, product: Product) -> dict[str, str | float]:
    """Metadata of a check that the contract declares: name, dimension, severity and weight in the score."""
    return {
        "floe/quality_check": check.name,
        "floe/dimension": check.dimension.value,
        _SEVERITY: check.severity.value,
        "floe/weight": check_weight(check, product.artifacts.quality_config),
    }


def describe_check(check: QualityCheck) -> str:
    """Describe a declared check in a sentence."""
    column = f" of {check.column}" if check.column else ""
    return f"{check.name}: {check.type}{column} ({check.dimension.value}, {check.severity.value})"


def declared_severities(specs: Iterable[dg.AssetCheckSpec]) -> Mapping[dg.AssetCheckKey, dg.AssetCheckSeverity]:
    """Return the severities that the contract gives to checks."""
    declared = {spec.key: (spec.metadata or {}).get(_SEVERITY) for spec in specs}
    return {key: _severity(severity) for key, severity in declared.items() if severity}


def unimplemented_checks(
    product: Product, key_of: Mapping[str, dg.AssetKey], definitions: Sequence[dg.AssetsDefinition]
) -> dict[dg.AssetCheckKey, DeclaredCheck]:
    """Name a check for each declared one that no dbt test implements; ephemeral models have no asset to show one."""
    if product.dbt is None:
        return {}
    manifest = product.dbt.manifest.content
    taken = {spec.key for definition in definitions for spec in definition.check_specs}
    found: dict[dg.AssetCheckKey, DeclaredCheck] = {}
    for declared in product_quality(product).unimplemented:
        if not is_ephemeral(declared, manifest):
            found[_free_key(key_of[declared.node], declared.check.name, {*taken, *found})] = declared
    return found


def contract_checks(product: Product) -> dict[dg.AssetCheckKey, QualityCheck]:
    """Name a check for each declared and enabled one, for a product whose dbt tests are not known yet."""
    found: dict[dg.AssetCheckKey, QualityCheck] = {}
    for model in product.models:
        asset = dg.AssetKey([*product.config.key_prefix, model.name])
        for check in model.quality_checks or []:
            if check.enabled:
                found[_free_key(asset, check.name, found.keys())] = check
    return found


def _free_key(asset: dg.AssetKey, name: str, taken: Collection[dg.AssetCheckKey]) -> dg.AssetCheckKey:
    """Name a check as Dagster allows, and as no other check of the asset is called."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    names = (plain if count == 1 else f"{plain}_{count}" for count in itertools.count(1))
    return next(key for name in names if (key := dg.AssetCheckKey(asset, name)) not in taken)


def _severity(declared: str) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.ERROR if declared == "critical" else dg.AssetCheckSeverity.WARN
