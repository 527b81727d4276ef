"""Nodes that dbt runs for the selections of a step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import definitions_from_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def assets(prepared_sample: Path) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    return list(definitions_from_file(prepared_sample / "compiled_artifacts.json").assets or [])  # type: ignore[arg-type]


def ran_by_dbt(project: Path) -> set[str]:
    """Read the names of the nodes in the newest run results."""
    newest = max(project.glob("target/*/run_results.json"), key=lambda path: path.stat().st_mtime)
    results = json.loads(newest.read_text(encoding="utf-8"))["results"]
    ids = [result["unique_id"].split(".") for result in results]
    return {parts[3] if parts[0] == "unit_test" else parts[2] for parts in ids}


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def test_assets_bring_their_tests_their_unit_tests_and_those_of_the_sources_they_read(
    prepared_sample: Path, assets: list[dg.AssetsDefinition | dg.AssetSpec]
) -> None:
    selection = dg.AssetSelection.assets("stg_payments", "int_order_payments")

    result = dg.materialize(assets, selection=selection, raise_on_error=False)

    on_sources = {"source_not_null_shop_payments_payment_id", "source_unique_shop_payments_payment_id"}
    ran = ran_by_dbt(prepared_sample)
    assert {"stg_payments", "int_order_payments", "unique_stg_payments_payment_id"} <= ran
    other = {name for name in ran if "stg_payments" not in name and "int_order_payments" not in name}
    assert other == {
        *on_sources,
        "payments_and_refunds_are_summed_per_order",
        "assert_refunds_within_payments",
    }
    assert on_sources <= evaluations(result).keys()


def test_a_deselected_check_does_not_run(
    prepared_sample: Path, assets: list[dg.AssetsDefinition | dg.AssetSpec]
) -> None:
    selection = dg.AssetSelection.assets("stores").without_checks()

    result = dg.materialize(assets, selection=selection)

    assert result.success
    assert ran_by_dbt(prepared_sample) == {"stores"}
    assert evaluations(result) == {}


def test_a_check_runs_alone(prepared_sample: Path, assets: list[dg.AssetsDefinition | dg.AssetSpec]) -> None:
    dg.materialize(assets, selection=dg.AssetSelection.assets("stores"))

    check = dg.AssetCheckKey(dg.AssetKey("stores"), "unique_stores_store_id")
    result = dg.materialize(assets, selection=dg.AssetSelection.checks(check))

    assert ran_by_dbt(prepared_sample) == {"unique_stores_store_id"}
    assert evaluations(result) == {"unique_stores_store_id": True}
