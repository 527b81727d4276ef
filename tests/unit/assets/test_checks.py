"""Asset checks of a product: their definitions, attributes and place in the product's job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import build_definitions, definitions_from_file
from floe_orchestrator_dagster.execution.step.node_selection import DbtNodes, select_nodes, selection_arguments
from floe_orchestrator_dagster.inspect.validation import product_disagreements
from floe_orchestrator_dagster.product import load_product
from unit.odd_products import graph, reads, write_product
from unit.samples import (
    Json,
    contract,
    ingestion_output,
    manifest,
    model,
    node,
    product,
    source,
    write_json,
    write_project,
)

if TYPE_CHECKING:
    from pathlib import Path

    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

QUALITY = {"provider": "dbt_expectations", "thresholds": {"min_score": 60, "warn_score": 80}}


def check(name: str, kind: str, severity: str = "critical", **fields: object) -> Json:
    return {"name": name, "type": kind, "column": "id", "dimension": "validity", "severity": severity, **fields}


CHECKS = [
    check("id is unique", "unique"),
    check("id is there", "not_null", "info", custom_weight=4),
    check("id is known", "accepted_values", "warning"),
    check("id is known", "relationships"),
    check("id is positive", "not_negative", enabled=False),
]


def dbt_test(kind: str, **fields: object) -> Json:
    generic = {"name": kind, "namespace": None, "kwargs": {"column_name": "id"}}
    return node(
        f"{kind}_orders_id",
        "test",
        attached_node="model.shop.orders",
        column_name="id",
        depends_on={"nodes": ["model.shop.orders"], "macros": []},
        config={"severity": "ERROR", "enabled": True},
        test_metadata=generic,
        **fields,
    )


def old(count: int | None) -> Json:
    return {"warn_after": {"count": count, "period": "hour"}, "error_after": {"count": None, "period": None}}


def definitions(directory: Path, config: Json | None = None, **changes: object) -> dg.Definitions:
    """Load a project with a model, four tests on it, and three sources of which one has freshness criteria."""
    write_project(directory)
    tests = [dbt_test("unique"), dbt_test("not_null"), dbt_test("not_negative"), dbt_test("other", description="Odd.")]
    sources = (
        source("raw", "orders", freshness=old(36), loaded_at_field="loaded_at"),
        source("raw", "stores", freshness=old(None)),
        source("raw", "days", freshness=None),
    )
    children = {"model.shop.orders": [test["unique_id"] for test in tests]}
    content = manifest(node("orders"), *tests, sources=sources)
    write_json(directory / "target" / "manifest.json", {**content, "child_map": {**content["child_map"], **children}})
    declared = {**contract(model("orders", quality_checks=CHECKS), config=config), **changes}
    return definitions_from_file(write_json(directory / "artifacts.json", declared))


def spec(graph: AssetGraph, name: str, *asset: str) -> dg.AssetCheckSpec:
    return graph.get_check_spec(dg.AssetCheckKey(dg.AssetKey(asset or "orders"), name))


def job_checks(found: dg.Definitions) -> set[str]:
    keys = found.resolve_job_def("shop_orders").asset_layer.asset_graph.asset_check_keys
    return {f"{key.asset_key.to_user_string()}:{key.name}" for key in keys}


# --- declared checks ------------------------------------------------------------------------------------------------


def test_check_of_a_dbt_test_has_the_attributes_of_the_contract(tmp_path: Path) -> None:
    graph = definitions(tmp_path).resolve_asset_graph()

    unique, not_null = spec(graph, "unique_orders_id"), spec(graph, "not_null_orders_id")
    assert unique.blocking
    assert unique.description == "id is unique: unique of id (validity, critical)"
    assert {name: value for name, value in (unique.metadata or {}).items() if name.startswith("floe/")} == {
        "floe/quality_check": "id is unique",
        "floe/dimension": "validity",
        "floe/severity": "critical",
        "floe/weight": 3.0,
    }
    assert not not_null.blocking
    assert (not_null.metadata or {})["floe/severity"] == "info"
    assert (not_null.metadata or {})["floe/weight"] == 4


def test_undeclared_test_has_the_attributes_of_dagster_dbt(tmp_path: Path) -> None:
    other = spec(definitions(tmp_path).resolve_asset_graph(), "other_orders_id")

    assert other.blocking
    assert other.description == "Odd."
    assert not any(name.startswith("floe/") for name in other.metadata or {})


@pytest.mark.parametrize(
    ("arguments", "described"),
    [
        ({"column_name": "id"}, "known of id"),
        ({"column_name": "id", "values": ["a", "b"], "quote": False}, "known of id (values: a, b; quote: False)"),
        ({"expression": "a = b"}, "known of id (expression: a = b)"),
        ({"column_name": "id", "to": "ref('stores')"}, "known of id (to: ref('stores'))"),
        ({"column_name": "id", "values": ["a" * 400]}, f"known of id (values: {'a' * 279}…"),
    ],
)
def test_a_check_without_a_description_says_what_it_tests(tmp_path: Path, arguments: Json, described: str) -> None:
    write_project(tmp_path)
    known = dbt_test("known")
    known["test_metadata"]["kwargs"] = arguments
    content = manifest(node("orders"), known)
    children = {"model.shop.orders": [known["unique_id"]]}
    write_json(tmp_path / "target" / "manifest.json", {**content, "child_map": {**content["child_map"], **children}})

    found = definitions_from_file(write_json(tmp_path / "artifacts.json", contract(model("orders"))))

    assert spec(found.resolve_asset_graph(), "known_orders_id").description == described


def test_disabled_check_is_absent(tmp_path: Path) -> None:
    found = definitions(tmp_path)

    assert "orders:not_negative_orders_id" not in job_checks(found)


def test_a_test_of_a_table_that_the_project_does_not_have_is_no_check(tmp_path: Path) -> None:
    known = node("known", "test", config={"enabled": True}, **reads("model.shop.orders"))
    # dbt keeps such a test in its manifest, disabled, and does not run it.
    unknown = node("unknown", "test", config={"enabled": False})

    found = graph(write_product(tmp_path, node("orders"), known, unknown))

    assert found.asset_check_keys == {dg.AssetCheckKey(dg.AssetKey("orders"), "known")}


def test_unimplemented_checks_are_visible_under_distinct_names(tmp_path: Path) -> None:
    graph = definitions(tmp_path).resolve_asset_graph()

    first, second = spec(graph, "id_is_known"), spec(graph, "id_is_known_2")
    assert first.description == "id is known: declared, not implemented by any dbt test: nothing was checked"
    assert (first.metadata or {})["floe/severity"] == "warning"
    assert (second.metadata or {})["floe/severity"] == "critical"
    assert not second.blocking


# --- source freshness, score ----------------------------------------------------------------------------------------


def test_source_with_criteria_has_a_freshness_check(tmp_path: Path) -> None:
    graph = definitions(tmp_path).resolve_asset_graph()

    freshness = spec(graph, "freshness", "raw", "orders")
    assert (freshness.metadata or {}) == {"warn_after": "36 hours"}
    assert {key.asset_key.to_user_string() for key in graph.asset_check_keys if key.name == "freshness"} == {
        "raw/orders"
    }


def test_freshness_step_has_the_retries_and_the_pool_of_dbt_steps(tmp_path: Path) -> None:
    settings = {
        "source_freshness": "in_product_job",
        "retries": {"max_retries": 3, "delay_seconds": 5, "backoff": "exponential"},
        "concurrency": {"pool": "warehouse"},
        "run_resources": {"cpu_limit": "1"},
    }

    job = definitions(tmp_path, settings).resolve_job_def("shop_orders")

    step = job.graph.node_named("shop_orders_source_freshness").definition
    assert isinstance(step, dg.OpDefinition)
    assert step.retry_policy == dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL)
    assert step.pool == "warehouse"
    assert json.loads(step.tags["dagster-k8s/config"]) == {"container_config": {"resources": {"limits": {"cpu": "1"}}}}


@pytest.mark.parametrize(("setting", "in_job"), [("on_demand", False), ("in_product_job", True)])
def test_freshness_is_in_the_products_job_when_configured(tmp_path: Path, setting: str, *, in_job: bool) -> None:
    assert ("raw/orders:freshness" in job_checks(definitions(tmp_path, {"source_freshness": setting}))) is in_job


def test_score_is_a_check_of_the_product_in_its_job(tmp_path: Path) -> None:
    found = definitions(tmp_path, quality_config=QUALITY)
    graph = found.resolve_asset_graph()
    shop = graph.get(dg.AssetKey("shop_orders"))

    assert "shop_orders:quality_score" in job_checks(found)
    assert shop.is_external
    assert shop.parent_keys == {dg.AssetKey("orders")}
    assert shop.kinds == {"floe"}
    assert shop.metadata["floe/source_hash"] == "sha256:5f0c1d"
    assert shop.metadata["floe/quality_config"].value["provider"] == "dbt_expectations"
    assert spec(graph, "quality_score", "shop_orders").metadata == {"floe/min_score": 60, "floe/warn_score": 80}


@pytest.mark.parametrize("quality", [None, {**QUALITY, "enabled": False}])
def test_without_a_quality_config_there_is_no_score(tmp_path: Path, quality: Json | None) -> None:
    graph = definitions(tmp_path, quality_config=quality).resolve_asset_graph()

    assert dg.AssetKey("shop_orders") not in graph.get_all_asset_keys()


def test_product_with_the_name_of_a_model_has_its_score_on_another_asset() -> None:
    shop = product(model("orders"), name="orders", quality_config=QUALITY)

    graph = build_definitions(shop).resolve_asset_graph()

    assert spec(graph, "quality_score", "orders_product").name == "quality_score"


# --- disagreements --------------------------------------------------------------------------------------------------


def test_contract_is_compared_with_the_dbt_project(tmp_path: Path) -> None:
    table = {"name": "gone"}, {"name": "orders"}, {"name": "raw.days"}, {"name": "lake.files"}
    contracts = [{"apiVersion": "v3.1.0", "kind": "DataContract", "schema": list(table)}]
    definitions(tmp_path, data_contracts=contracts, ingestion_outputs=[ingestion_output("lake.files")])

    found = product_disagreements(load_product(tmp_path / "artifacts.json"))

    assert [problem.where for problem in found] == [
        "transforms.models[0].quality_checks[2]",
        "transforms.models[0].quality_checks[3]",
        "transforms.models[0].quality_checks[1].severity",
        "data_contracts[0].schema[0]",
    ]
    assert product_disagreements(product(model("orders", quality_checks=CHECKS))) == []


# --- without a dbt project ------------------------------------------------------------------------------------------


def test_product_without_dbt_shows_its_declared_checks() -> None:
    graph = build_definitions(product(model("orders", quality_checks=CHECKS))).resolve_asset_graph()

    assert {key.name for key in graph.asset_check_keys} == {
        "id_is_unique",
        "id_is_there",
        "id_is_known",
        "id_is_known_2",
    }
    unique = spec(graph, "id_is_unique")
    assert unique.blocking
    assert (unique.metadata or {})["floe/dimension"] == "validity"


# --- definitions ----------------------------------------------------------------------------------------------------


def test_governance_and_enforcement_are_in_the_definitions(tmp_path: Path) -> None:
    found = definitions(
        tmp_path,
        governance={"policy_enforcement_level": "warn", "data_retention_days": 30},
        enforcement_result={
            "passed": True,
            "error_count": 0,
            "warning_count": 2,
            "policy_types_checked": ["naming"],
            "models_validated": 1,
            "enforcement_level": "warn",
        },
    )

    metadata = {name: value.value for name, value in found.metadata.items()}
    assert metadata["floe/governance/policy_enforcement_level"] == "warn"
    assert metadata["floe/governance/data_retention_days"] == 30
    assert "floe/governance/pii_encryption" not in metadata
    assert metadata["floe/enforcement/passed"] is True
    assert metadata["floe/enforcement/warning_count"] == 2
    assert metadata["floe/enforcement/models_validated"] == 1
    assert metadata["floe/enforcement/policy_types_checked"] == ["naming"]


# --- what dbt builds ------------------------------------------------------------------------------------------------


def test_disabled_test_runs_neither_with_everything_nor_with_its_asset(tmp_path: Path) -> None:
    orders, stores = dg.AssetKey("orders"), dg.AssetKey("stores")
    disabled = "test.shop.not_negative_orders_id"
    nodes = DbtNodes(
        assets={orders: "model.shop.orders", stores: "model.shop.stores"},
        checks={},
        reads={},
        upstream={orders: frozenset(), stores: frozenset()},
        sources=frozenset(),
        whole=True,
        disabled=frozenset({disabled}),
    )

    some = select_nodes(nodes, {orders}, set(), lambda _: True)
    every = select_nodes(nodes, {orders, stores}, set(), lambda _: True)

    assert some.unique_ids == frozenset({"model.shop.orders"})
    assert (every.unique_ids, every.excluded) == (None, frozenset({disabled}))
    state = tmp_path / "state"
    assert selection_arguments(every, state) == [
        *("--select", "fqn:*"),
        *("--exclude", "result:success"),
        *("--state", str(state)),
    ]
    assert disabled in (state / "run_results.json").read_text(encoding="utf-8")
