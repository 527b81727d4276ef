"""Where the contract and the dbt project disagree although the product works: warnings for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from floe_orchestrator_dagster.product.contracts import (
    contract_of,
    contract_problems,
    match_table_contracts,
    read_table_contracts,
)
from floe_orchestrator_dagster.product.quality import match_quality_checks, quality_problems

if TYPE_CHECKING:
    from floe_orchestrator_dagster.errors import Problem
    from floe_orchestrator_dagster.product import Product


def product_disagreements(product: Product) -> list[Problem]:
    """List what people should look at; nothing without a dbt project.

    Quality checks that no dbt test implements, or that dbt takes otherwise, and data contracts about no table.

    Raises:
        ArtifactsError: A data contract that cannot be used at all.
    """
    tables = read_table_contracts(product.artifacts.data_contracts, product.origin)
    if product.dbt is None:
        return []
    manifest = product.dbt.manifest.content
    quality = match_quality_checks(product.models, manifest)
    ingested = [
        contract_of(tables, output.physical_table, output.logical_table)
        for output in product.artifacts.ingestion_outputs
    ]
    unmatched = match_table_contracts(tables, manifest).unmatched
    return [
        *quality_problems(quality, manifest),
        *contract_problems([table for table in unmatched if table not in ingested]),
    ]
