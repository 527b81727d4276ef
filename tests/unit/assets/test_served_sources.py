"""Sources that are assets, and sources that are left out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster_dbt import get_asset_keys_by_output_name_for_source

from floe_orchestrator_dagster.assets.attributes import MANY_ASSETS
from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
from floe_orchestrator_dagster.automation.lineage_sensors.asset_lineage import AssetDescriptions
from floe_orchestrator_dagster.code_location import build_definitions, definitions_from_file
from floe_orchestrator_dagster.inspect.plan import plan_product
from floe_orchestrator_dagster.inspect.report import print_plan
from floe_orchestrator_dagster.product import load_product
from unit.odd_products import graph, reads, singular_test, write_product
from unit.samples import Json, ingestion_output, node, source, write_json

if TYPE_CHECKING:
    from pathlib import Path


ID = "source.shop.erp.orders"
KEY = dg.AssetKey(["erp", "orders"])
MODEL = node("stg")
DAILY: Json = {"warn_after": {"count": 1, "period": "day"}}


def test_a_source_that_nothing_uses_is_no_asset(tmp_path: Path) -> None:
    path = write_product(tmp_path, MODEL, sources=[source("erp", "orders"), source("erp", "items")])

    assert graph(path).external_asset_keys == set()


def test_all_sources_are_assets_if_configured(tmp_path: Path) -> None:
    sources = [source("erp", "orders"), source("erp", "items")]
    path = write_product(tmp_path, MODEL, sources=sources, config={"sources": "all"})

    assert graph(path).external_asset_keys == {KEY, dg.AssetKey(["erp", "items"])}


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param([node("reader", **reads(ID))], id="a model"),
        pytest.param([node("history", "snapshot", **reads(ID))], id="a snapshot"),
        pytest.param([singular_test("of_source", ID)], id="a test"),
        pytest.param([singular_test("of_both", ID, "stg")], id="a test of a model, too"),
        pytest.param(
            [
                node("hidden", config={"materialized": "ephemeral", "enabled": True}, **reads(ID)),
                node("reader", **reads("model.shop.hidden")),
            ],
            id="a model through an ephemeral one",
        ),
    ],
)
def test_a_source_that_a_node_reads_is_an_asset(tmp_path: Path, nodes: list[Json]) -> None:
    path = write_product(tmp_path, MODEL, *nodes, sources=[source("erp", "orders"), source("erp", "items")])

    assert graph(path).external_asset_keys == {KEY}


def test_a_source_that_an_exposure_reads_is_an_asset(tmp_path: Path) -> None:
    path = write_product(tmp_path, MODEL, sources=[source("erp", "orders")])
    manifest_path = tmp_path / "target" / "manifest.json"
    content = json.loads(manifest_path.read_text(encoding="utf-8"))
    board = node("board", "exposure", **reads(ID))
    content["exposures"] = {board["unique_id"]: board}
    content["parent_map"][board["unique_id"]] = [ID]
    write_json(manifest_path, content)

    assert graph(path).external_asset_keys == {KEY, dg.AssetKey(["exposure", "board"])}


@pytest.mark.parametrize(
    ("fields", "config", "key"),
    [
        pytest.param({"freshness": DAILY}, {}, KEY, id="freshness"),
        pytest.param({"meta": {"dagster": {"group": "raw"}}}, {}, KEY, id="meta"),
        pytest.param({"config": {"meta": {"dagster": {"asset_key": ["raw"]}}}}, {}, dg.AssetKey("raw"), id="its key"),
        pytest.param(
            {}, {"sensors": [{"type": "asset", "name": "s", "asset": "erp/orders"}]}, KEY, id="a sensor of its key"
        ),
        pytest.param(
            {},
            {"key_prefix": ["eu"], "sensors": [{"type": "asset", "name": "s", "asset": "eu/erp/orders"}]},
            dg.AssetKey(["eu", "erp", "orders"]),
            id="a sensor of its key with the prefix",
        ),
        pytest.param(
            {"meta": {"dagster": {"group": "raw"}}, "config": {"meta": {"owner": "erp"}}},
            {},
            KEY,
            id="meta beside other meta",
        ),
    ],
)
def test_a_source_that_settings_name_is_an_asset(tmp_path: Path, fields: Json, config: Json, key: dg.AssetKey) -> None:
    sources = [source("erp", "orders", **fields), source("erp", "items")]
    path = write_product(tmp_path, MODEL, sources=sources, config=config)

    assert graph(path).external_asset_keys == {key}


@pytest.mark.parametrize(
    "declared",
    [
        {"ingestion_outputs": [ingestion_output("erp.orders")]},
        {
            "data_contracts": [
                {
                    "apiVersion": "v3.1.0",
                    "kind": "DataContract",
                    "id": "orders",
                    "version": "1.0.0",
                    "status": "active",
                    "schema": [{"name": "erp.orders"}],
                }
            ]
        },
    ],
    ids=["ingestion output", "data contract"],
)
def test_a_source_that_the_contract_names_is_an_asset(tmp_path: Path, declared: Json) -> None:
    path = write_product(tmp_path, MODEL, sources=[source("erp", "orders"), source("erp", "items")])
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **declared})

    assert graph(path).external_asset_keys == {KEY}


def test_the_products_job_runs_the_tests_of_a_source_that_no_model_reads(tmp_path: Path) -> None:
    path = write_product(tmp_path, MODEL, singular_test("of_source", ID), sources=[source("erp", "orders")])

    job = definitions_from_file(path).get_repository_def().get_job("shop_orders")

    assert job.asset_layer.selected_asset_keys == {dg.AssetKey("stg")}
    assert set(job.asset_layer.asset_graph.asset_check_keys) == {dg.AssetCheckKey(KEY, "of_source")}


def test_a_product_loads_without_the_sources_that_a_user_drops(tmp_path: Path) -> None:
    sources = [source("erp", "orders"), source("erp", "items")]
    path = write_product(tmp_path, MODEL, singular_test("of_source", ID), sources=sources, config={"sources": "all"})
    served = definitions_from_file(path)

    assets = [asset for asset in served.assets or () if not isinstance(asset, dg.AssetSpec)]
    kept = dg.Definitions(assets, asset_checks=served.asset_checks, jobs=served.jobs)

    assert len(assets) == len([*(served.assets or ())]) - len(sources)
    job = kept.get_repository_def().get_job("shop_orders")
    assert job.asset_layer.selected_asset_keys == {dg.AssetKey("stg")}
    assert set(job.asset_layer.asset_graph.asset_check_keys) == {dg.AssetCheckKey(KEY, "of_source")}


def test_dagster_dbt_finds_the_keys_of_all_tables_of_a_source_that_is_left_out(tmp_path: Path) -> None:
    path = write_product(tmp_path, MODEL, sources=[source("erp", "orders"), source("erp", "items")])
    [stage] = [entry for entry in definitions_from_file(path).assets or () if isinstance(entry, dg.AssetsDefinition)]

    found = get_asset_keys_by_output_name_for_source([stage], "erp")

    assert set(found.values()) == {KEY, dg.AssetKey(["erp", "items"])}


def test_a_python_asset_reads_the_table_of_a_source_that_is_left_out(tmp_path: Path) -> None:
    names = []
    for setting in ("used", "all"):
        directory = tmp_path / setting
        path = write_product(directory, MODEL, sources=[source("erp", "orders")], config={"sources": setting})
        found = AssetDescriptions(ProductTranslator(load_product(path)), None).names(KEY)
        names.append({key: dataset.name for key, dataset in found.items()})

    assert names[0] == names[1]
    assert [*names[0]] == [("erp", "orders")]


def test_a_source_left_out_takes_no_key_from_another_node(tmp_path: Path) -> None:
    in_erp = {"materialized": "view", "enabled": True, "schema": "erp"}
    path = write_product(tmp_path, node("orders", config=in_erp), sources=[source("erp", "orders")])

    found = graph(path)

    assert (found.materializable_asset_keys, found.external_asset_keys) == ({KEY}, set())


@pytest.mark.parametrize(
    ("count", "setting", "line"),
    [
        (1, "used", "Left out: 1 source that nothing uses. See the key `sources`."),
        (3, "used", "Left out: 3 sources that nothing uses. See the key `sources`."),
        (3, "all", None),
    ],
)
def test_plan_has_the_number_of_sources_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, setting: str, line: str | None
) -> None:
    unused = [source("erp", f"unused_{row}") for row in range(count)]
    reader = node("reader", **reads(ID))
    path = write_product(tmp_path, reader, sources=[source("erp", "orders"), *unused], config={"sources": setting})
    product = load_product(path)

    plan = plan_product(product, build_definitions(product))
    print_plan(plan, [])

    printed = [found.strip() for found in capsys.readouterr().out.splitlines()]
    assert plan.unused_sources == (count if line else 0)
    assert [found for found in printed if found.startswith("Left out")] == ([line] if line else [])


def test_sources_of_many_assets_are_reduced(tmp_path: Path) -> None:
    sources = [source("erp", "orders", description=""), source("erp", "items", description="Items of orders.")]
    readers = [node(f"model_{row}", **reads(ID, "source.shop.erp.items")) for row in range(MANY_ASSETS + 1)]
    few, many = (
        graph(write_product(tmp_path / str(count), *readers[:count], sources=sources)) for count in (1, len(readers))
    )

    whole, lean = few.get(KEY), many.get(KEY)

    assert (whole.description, lean.description) == ("dbt source orders", None)
    assert many.get(dg.AssetKey(["erp", "items"])).description == "Items of orders."
    assert "dagster/code_references" in whole.metadata
    assert not {"dagster/code_references", "dagster/storage_kind"} & lean.metadata.keys()
    assert lean.tags == whole.tags
    model = dg.AssetKey("model_0")
    assert (few.get(model).description, many.get(model).description) == ("dbt model model_0", None)
