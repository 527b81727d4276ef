"""Specs of upstream assets for ingestion tables that no dbt source represents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import AssetAttributes
from floe_orchestrator_dagster.assets.contracts import (
    contract_metadata,
    contract_owners,
    contract_tags,
    freshness_attributes,
    ingestion_metadata,
    ingestion_tags,
)
from floe_orchestrator_dagster.product.contracts import contract_of

if TYPE_CHECKING:
    from floe_core.schemas.compiled_artifacts import IngestionOutputTable

    from floe_orchestrator_dagster.product import Product


def ingestion_assets(product: Product) -> list[dg.AssetSpec]:
    """Return one spec per table. Its key is the configured ``key_prefix`` and the table's physical name."""
    attributes = AssetAttributes(product)
    return [_spec(output, attributes) for output in attributes.ingestion.unmatched]


def _spec(output: IngestionOutputTable, attributes: AssetAttributes) -> dg.AssetSpec:
    product = attributes.product
    contract = contract_of(attributes.table_contracts, output.physical_table, output.logical_table)
    described = contract.table.description if contract else None
    return dg.AssetSpec(
        [*product.config.key_prefix, *output.physical_table.split(".")],
        description=described or f"Table that the ingestion source {output.source_name} writes.",
        group_name=product.identifier,
        kinds={output.table_format, output.quality_tier},
        owners=(contract_owners(contract) if contract else []) or attributes.owners,
        tags={
            **(contract_tags(contract) if contract else {}),
            **attributes.product_tags,
            **ingestion_tags(output),
        },
        metadata={
            "dagster/table_name": output.physical_table,
            **attributes.product_metadata,
            **ingestion_metadata(output),
            **(contract_metadata(contract, {}) if contract else {}),
        },
        **(freshness_attributes(contract) if contract else {}),
    )
