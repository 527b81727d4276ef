"""The asset of the product itself, with the quality score and the dbt tests that read no other asset."""

from __future__ import annotations

from itertools import chain, count
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import AssetAttributes

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from floe_orchestrator_dagster.product import Product


def product_key(product: Product, taken: Collection[dg.AssetKey]) -> dg.AssetKey:
    """Return the product's key: its name, or a variant when another asset has that key.

    Args:
        product: The product.
        taken: Keys of its other assets.
    """
    other = f"{product.identifier}_product"
    names = chain([product.identifier, other], (f"{other}_{number}" for number in count(2)))
    keys = (dg.AssetKey([*product.config.key_prefix, name]) for name in names)
    return next(key for key in keys if key not in taken)


def product_spec(product: Product, key: dg.AssetKey, leaves: Sequence[dg.AssetKey]) -> dg.AssetSpec:
    """Return the spec of the product's asset, downstream of the product's leaves."""
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
            **({"floe/quality_config": dg.JsonMetadataValue(scored_by)} if scored_by else {}),
        },
    )
