"""Exposures, semantic models, metrics and saved queries as external assets."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from floe_orchestrator_dagster.assets.attributes import MANY_ASSETS
from floe_orchestrator_dagster.errors import ManifestError
from unit.odd_products import graph, reads, write_product
from unit.samples import Json, node, source, write_json

if TYPE_CHECKING:
    from pathlib import Path

MART = "model.shop.mart"
COLLECTIONS = {
    "exposure": "exposures",
    "semantic_model": "semantic_models",
    "metric": "metrics",
    "saved_query": "saved_queries",
}
DASHBOARD = node(
    "weekly",
    "exposure",
    type="dashboard",
    label="Weekly figures",
    maturity="high",
    url="https://bi.example.com/weekly",
    owner={"name": "Retail", "email": "retail@example.com"},
    tags=["board"],
    original_file_path="models/_exposures.yml",
    **reads(MART),
)


def test_the_login_in_the_address_of_an_exposure_is_not_shown(tmp_path: Path) -> None:
    path = write_with(tmp_path, {**DASHBOARD, "url": "https://retail:s3cret@bi.example.com/weekly"})

    found = graph(path).get(dg.AssetKey(["exposure", "weekly"])).metadata["floe/url"]

    assert found == dg.MetadataValue.url("https://***@bi.example.com/weekly")


def test_an_exposure_shows_what_reads_a_model(tmp_path: Path) -> None:
    path = write_with(tmp_path, DASHBOARD, config={"key_prefix": ["shop"], "docs_url": "https://docs.example.com"})

    found = graph(path).get(dg.AssetKey(["shop", "exposure", "weekly"]))

    assert found.is_external
    assert found.parent_keys == {dg.AssetKey(["shop", "mart"])}
    assert found.kinds == {"dbt", "dashboard"}
    assert found.owners == ["retail@example.com"]
    assert found.group_name == "shop_orders"
    assert {**found.tags, "board": ""}.items() >= {"floe/product": "shop-orders", "board": ""}.items()
    assert found.description == "dbt exposure weekly"
    assert found.metadata["floe/url"] == dg.MetadataValue.url("https://bi.example.com/weekly")
    assert found.metadata["floe/docs"].value == "https://docs.example.com/#!/exposure/exposure.shop.weekly"
    assert {key: found.metadata[key] for key in ("floe/label", "floe/maturity")} == {
        "floe/label": "Weekly figures",
        "floe/maturity": "high",
    }
    [file] = found.metadata["dagster/code_references"].code_references
    assert file.label == "models/_exposures.yml"


def test_metrics_are_between_semantic_models_and_saved_queries(tmp_path: Path) -> None:
    orders = node(
        "orders",
        "semantic_model",
        entities=[{"name": "order_id"}, {"name": "customer"}],
        dimensions=[{"name": "ordered_at"}],
        measures=[{"name": "total"}],
        **reads(MART),
    )
    revenue = node("revenue", "metric", type="simple", type_params={"expr": "total"}, **reads(orders["unique_id"]))
    query = node(
        "weekly_revenue",
        "saved_query",
        query_params={"metrics": ["revenue"], "group_by": ["TimeDimension('metric_time')"]},
        exports=[{"name": "weekly"}],
        **reads(revenue["unique_id"]),
    )
    found = graph(write_with(tmp_path, query, revenue, orders))

    keys = [dg.AssetKey(parts) for parts in (["semantic_model", "orders"], ["metric", "revenue"])]
    last = dg.AssetKey(["saved_query", "weekly_revenue"])
    assert [found.get(key).parent_keys for key in (*keys, last)] == [{dg.AssetKey("mart")}, {keys[0]}, {keys[1]}]
    assert [found.get(key).kinds - {"dbt"} for key in (*keys, last)] == [
        {"semantic_model"},
        {"metric"},
        {"saved_query"},
    ]
    assert shown(found.get(keys[0]), "entities", "dimensions", "measures") == [
        "order_id, customer",
        "ordered_at",
        "total",
    ]
    assert shown(found.get(keys[1]), "metric_type", "expression") == ["simple", "total"]
    assert shown(found.get(last), "metrics", "group_by", "exports") == [
        "revenue",
        "TimeDimension('metric_time')",
        "weekly",
    ]


def test_only_configured_kinds_are_assets_and_others_are_looked_through(tmp_path: Path) -> None:
    orders = node("orders", "semantic_model", **reads(MART))
    revenue = node("revenue", "metric", **reads(orders["unique_id"]))
    board = {**DASHBOARD, **reads(revenue["unique_id"])}

    found = graph(write_with(tmp_path, orders, revenue, board, config={"consumers": ["exposures"]}))

    assert found.external_asset_keys == {dg.AssetKey(["exposure", "weekly"])}
    assert found.get(dg.AssetKey(["exposure", "weekly"])).parent_keys == {dg.AssetKey("mart")}
    assert graph(write_with(tmp_path / "none", DASHBOARD, config={"consumers": []})).external_asset_keys == set()


def test_an_exposure_of_a_source_and_of_an_ephemeral_model_reads_their_tables(tmp_path: Path) -> None:
    orders = source("erp", "orders")
    hidden = node("hidden", config={"materialized": "ephemeral", "enabled": True}, **reads(MART))
    board = {**DASHBOARD, **reads(orders["unique_id"], "model.shop.hidden")}

    found = graph(write_with(tmp_path, board, nodes=[hidden], sources=[orders]))

    assert found.get(dg.AssetKey(["exposure", "weekly"])).parent_keys == {
        dg.AssetKey("mart"),
        dg.AssetKey(["erp", "orders"]),
    }


def test_a_declared_key_counts_and_a_taken_one_gets_the_package(tmp_path: Path) -> None:
    declared = {**DASHBOARD, "meta": {"dagster": {"asset_key": ["bi", "weekly"], "owners": ["team:bi"]}}}
    in_config = node("daily", "exposure", config={"meta": {"dagster": {"asset_key": "daily"}}}, **reads(MART))
    taken = node("mart", "metric", config={"meta": {"dagster": {"asset_key": "mart"}}}, **reads(MART))

    found = graph(write_with(tmp_path, declared, in_config, taken))

    assert found.external_asset_keys == {
        dg.AssetKey(["bi", "weekly"]),
        dg.AssetKey("daily"),
        dg.AssetKey(["metric", "shop", "mart"]),
    }
    assert found.get(dg.AssetKey(["bi", "weekly"])).owners == ["team:bi"]


def test_a_declared_key_has_no_prefix_and_a_collision_is_resolved_in_the_same_way_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    declared = {"meta": {"dagster": {"asset_key": ["tableau", "nb"]}}}
    first, second = (node(name, "exposure", **declared, **reads(MART)) for name in ("a", "b"))
    of_product = node("own", "exposure", meta={"dagster": {"asset_key": "shop_orders"}}, **reads(MART))
    fallback = node("x", "exposure", meta={"dagster": {"asset_key": ["eu", "exposure", "shop", "b"]}}, **reads(MART))

    found = graph(write_with(tmp_path, second, first, of_product, fallback, config={"key_prefix": ["eu"]}))

    assert found.external_asset_keys == {
        dg.AssetKey(["tableau", "nb"]),
        dg.AssetKey(["eu", "exposure", "shop", "b"]),
        dg.AssetKey("shop_orders"),
        dg.AssetKey(["eu", "exposure", "shop", "x"]),
    }
    assert "the key tableau/nb of exposure.shop.b is taken" in caplog.text


def test_group_and_tags_are_those_of_the_configuration_too(tmp_path: Path) -> None:
    config = {"meta": {"dagster": {"group": "bi", "owners": ["team:bi"]}}, "tags": ["board"]}
    board = {**DASHBOARD, "tags": [], "meta": None, "config": config}
    empty = {**node("plain", "metric", **reads(MART)), "config": None, "meta": None, "tags": None}

    found = graph(write_with(tmp_path, board, empty))

    shown_board = found.get(dg.AssetKey(["exposure", "weekly"]))
    assert (shown_board.group_name, shown_board.owners, shown_board.tags["board"]) == ("bi", ["team:bi"], "")
    assert found.get(dg.AssetKey(["metric", "plain"])).group_name == "shop_orders"


def test_many_paths_to_a_table_are_followed_once(tmp_path: Path) -> None:
    hidden = {"materialized": "ephemeral", "enabled": True}
    layers = [
        node(
            f"{side}{layer}",
            config=hidden,
            **reads(*([MART] if layer == 0 else [f"model.shop.{s}{layer - 1}" for s in "ab"])),
        )
        for layer in range(40)
        for side in "ab"
    ]
    board = {**DASHBOARD, **reads("model.shop.a39", "model.shop.b39")}

    found = graph(write_with(tmp_path, board, nodes=layers))

    assert found.get(dg.AssetKey(["exposure", "weekly"])).parent_keys == {dg.AssetKey("mart")}


def test_an_owner_that_dagster_does_not_accept_is_a_problem(tmp_path: Path) -> None:
    board = {**DASHBOARD, "meta": {"dagster": {"owners": ["bad", "team:bi"]}}}

    with pytest.raises(ManifestError, match="'bad' is not an owner"):
        graph(write_with(tmp_path, board))


def test_an_exposure_without_an_address_belongs_to_the_team_it_names(tmp_path: Path) -> None:
    board = {**DASHBOARD, "owner": {"name": "Retail", "email": None}}

    found = graph(write_with(tmp_path, board)).get(dg.AssetKey(["exposure", "weekly"]))

    assert found.owners == ["team:Retail"]


def test_an_exposure_of_a_large_product_does_not_repeat_the_products_metadata(tmp_path: Path) -> None:
    many = [node(f"m{number}") for number in range(MANY_ASSETS)]

    found = graph(write_with(tmp_path, DASHBOARD, nodes=many)).get(dg.AssetKey(["exposure", "weekly"]))

    assert found.metadata.keys() == {
        "dagster_dbt/unique_id",
        "dagster/code_references",
        "floe/url",
        "floe/label",
        "floe/maturity",
    }


def shown(asset: object, *names: str) -> list[object]:
    """Return the values of an asset's metadata."""
    return [asset.metadata[f"floe/{name}"] for name in names]  # type: ignore[attr-defined]  # a node of Dagster's graph


def write_with(
    directory: Path,
    *consumers: Json,
    nodes: tuple[Json, ...] | list[Json] = (),
    sources: tuple[Json, ...] | list[Json] = (),
    config: Json | None = None,
) -> Path:
    """Write a product with the model ``mart`` and these consumers."""
    path = write_product(directory, node("mart"), *nodes, sources=sources, config=config)
    file = directory / "target" / "manifest.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    collections: defaultdict[str, Json] = defaultdict(dict)
    for consumer in consumers:
        collections[COLLECTIONS[consumer["resource_type"]]][consumer["unique_id"]] = consumer
        content["parent_map"][consumer["unique_id"]] = consumer["depends_on"]["nodes"]
    write_json(file, {**content, **collections})
    return path
