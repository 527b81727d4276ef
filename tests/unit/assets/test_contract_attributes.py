"""Attributes of assets from data contracts, ingestion outputs and links."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.assets.attributes import repository_url
from floe_orchestrator_dagster.code_location import definitions_from_file
from unit.samples import Json, contract, ingestion_output, manifest, model, node, source, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path

    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

CONTRACT = {
    "apiVersion": "v3.1.0",
    "kind": "DataContract",
    "id": "orders-contract",
    "version": "2.1.0",
    "status": "active",
    "tags": ["finance"],
    "description": {"purpose": "Revenue"},
    "team": [{"username": "ann@example.com", "role": "Owner"}, {"username": "kitchen", "role": "Owner"}],
    "slaProperties": [
        {"property": "freshness", "value": "PT6H"},
        {"property": "retention", "value": 3, "unit": "y"},
    ],
    "schema": [
        {
            "name": "orders",
            "description": "Orders of the shop.",
            "businessName": "Shop orders",
            "dataGranularityDescription": "one row per order",
            "tags": ["core"],
            "quality": [{"metric": "rowCount", "mustBeGreaterThan": 0}],
            "properties": [
                {"name": "ID", "logicalType": "integer", "physicalType": "bigint", "primaryKey": True},
                {
                    "name": "email",
                    "logicalType": "string",
                    "required": True,
                    "unique": True,
                    "classification": "PII",
                    "description": "Address",
                    "tags": ["contact"],
                    "quality": [{"metric": "nullValues", "mustBe": 0}],
                },
                {"name": "amount", "logicalType": "number"},
            ],
        },
        {"name": "raw.orders"},
        {"name": "raw.stores", "description": "Stores as they come."},
    ],
}
MODEL = node(
    "orders",
    depends_on={"nodes": ["source.shop.raw.orders"], "macros": []},
    columns={
        "id": {"name": "id", "data_type": "integer", "description": "Number", "tags": ["key", 1]},
        "note": {"name": "note", "description": ""},
    },
)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Give a dbt project with its manifest, and the contract beside it."""
    write_project(tmp_path)
    content = manifest(MODEL, node("other"), sources=(source("raw", "orders"),))
    write_json(tmp_path / "target" / "manifest.json", content)
    return tmp_path


def graph(project: Path, config: Json | None = None, identity: Json | None = None) -> AssetGraph:
    outputs = [
        ingestion_output("raw.orders", primary_key="id", cursor_field="updated_at"),
        ingestion_output("raw.stores", primary_key=["id", "day"], freshness_field="_loaded_at"),
    ]
    declared = contract(model("orders"), config=config, data_contracts=[CONTRACT], ingestion_outputs=outputs)
    path = write_json(project / "artifacts.json", {**declared, **({"identity": identity} if identity else {})})
    return definitions_from_file(path).resolve_asset_graph()


def floe_metadata(graph: AssetGraph, *key: str) -> dict[str, Any]:
    return {name: value for name, value in graph.get(dg.AssetKey(key)).metadata.items() if name.startswith("floe/")}


# --- data contracts -------------------------------------------------------------------------------------------------


def test_team_of_the_contract_owns_the_asset(shop: Path) -> None:
    found = graph(shop)

    assert found.get(dg.AssetKey("orders")).owners == ["ann@example.com", "team:kitchen"]
    assert found.get(dg.AssetKey("other")).owners == []


def test_owners_in_dbt_take_precedence_over_the_contracts(shop: Path) -> None:
    owned = {**MODEL, "meta": {"dagster": {"owners": ["ann@example.com", "team:dbt"]}}}
    write_json(shop / "target" / "manifest.json", manifest(owned, sources=(source("raw", "orders"),)))

    assert graph(shop).get(dg.AssetKey("orders")).owners == ["ann@example.com", "team:dbt", "team:kitchen"]


def test_columns_of_dbt_and_of_the_contract_are_merged(shop: Path) -> None:
    schema = graph(shop).get(dg.AssetKey("orders")).metadata["dagster/column_schema"]

    nullable = dg.TableColumnConstraints(nullable=True, unique=False, other=[])
    assert schema.columns == [
        dg.TableColumn(
            "id",
            "integer",
            "Number",
            dg.TableColumnConstraints(nullable=False, unique=True, other=["primary key"]),
            tags={"key": "", "1": ""},
        ),
        dg.TableColumn("note", "?", None),
        dg.TableColumn(
            "email",
            "string",
            "Address",
            dg.TableColumnConstraints(nullable=False, unique=True, other=[]),
            tags={"contact": "", "floe.classification/pii": ""},
        ),
        dg.TableColumn("amount", "number", None, nullable),
    ]


def test_tags_classifications_and_terms_are_on_the_asset(shop: Path) -> None:
    found = graph(shop)
    orders = found.get(dg.AssetKey("orders"))
    metadata = floe_metadata(found, "orders")

    assert {"finance", "core", "floe.classification/pii"} <= orders.tags.keys()
    assert "floe.classification/pii" not in found.get(dg.AssetKey("other")).tags
    assert orders.description == "Orders of the shop."
    assert metadata["floe/data_contract"] == "orders-contract"
    assert metadata["floe/data_contract_version"] == "2.1.0"
    assert metadata["floe/data_contract_status"] == "active"
    assert metadata["floe/business_name"] == "Shop orders"
    assert metadata["floe/granularity"] == "one row per order"
    assert metadata["floe/sla"].value == CONTRACT["slaProperties"]
    assert metadata["floe/data_contract_quality"].value == [
        {"metric": "rowCount", "mustBeGreaterThan": 0},
        {"column": "email", "metric": "nullValues", "mustBe": 0},
    ]
    assert metadata["floe/data_contract_terms"].value["description"] == {"purpose": "Revenue"}


