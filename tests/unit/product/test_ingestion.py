"""Matching of ingestion outputs with dbt sources."""

from __future__ import annotations

import pytest

from floe_orchestrator_dagster.product.contracts import IngestionMatches, match_ingestion_outputs
from unit.samples import Json, ingestion_output, manifest, model, source, validated


def match(source_of_dbt: Json, *outputs: Json) -> IngestionMatches:
    artifacts = validated(model("orders"), ingestion_outputs=list(outputs))
    return match_ingestion_outputs(artifacts.ingestion_outputs, manifest(sources=(source_of_dbt,)))


@pytest.mark.parametrize(
    "source_of_dbt",
    [
        source("crm", "orders", schema="raw"),
        source("crm", "bought", schema="RAW", identifier="Orders"),
        source("raw", "orders", schema="elsewhere"),
    ],
)
def test_output_matches_the_source_of_its_table_or_name(source_of_dbt: Json) -> None:
    found = match(source_of_dbt, ingestion_output("raw.orders"), ingestion_output("raw.stores"))

    assert [output.physical_table for output in found.by_source.values()] == ["raw.orders"]
    assert [output.physical_table for output in found.unmatched] == ["raw.stores"]


def test_output_matches_by_its_logical_table_too() -> None:
    found = match(source("raw", "orders"), ingestion_output("raw.orders", physical_table="lake.orders_v2"))

    assert [output.physical_table for output in found.by_source.values()] == ["lake.orders_v2"]
    assert found.unmatched == ()
