"""Warnings about differences between a product's contract and its dbt project."""

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
    """List the differences between contract and dbt project; empty without a dbt project.

    These are quality checks without a dbt test, checks whose severity or parameters differ from dbt's, and data
    contracts without a table.

    Raises:
        ArtifactsError: A data contract is not valid.
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