def test_freshness_is_a_freshness_policy_if_dagster_supports_it(shop: Path) -> None:
    found = graph(shop)
    policies = {name: found.get(dg.AssetKey(name)).freshness_policy for name in ("orders", "other")}

    assert policies["other"] is None
    if hasattr(getattr(dg, "FreshnessPolicy", None), "time_window"):
        assert policies["orders"] == dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=6))
    else:
        assert policies["orders"] is None


# --- ingestion outputs ----------------------------------------------------------------------------------------------


def test_source_has_metadata_of_its_ingestion(shop: Path) -> None:
    found = graph(shop)
    orders = found.get(dg.AssetKey(["raw", "orders"]))

    assert found.get(dg.AssetKey("orders")).parent_keys == {orders.key}
    assert orders.tags["floe/tier"] == "bronze"
    assert "bronze" in orders.kinds
    assert (
        floe_metadata(found, "raw", "orders").items()
        >= {
            "floe/ingestion_source": "files",
            "floe/ingestion_source_type": "filesystem",
            "floe/ingestion_table": "raw.orders",
            "floe/table_format": "iceberg",
            "floe/file_format": "csv",
            "floe/source_path": "data/in",
            "floe/write_mode": "append",
            "floe/schema_contract": "evolve",
            "floe/primary_key": "id",
            "floe/cursor_field": "updated_at",
            "floe/data_contract": "orders-contract",
        }.items()
    )


@pytest.mark.parametrize("prefix", [[], ["retail"]])
def test_ingested_table_without_a_source_is_an_asset(shop: Path, prefix: list[str]) -> None:
    found = graph(shop, {"key_prefix": prefix})
    stores = found.get(dg.AssetKey([*prefix, "raw", "stores"]))

    assert stores.is_external
    assert stores.description == "Stores as they come."
    assert stores.kinds == {"iceberg", "bronze"}
    assert stores.group_name == "shop_orders"
    assert stores.owners == ["ann@example.com", "team:kitchen"]
    assert stores.tags["floe/tier"] == "bronze"
    assert stores.metadata["dagster/table_name"] == "raw.stores"
    assert stores.metadata["floe/primary_key"] == "id, day"
    assert stores.metadata["floe/freshness_field"] == "_loaded_at"
    assert stores.metadata["floe/sla"].value[0] == {"property": "freshness", "value": "PT6H"}


# --- links ----------------------------------------------------------------------------------------------------------


def test_asset_links_to_its_file_and_its_docs(shop: Path) -> None:
    identity = {"product_id": "p", "domain": "d", "repository": "https://github.com/acme/shop.git"}
    found = graph(shop, {"docs_url": "https://docs.example.com/shop/"}, identity=identity)

    metadata = found.get(dg.AssetKey("orders")).metadata
    file, online = metadata["dagster/code_references"].code_references
    assert file.label == online.label == "models/orders.sql"
    assert file.file_path == str(shop / "models" / "orders.sql")
    assert online.url == "https://github.com/acme/shop/blob/HEAD/models/orders.sql"
    assert metadata["floe/docs"].value == "https://docs.example.com/shop/#!/model/model.shop.orders"
    docs_of_source = found.get(dg.AssetKey(["raw", "orders"])).metadata["floe/docs"].value
    assert docs_of_source == "https://docs.example.com/shop/#!/source/source.shop.raw.orders"


def test_link_contains_the_path_in_the_repository(tmp_path: Path) -> None:
    nested = tmp_path / "products" / "shop"
    write_project(nested)
    write_json(nested / "target" / "manifest.json", manifest(node("orders"), node("spice", package_name="spices")))
    (tmp_path / ".git").mkdir()
    identity = {"product_id": "p", "domain": "d", "repository": "gitlab.example.com/acme/shop"}

    found = graph(nested, identity=identity)

    references = {
        name: found.get(dg.AssetKey(name)).metadata["dagster/code_references"].code_references
        for name in ("orders", "spice")
    }
    base = "https://gitlab.example.com/acme/shop/-/blob/HEAD/products/shop"
    assert references["orders"][1].url == f"{base}/models/orders.sql"
    assert references["spice"][0].file_path == str(nested / "dbt_packages" / "spices" / "models" / "spice.sql")


def test_without_repository_and_docs_there_are_no_such_links(shop: Path) -> None:
    metadata = graph(shop).get(dg.AssetKey("orders")).metadata

    assert len(metadata["dagster/code_references"].code_references) == 1
    assert "floe/docs" not in metadata


@pytest.mark.parametrize(
    ("repository", "url"),
    [
        ("", None),
        ("unknown", None),
        ("https://git.example.com/a/b.git/", "https://git.example.com/a/b"),
        ("https://git.example.com/a/b.git", "https://git.example.com/a/b"),
        ("git@github.com:acme/shop.git", "https://github.com/acme/shop"),
        ("github.com/acme/shop", "https://github.com/acme/shop"),
    ],
)
def test_repository_is_converted_to_the_url_of_its_page(repository: str, url: str | None) -> None:
    assert repository_url(repository) == url
