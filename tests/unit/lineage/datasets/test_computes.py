"""Names of nodes on other computes, independent of the target that reads them."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from floe_orchestrator_dagster.execution.dbt.node_result import NodeRelation
from floe_orchestrator_dagster.lineage.datasets.computes import Computes, read_computes
from floe_orchestrator_dagster.product import load_product
from unit.samples import contract, manifest, model, node, source, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.product import DbtProject, Product

TRINO = "trino://trino.example.com:8080"
SPARK = "spark://spark.example.com:10001"
OUTPUTS = {
    "dev": {
        "type": "duckdb",
        "path": "/data/shop.duckdb",
        "attach": [{"path": "host=pg.example.com dbname=shop user=u", "alias": "pg", "type": "postgres"}],
    },
    "trino": {"type": "trino", "host": "trino.example.com", "port": 8080, "database": "lake", "schema": "dev"},
    "spark": {"type": "spark", "method": "thrift", "host": "spark.example.com", "schema": "warehouse"},
    "postgres": {"type": "postgres", "host": "pg.example.com", "port": 5432, "dbname": "shop", "schema": "public"},
    "elsewhere": {"type": "duckdb", "path": "/data/elsewhere.duckdb"},
}
MODELS = [
    model("by_duckdb"),
    *(model(f"by_{compute}") | {"compute": compute} for compute in ("trino", "spark", "postgres")),
]


@pytest.fixture
def shop(tmp_path: Path) -> Product:
    """Give a product whose manifest is of the default target, DuckDB."""
    directory = write_project(tmp_path)
    places: dict[str, dict[str, Any]] = {
        "by_duckdb": {"database": "shop", "schema": "main"},
        "seeded": {"database": "shop", "schema": "main_seeds"},
        "by_trino": {"database": "shop", "schema": "main_marts"},
        "by_spark": {"database": "shop", "schema": "main"},
        "by_postgres": {"database": "pg", "schema": "public"},
    }
    nodes = [node(name, **place) for name, place in places.items()]
    raw = source("raw", "orders", database="shop")
    write_json(directory / "target" / "manifest.json", manifest(*nodes, sources=(raw,)))
    profiles = {"shop_orders": {"target": "dev", "outputs": OUTPUTS}}
    path = write_json(directory / "compiled_artifacts.json", contract(*MODELS, dbt_profiles=profiles))
    return load_product(path)


def computes(shop: Product, target: str) -> Computes:
    return read_computes(shop, project(shop).profile.on_target(target), {}, PurePosixPath("/project"))


def project(shop: Product) -> DbtProject:
    assert shop.dbt is not None
    return shop.dbt


def name(shop: Product, target: str, unique_id: str, **place: object) -> tuple[str, str]:
    """Name a node on a target, on which dbt's manifest has it at ``place``."""
    content = project(shop).manifest.content
    seen = {**{**content["nodes"], **content["sources"]}[unique_id], **place}
    dataset = computes(shop, target).identify(seen).dataset
    return dataset.namespace, dataset.name


def test_a_node_of_the_default_compute_has_its_name_on_that_compute(shop: Product) -> None:
    on_trino = {"database": "lake", "schema": "dev"}
    assert name(shop, "trino", "model.shop.by_duckdb", **on_trino) == (
        "duckdb:///data/shop.duckdb",
        "shop.main.by_duckdb",
    )
    assert name(shop, "trino", "model.shop.seeded", **on_trino)[1] == "shop.main_seeds.seeded"


def test_a_node_of_another_compute_has_dbts_defaults_on_that_compute(shop: Product) -> None:
    assert name(shop, "dev", "model.shop.by_trino") == (TRINO, "lake.dev_marts.by_trino")
    assert name(shop, "dev", "model.shop.by_spark") == (SPARK, "warehouse.by_spark")
    assert name(shop, "spark", "model.shop.by_trino", database=None, schema="warehouse_marts") == (
        TRINO,
        "lake.dev_marts.by_trino",
    )


def test_settings_of_a_node_itself_are_unchanged(shop: Product) -> None:
    placed = {"database": "shop", "schema": "finance", "config": {"database": "shop", "materialized": "view"}}

    assert name(shop, "dev", "model.shop.by_trino", **placed) == (TRINO, "shop.finance.by_trino")


def test_attached_tables_have_the_name_in_the_attached_system(shop: Product) -> None:
    table = ("postgres://pg.example.com:5432", "shop.public.by_postgres")

    assert name(shop, "dev", "model.shop.by_postgres") == table
    assert name(shop, "postgres", "model.shop.by_postgres", database="shop") == table


def test_a_target_names_its_own_nodes_and_sources(shop: Product) -> None:
    on_trino = {"database": "lake", "schema": "dev_marts"}
    built = computes(shop, "trino").identify(node("by_duckdb"), NodeRelation("lake", "dev", "by_duckdb"))

    assert name(shop, "trino", "model.shop.by_trino", **on_trino) == (TRINO, "lake.dev_marts.by_trino")
    assert name(shop, "trino", "source.shop.raw.orders", database="lake") == (TRINO, "lake.raw.orders")
    assert (built.dataset.namespace, built.dataset.name) == (TRINO, "lake.dev.by_duckdb")


def test_a_target_without_a_compute_has_all_nodes(shop: Product) -> None:
    elsewhere = {"database": "elsewhere", "schema": "main"}

    assert name(shop, "elsewhere", "model.shop.by_trino", **elsewhere) == (
        "duckdb:///data/elsewhere.duckdb",
        "elsewhere.main.by_trino",
    )
