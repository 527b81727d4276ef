"""Quality checks of the contract as asset checks, and the asset that represents the product itself."""

from __future__ import annotations

import re
from itertools import chain, count
from typing import TYPE_CHECKING

import dagster as dg
from floe_core.schemas.quality_config import SeverityLevel

from floe_orchestrator_dagster.assets.attributes import AssetAttributes
from floe_orchestrator_dagster.product.quality import QualityMatches, check_weight, is_ephemeral, match_quality_checks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from floe_core.schemas.quality_score import QualityCheck

    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.product.quality import DeclaredCheck


_SEVERITY = "floe/severity"


def product_quality(product: Product) -> QualityMatches:
    """Match the product's declared checks with its dbt tests; empty without a dbt project or checks."""
    if product.dbt is None or not any(model.quality_checks for model in product.models):
        return QualityMatches((), {}, frozenset())
    return match_quality_checks(product.models, product.dbt.manifest.content)


def declared_check_spec(spec: dg.AssetCheckSpec, check: QualityCheck, product: Product) -> dg.AssetCheckSpec:
    """Return a check's spec with the contract's description, metadata and severity."""
    return spec._replace(
        description=spec.description or describe_check(check),
        metadata={**(spec.metadata or {}), **declared_metadata(check, product)},
        blocking=check.severity is SeverityLevel.CRITICAL,
    )


def declared_metadata(check: QualityCheck, product: Product) -> dict[str, str | float]:
    """Return the metadata of a declared check: name, dimension, severity and weight in the score."""
    return {
        "floe/quality_check": check.name,
        "floe/dimension": check.dimension.value,
        _SEVERITY: check.severity.value,
        "floe/weight": check_weight(check, product.artifacts.quality_config),
    }


def describe_check(check: QualityCheck) -> str:
    """Return a one-line description of a declared check."""
    column = f" of {check.column}" if check.column else ""
    return f"{check.name}: {check.type}{column} ({check.dimension.value}, {check.severity.value})"


def declared_severities(specs: Iterable[dg.AssetCheckSpec]) -> Mapping[dg.AssetCheckKey, dg.AssetCheckSeverity]:
    """Return the severity of each check that the contract declares."""
    declared = {spec.key: (spec.metadata or {}).get(_SEVERITY) for spec in specs}
    return {key: _severity(severity) for key, severity in declared.items() if severity}


def unimplemented_checks(
    product: Product, key_of: Mapping[str, dg.AssetKey], definitions: Sequence[dg.AssetsDefinition]
) -> dict[dg.AssetCheckKey, DeclaredCheck]:
    """Return a check key for each declared check without a dbt test, except those on ephemeral models."""
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
    """Return a check key for each enabled declared check of a product without a manifest."""
    found: dict[dg.AssetCheckKey, QualityCheck] = {}
    for model in product.models:
        asset = dg.AssetKey([*product.config.key_prefix, model.name])
        for check in model.quality_checks or []:
            if check.enabled:
                found[_free_key(asset, check.name, found.keys())] = check
    return found


def _free_key(asset: dg.AssetKey, name: str, taken: Collection[dg.AssetCheckKey]) -> dg.AssetCheckKey:
    """Return a check key with a valid name that is unique on the asset."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    names = (plain if number == 1 else f"{plain}_{number}" for number in count(1))
    return next(key for name in names if (key := dg.AssetCheckKey(asset, name)) not in taken)


def _severity(declared: str) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.ERROR if declared == "critical" else dg.AssetCheckSeverity.WARN


def product_key(product: Product, taken: Collection[dg.AssetKey]) -> dg.AssetKey:
    """Return the key of the asset that represents the product: its name, or a variant when another asset has that key.

    Args:
        product: The product.
        taken: Keys of its other assets.
    """
    other = f"{product.identifier}_product"
    names = chain([product.identifier, other], (f"{other}_{number}" for number in count(2)))
    keys = (dg.AssetKey([*product.config.key_prefix, name]) for name in names)
    return next(key for key in keys if key not in taken)


def product_spec(product: Product, key: dg.AssetKey, leaves: Sequence[dg.AssetKey]) -> dg.AssetSpec:
    """Return the spec of the asset that represents the product.

    Args:
        product: The product.
        key: Key of the asset.
        leaves: Keys of its upstream assets: those that no other asset of the product reads.
    """
    attributes = AssetAttributes(product)
    config = product.artifacts.quality_config
    scored_by = config.model_dump(mode="json") if config is not None and config.enabled else None
    return dg.AssetSpec(
        key,
        deps=leaves,
        description=product.spec.description or f"The data product {product.name}.",
        group_name=product.identifier,
        kinds={"floe"},
        owners=attributes.owners,
        tags=attributes.product_tags,
        metadata={
            **attributes.product_metadata,
            "floe/product_version": product.artifacts.metadata.product_version,
            "floe/source_hash": product.artifacts.metadata.source_hash,
            **({"floe/quality_config": dg.JsonMetadataValue(scored_by)} if scored_by else {}),
        },
    )
