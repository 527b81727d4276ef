"""Tests that read no table are checks of the product: they run in every full run, and until they pass it is red."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.failing_shop import failure_of, own_copy, product_job, ran, tried_again
from unit.samples import Json, contract, model, profiles, write_json

if TYPE_CHECKING:
    from pathlib import Path

PRODUCT = dg.AssetKey("shop_orders")
FILES = {
    "dbt_project.yml": '{name: shop, profile: shop_orders, version: "1.0"}',
    "models/base.sql": "select 1 as id",
    "models/next.sql": "select id from {{ ref('base') }}",
    "models/lonely.sql": "{{ config(materialized='ephemeral') }} select 1 as id",
    "models/schema.yml": """
        models:
          - name: lonely
            columns: [{name: id, data_tests: [{accepted_values: {arguments: {values: [1], quote: false}}}]}]
        """,
    "tests/flag_is_set.sql": "select 1 as missing where not exists (select 1 from glob('flag.csv'))",
}
ON_PRODUCT = {"flag_is_set", "accepted_values_lonely_id__False__1"}


def write_product(project: Path, config: Json, second_compute: str = "duckdb") -> Path:
    """Write the artifacts of the product, whose last model is built on ``second_compute``."""
    outputs = profiles(threads=1)
    outputs["shop-orders"]["outputs"]["second"] = outputs["shop-orders"]["outputs"]["dev"]
    models = (model("base"), model("next", "base", compute=second_compute))
    config = {"executor": "in_process", **config}
    return write_json(project / "compiled_artifacts.json", contract(*models, config=config, dbt_profiles=outputs))


@pytest.fixture(scope="session")
def _parsed_constants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_files(tmp_path_factory.mktemp("constants") / "constants", FILES)
    load_product(write_product(project, {}), manifest_source=manifest_rebuilt)
    return project


@pytest.fixture
def constants(_parsed_constants: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a project with a test that reads no table and fails while a file is missing."""
    return own_copy(_parsed_constants, tmp_path, monkeypatch)


def on_product(result: dg.ExecuteJobResult | dg.ExecuteInProcessResult) -> list[tuple[str, bool]]:
    """List what the checks of the product found, in the order of their names."""
    found = [one for one in result.get_asset_check_evaluations() if one.asset_key == PRODUCT]
    return sorted((one.check_name, one.passed) for one in found)


def test_a_test_that_reads_no_table_is_a_check_of_the_product(constants: Path) -> None:
    graph = definitions_from_file(constants / "compiled_artifacts.json").resolve_asset_graph()

    assert {key.name for key in graph.asset_check_keys if key.asset_key == PRODUCT} == ON_PRODUCT
    assert graph.get(PRODUCT).parent_keys == {dg.AssetKey("next")}
    assert not graph.get(PRODUCT).is_executable


def test_a_failed_test_that_reads_no_table_is_run_again_by_every_retry_until_it_passes(
    constants: Path, lasting: dg.DagsterInstance
) -> None:
    write_product(constants, {"retries": {"max_retries": 1}})
    job = dg.reconstructable(product_job)

    first = dg.execute_job(job, instance=lasting)
    (constants / "flag.csv").touch()
    again = dg.execute_job(
        job,
        instance=lasting,
        reexecution_options=dg.ReexecutionOptions.from_failure(first.run_id, lasting),
        tags={"dagster/is_resume_retry": "true"},
    )

    assert not first.success
    assert tried_again(first) == 1
    assert on_product(first) == [
        ("accepted_values_lonely_id__False__1", True),
        ("flag_is_set", False),
        ("flag_is_set", False),
    ]
    assert again.success
    assert on_product(again) == [("accepted_values_lonely_id__False__1", True), ("flag_is_set", True)]
    assert ran(constants)[-1] == {"flag_is_set"}


def test_a_test_that_reads_no_table_runs_with_several_stages_too(constants: Path, instance: dg.DagsterInstance) -> None:
    write_product(constants, {}, second_compute="second")
    job = product_job()

    failed = job.execute_in_process(instance=instance, raise_on_error=False)
    (constants / "flag.csv").touch()
    # As the page of all assets launches it: with the assets and their own checks.
    everything = {dg.AssetKey("base"), dg.AssetKey("next")}
    passed = job.get_subset(asset_selection=everything).execute_in_process(instance=instance)

    assert "flag_is_set" in failure_of(failed)
    assert ("flag_is_set", False) in on_product(failed)
    assert on_product(passed) == [("accepted_values_lonely_id__False__1", True), ("flag_is_set", True)]


def test_a_test_that_reads_no_table_does_not_run_with_a_part_of_the_product(
    constants: Path, instance: dg.DagsterInstance
) -> None:
    (constants / "flag.csv").touch()

    result = product_job().execute_in_process(instance=instance, asset_selection=[dg.AssetKey("base")])

    assert on_product(result) == []
