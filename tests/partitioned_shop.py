"""Runs of a product with partitioned models on DuckDB, and the rows of its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import duckdb

from floe_orchestrator_dagster.code_location import definitions_from_file

if TYPE_CHECKING:
    from pathlib import Path


def materialize(
    shop: Path, instance: dg.DagsterInstance, selection: dg.AssetSelection, **options: object
) -> dg.ExecuteInProcessResult:
    """Run the selected assets and checks of the product, with options of Dagster's ``materialize``."""
    assets = list(definitions_from_file(shop / "compiled_artifacts.json").assets or [])
    return dg.materialize(assets, selection=selection, instance=instance, **options)  # type: ignore[arg-type]


def materialize_assets(
    shop: Path, instance: dg.DagsterInstance, *names: str, **options: object
) -> dg.ExecuteInProcessResult:
    """Run the named assets of the product with their checks."""
    return materialize(shop, instance, dg.AssetSelection.assets(*names), **options)


def partition_range(first: str, last: str) -> dict[str, str]:
    """Return the tags of a run of several partitions."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def rows_of(shop: Path, query: str) -> list[tuple[object, ...]]:
    """Return the rows of a query in the product's database."""
    with duckdb.connect(str(shop / "warehouse.duckdb"), read_only=True) as connection:
        return connection.sql(query).fetchall()
