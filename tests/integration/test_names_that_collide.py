"""A dbt project whose names are prefixes of each other, on real dbt: each selection runs exactly its nodes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from floe_core.plugins.orchestrator import TransformConfig

from files import write_files
from floe_orchestrator_dagster import DagsterOrchestratorPlugin
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILES = {
    "models/orders/items.sql": "select 1 as id",
    "models/lonely.sql": "select 1 as id",
    "models/jaffle.sql": "select 1 as id",
    "models/dim_v1.sql": "select 1 as id",
    "models/dim_v2.sql": "select 2 as id",
    "models/through.sql": "{{ config(materialized='ephemeral') }} select * from {{ ref('lonely') }}",
    "models/more.yml": """
        models:
          - name: dim
            latest_version: 2
            versions: [{v: 1}, {v: 2}]
          - name: through
            columns:
              - {name: id, data_tests: [not_null]}
          - name: lonely
            columns:
              - name: id
                data_tests:
                  - relationships: {to: ref('jaffle'), field: id}
        """,
    "tests/orders.sql": "select * from {{ ref('lonely') }} where id is null",
}


@pytest.fixture
def project(stranger: Path) -> Path:
    write_files(stranger, FILES)
    artifacts = stranger / "target" / "compiled_artifacts.json"
    compiled = json.loads(artifacts.read_text(encoding="utf-8"))
    compiled["transforms"]["models"].append({"name": "dim_v2", "compute": "duckdb", "quality_tier": "gold"})
    artifacts.write_text(json.dumps(compiled), encoding="utf-8")
    load_product(artifacts, manifest_source=manifest_rebuilt)
    return stranger


def materialize(
    project: Path, selection: dg.AssetSelection, instance: dg.DagsterInstance | None = None
) -> tuple[dg.ExecuteInProcessResult, set[str]]:
    """Run a selection; also return the unique ids that dbt ran."""
    definitions = definitions_from_file(project / "target" / "compiled_artifacts.json")
    assets: Sequence[dg.AssetsDefinition] = list(definitions.assets or [])  # type: ignore[arg-type]
    result = dg.materialize(assets, selection=selection, instance=instance)
    newest = max(project.glob("build/dbt/*/run_results.json"), key=lambda path: path.stat().st_mtime)
    ran = {run["unique_id"] for run in json.loads(newest.read_text(encoding="utf-8"))["results"]}
    return result, {unique_id.removeprefix("model.jaffle.") for unique_id in ran}


def keys(*names: str) -> dg.AssetSelection:
    return dg.AssetSelection.assets(*(dg.AssetKey(["kitchen", name]) for name in names))


def test_a_model_does_not_bring_the_directory_or_the_test_of_its_name(project: Path) -> None:
    result, ran = materialize(project, keys("raw_orders", "orders").without_checks())

    assert result.success
    assert ran == {"seed.jaffle.raw_orders", "orders"}


def test_a_version_is_built_alone_and_carries_what_its_contract_says(project: Path) -> None:
    _, ran = materialize(project, keys("dim_v2"))

    graph = definitions_from_file(project / "target" / "compiled_artifacts.json").resolve_asset_graph()
    assert ran == {"dim.v2"}
    assert graph.get(dg.AssetKey(["kitchen", "dim_v2"])).tags["floe/tier"] == "gold"
    assert "floe/tier" not in graph.get(dg.AssetKey(["kitchen", "dim_v1"])).tags


def test_a_check_waits_for_the_other_asset_it_reads_and_runs_once_that_exists(
    project: Path, instance: dg.DagsterInstance
) -> None:
    _, first = materialize(project, keys("lonely"), instance)
    materialize(project, keys("jaffle"), instance)
    result, second = materialize(project, keys("lonely"), instance)

    assert first == {"lonely", "test.jaffle.orders"} | ephemeral_tests(first)
    assert len(ephemeral_tests(first)) == 1
    assert len(second - first) == 1
    assert next(iter(second - first)).startswith("test.jaffle.relationships_lonely_id__id__ref_jaffle_")
    assert all(evaluation.passed for evaluation in result.get_asset_check_evaluations())


def ephemeral_tests(ran: set[str]) -> set[str]:
    """The test on the ephemeral model reads only `lonely`, so it runs with it."""
    return {unique_id for unique_id in ran if unique_id.startswith("test.jaffle.not_null_through_id.")}


def test_a_transform_called_as_its_project_builds_one_model(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(project))
    [asset] = DagsterOrchestratorPlugin().create_assets_from_transforms([TransformConfig(name="jaffle")])

    dg.materialize([asset])

    [results] = project.glob("build/dbt/*/run_results.json")
    ran = [run["unique_id"] for run in json.loads(results.read_text(encoding="utf-8"))["results"]]
    assert ran == ["model.jaffle.jaffle"]


def test_an_ephemeral_transform_has_nothing_to_build(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(project))
    transforms = [TransformConfig(name="lonely"), TransformConfig(name="through", depends_on=["lonely"])]

    result = dg.materialize(DagsterOrchestratorPlugin().create_assets_from_transforms(transforms))

    [materialization] = result.asset_materializations_for_node("dbt_build_through")
    assert "dagster_dbt/unique_id" not in materialization.metadata
