"""The job that builds a whole product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import PRODUCT_TAG, AssetAttributes, tag_value
from floe_orchestrator_dagster.errors import ArtifactsError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

    from floe_orchestrator_dagster.product import Product


def product_job(
    product: Product,
    assets: Sequence[dg.AssetsDefinition | dg.AssetSpec],
    on_demand: Sequence[dg.AssetCheckKey] = (),
) -> UnresolvedAssetJobDefinition:
    """Define one job over everything the product builds, checks on its sources included, named after it.

    Args:
        product: The product.
        assets: Its assets.
        on_demand: Checks that the job leaves out.

    Raises:
        ArtifactsError: The product's name is a reserved word.
    """
    sources = [asset.key for asset in assets if isinstance(asset, dg.AssetSpec)]
    selection = dg.AssetSelection.tag(PRODUCT_TAG, tag_value(product.name))
    if sources:
        selection = selection | dg.AssetSelection.checks_for_assets(*sources)
    if on_demand:
        selection = selection - dg.AssetSelection.checks(*on_demand)
    return dg.define_asset_job(
        _job_name(product),
        selection=selection,
        description=product.spec.description or f"Builds the data product {product.name}.",
        tags=AssetAttributes(product).product_tags,
    )


def _job_name(product: Product) -> str:
    try:
        dg.GraphDefinition(name=product.identifier)
    except dg.DagsterInvalidDefinitionError:
        what = f"{product.name!r} cannot name a Dagster job: it is a word that Dagster or Python keep for themselves"
        fix = "Rename the product in floe.yaml (metadata.name) and compile it again."
        raise ArtifactsError(product.origin, [Problem("metadata.product_name", what, fix)]) from None
    return product.identifier
