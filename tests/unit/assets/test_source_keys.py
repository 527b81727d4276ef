"""Sources with the key or the table of another node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from floe_orchestrator_dagster import FloeDbtTranslator, load_product_definitions
from floe_orchestrator_dagster.code_location import build_location, definitions_from_file
from floe_orchestrator_dagster.errors import ManifestError
from floe_orchestrator_dagster.product import load_product
from unit.odd_products import graph, reads, singular_test, write_product
from unit.samples import Json, contract, model, node, source, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    Node = Mapping[str, Any]

DAILY = {"warn_after": {"count": 1, "period": "day"}}
SHARED: Json = {"dagster": {"asset_key": ["extract_all"]}}


def in_marts(name: str, **fields: object) -> Json:
    config = {"materialized": "view", "enabled": True, "schema": "marts"}
    return node(name, "model", config=config, database="wh", relation_name=f'"wh"."main"."{name}"', **fields)


def test_an_unread_source_gets_another_key_than_the_model(tmp_path: Path) -> None:
    unread = source("marts", "dim_org", freshness=DAILY)
    path = write_product(
        tmp_path, in_marts("dim_org"), singular_test("of_source", unread["unique_id"]), sources=[unread]
    )

    found = graph(path)

    own = dg.AssetKey(["source", "shop", "marts", "dim_org"])
    assert found.materializable_asset_keys == {dg.AssetKey(["marts", "dim_org"])}
    assert found.external_asset_keys == {own}
    assert {(key.asset_key, key.name) for key in found.asset_check_keys} == {(own, "of_source"), (own, "freshness")}


def test_all_collisions_are_named_with_nodes_and_files(tmp_path: Path) -> None:
    read = source("marts", "dim_org")
    one, two = source("erp", "a", meta=SHARED), source("crm", "b", meta=SHARED)
    twins = [node("twin", unique_id=f"model.{name}.twin", package_name=name) for name in ("hr", "finance")]
    reader = node("reader", **reads(read["unique_id"], one["unique_id"], two["unique_id"]))
    path = write_product(tmp_path, reader, in_marts("dim_org"), *twins, sources=[read, one, two])

    with pytest.raises(ManifestError) as refused:
        definitions_from_file(path)

    model = "model.shop.dim_org"
    file, fix = "models/sources.yml", "Give one of them another key by `meta.dagster.asset_key`"
    assert [(problem.what, problem.fix.partition(",")[0].rstrip(".")) for problem in refused.value.problems] == [
        (
            "model.finance.twin (models/twin.sql) and model.hr.twin (models/twin.sql) have the asset key 'twin'",
            fix,
        ),
        (
            f"{model} (models/dim_org.sql) and source.shop.marts.dim_org ({file}) have the asset key 'marts/dim_org'",
            fix,
        ),
        (
            f"source.shop.crm.b ({file}) and source.shop.erp.a ({file}) have the asset key 'extract_all'",
            fix,
        ),
    ]


def test_several_sources_share_a_key_if_configured(tmp_path: Path) -> None:
    sources = [source("erp", name, meta=SHARED, freshness=DAILY) for name in ("a", "b")]
    path = write_product(
        tmp_path,
        node("reader", **reads(*[entry["unique_id"] for entry in sources])),
        *[singular_test(f"of_{entry['name']}", entry["unique_id"]) for entry in sources],
        sources=sources,
        config={"dbt": {"enable_duplicate_source_asset_keys": True}},
    )

    found = graph(path)

    assert found.get(dg.AssetKey("reader")).parent_keys == {dg.AssetKey("extract_all")}
    names = {"of_a", "of_b", "freshness_erp_a", "freshness_erp_b"}
    assert {(key.asset_key.path[0], key.name) for key in found.asset_check_keys} == {
        ("extract_all", name) for name in names
    }


@pytest.mark.parametrize("name", ["orders", "dim_org"])
def test_reader_of_a_source_depends_on_the_model_that_builds_its_table(tmp_path: Path, name: str) -> None:
    table = source("marts", name, database="WH", schema="main", identifier="dim_org", relation_name="wh.main.dim_org")
    reader = node("reader", **reads(table["unique_id"]))
    path = write_product(
        tmp_path, reader, in_marts("dim_org"), singular_test("of_source", table["unique_id"]), sources=[table]
    )

    found = graph(path)

    assert found.get(dg.AssetKey("reader")).parent_keys == {dg.AssetKey(["marts", "dim_org"])}
    [external] = found.external_asset_keys
    assert external.path[-1] == name
    assert [key.asset_key for key in found.asset_check_keys] == [external]


class _Mapping(FloeDbtTranslator):
    """Maps the partitions of the parents of one resource type."""

    def __init__(self, resource_type: str) -> None:
        super().__init__()
        self._resource_type = resource_type

    def get_partition_mapping(
        self, dbt_resource_props: Node, dbt_parent_resource_props: Node
    ) -> dg.PartitionMapping | None:
        if dbt_parent_resource_props["resource_type"] == self._resource_type:
            return dg.LastPartitionMapping()
        return super().get_partition_mapping(dbt_resource_props, dbt_parent_resource_props)


@pytest.mark.parametrize("mapped", ["model", "source"])
@pytest.mark.parametrize("read", [["source"], ["model", "source"], ["source", "model"]])
def test_partition_mapping_of_a_source_is_that_of_the_model_that_builds_its_table(
    tmp_path: Path, mapped: str, read: list[str]
) -> None:
    table = source("erp", "dim_org", database="wh", schema="main", relation_name="wh.main.dim_org")
    ids = {"model": "model.shop.dim_org", "source": table["unique_id"]}
    reader = node("reader", **reads(*[ids[kind] for kind in read]))
    partitions = [{"select": "dim_org", "type": "daily", "start": "2026-01-01"}]
    write_product(tmp_path, reader, in_marts("dim_org"), sources=[table], config={"partitions": partitions})

    definitions = load_product_definitions("shop-orders", tmp_path, translator=_Mapping(mapped))

    dg.Definitions.validate_loadable(definitions)
    mappings = definitions.resolve_asset_graph().get(dg.AssetKey("reader")).partition_mappings
    expected = {dg.AssetKey(["marts", "dim_org"]): dg.LastPartitionMapping()} if mapped in read else {}
    assert mappings == expected


def test_a_model_that_reads_its_own_table_through_a_source_keeps_the_source(tmp_path: Path) -> None:
    table = source("erp", "history", database="wh", schema="main", relation_name="wh.main.history")
    model = node(
        "history", database="wh", relation_name="wh.main.history", **reads(table["unique_id"], "model.shop.base")
    )
    base = node("base", **reads(table["unique_id"]))
    path = write_product(tmp_path, model, base, sources=[table])

    found = graph(path)

    assert found.get(dg.AssetKey("history")).parent_keys == {dg.AssetKey("base"), dg.AssetKey(["erp", "history"])}
    assert found.get(dg.AssetKey("base")).parent_keys == {dg.AssetKey(["erp", "history"])}


def test_steps_know_which_sources_their_compute_builds_and_of_which_that_is_unclear(tmp_path: Path) -> None:
    def table(name: str, of: str) -> Json:
        return source("erp", name, database="wh", schema="main", identifier=of, relation_name=f"wh.main.{of}")

    def built(name: str, of: str, *read: str) -> Json:
        return node(name, database="wh", alias=of, relation_name=f"wh.main.{of}", **reads(*read))

    orders, own, twice, other = (
        table("orders", "orders"),
        table("own", "history"),
        table("twice", "twin"),
        table("other", "b"),
    )
    models = (
        built("orders", "orders"),
        built("history", "history", own["unique_id"]),
        built("twin_1", "twin"),
        built("twin_2", "twin"),
        built("reader", "reader", *(one["unique_id"] for one in (orders, own, twice, other))),
    )
    path = write_product(tmp_path, *models, sources=[orders, own, twice, other])

    [*steps] = build_location(load_product(path)).builds

    assert {source: model for step in steps for source, model in step.source_tables.items()} == {
        orders["unique_id"]: "model.shop.orders"
    }
    assert {step.unclear_sources for step in steps} == {frozenset({own["unique_id"], twice["unique_id"]})}


def test_a_source_that_another_compute_builds_is_unclear(tmp_path: Path) -> None:
    table = {"database": "wh", "schema": "main", "relation_name": "wh.main.orders"}
    orders = source("erp", "orders", identifier="orders", **table)
    nodes = node("orders", alias="orders", **table), node("reader", **reads(orders["unique_id"]))
    path = write_product(tmp_path, *nodes, sources=[orders])
    models = model("orders", compute="duckdb"), model("reader", compute="postgres")
    server = {"type": "postgres", "host": "db", "user": "u", "dbname": "wh", "schema": "main", "port": 5432}
    outputs = {"dev": {"type": "duckdb", "path": "wh.duckdb"}, "postgres": server}
    profiles = {"shop_orders": {"target": "dev", "outputs": outputs}}
    write_json(path, contract(*models, dbt_profiles=profiles))

    steps = {step.connection.profile.target: step for step in build_location(load_product(path)).builds}

    known = {target: (step.source_tables, step.unclear_sources) for target, step in steps.items()}
    assert known == {
        "dev": ({orders["unique_id"]: "model.shop.orders"}, frozenset()),
        "postgres": ({}, frozenset({orders["unique_id"]})),
    }
