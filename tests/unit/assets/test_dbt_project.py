"""Definitions of a dbt project on several computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.code_location import definitions_from_file
from unit.samples import Json, contract, manifest, model, node, profiles, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path


def _shop(directory: Path, computes: dict[str, str], *nodes: Json) -> dg.RepositoryDefinition:
    write_project(directory)
    found = manifest(*nodes)
    for entry in nodes:
        for parent in entry["depends_on"]["nodes"]:
            found["child_map"][parent].append(entry["unique_id"])
    write_json(directory / "target" / "manifest.json", found)
    models = [model(name, compute=compute) for name, compute in computes.items()]
    outputs = {"dev": {"type": "duckdb", "path": "shop.duckdb"}}
    outputs |= {compute: {"type": "postgres"} for compute in computes.values() if compute != "duckdb"}
    profile = {**profiles()["shop-orders"], "outputs": outputs}
    content = contract(*models, dbt_profiles={"shop-orders": profile})
    return definitions_from_file(write_json(directory / "compiled_artifacts.json", content)).get_repository_def()


def _model(name: str, *parents: str) -> Json:
    return node(name, depends_on={"nodes": [f"model.shop.{parent}" for parent in parents]})


def _relationships(name: str, attached: str, other: str) -> Json:
    return {
        **node(name, "test", depends_on={"nodes": [f"model.shop.{other}", f"model.shop.{attached}"]}),
        "attached_node": f"model.shop.{attached}",
        "config": {"enabled": True, "severity": "error"},
    }


def test_a_test_that_reads_later_models_does_not_block_them(tmp_path: Path) -> None:
    computes = {"a": "duckdb", "b": "postgres", "c": "duckdb"}
    test = _relationships("a_is_in_c", "a", "c")

    repository = _shop(tmp_path, computes, _model("a"), _model("b", "a"), _model("c", "b"), test)

    graph = repository.asset_graph
    check = graph.get_check_spec(dg.AssetCheckKey(dg.AssetKey("a"), "a_is_in_c"))
    assert check.blocking is False
    assert set(_ops(repository)) == {
        "shop_orders_dbt_build_duckdb",
        "shop_orders_dbt_build_postgres",
        "shop_orders_dbt_build_duckdb_2",
        "shop_orders_dbt_test_duckdb",
    }


def test_steps_of_computes_with_similar_names_have_distinct_names(tmp_path: Path) -> None:
    computes = {"a": "duckdb", "b": "duckdb_2", "c": "duckdb", "d": "duckdb-2", "e": "größe"}
    chain = [_model("a"), _model("b", "a"), _model("c", "b"), _model("d", "c"), _model("e", "d")]

    names = _ops(_shop(tmp_path, computes, *chain))

    assert len(names) == 5
    assert len(set(names)) == 5
    assert all(name.isascii() for name in names)


def test_tests_that_request_computes_with_similar_names_have_distinct_steps(tmp_path: Path) -> None:
    tests = [_relationships("first", "a", "b"), _relationships("second", "b", "c")]
    for test, compute in zip(tests, ("pg-1", "pg_1"), strict=True):
        test["config"]["meta"] = {"floe": {"compute": compute}}
    computes = {"a": "pg-1", "b": "pg_1", "c": "duckdb"}

    names = _ops(_shop(tmp_path, computes, _model("a"), _model("b", "a"), _model("c", "b"), *tests))

    assert {name for name in names if "_dbt_test_" in name} == {
        "shop_orders_dbt_test_pg_1",
        "shop_orders_dbt_test_pg_1_2",
    }
    assert len(set(names)) == len(names) == 5


def _ops(repository: dg.RepositoryDefinition) -> list[str]:
    return [node.name for node in repository.get_job("shop_orders").nodes]
