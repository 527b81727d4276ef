"""Facets of jobs and datasets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from floe_orchestrator_dagster.lineage.datasets.names import DatasetName, read_warehouse
from floe_orchestrator_dagster.lineage.events.dbt_events import DbtEvents
from floe_orchestrator_dagster.lineage.events.python_assets import product_event
from floe_orchestrator_dagster.product.manifest import Manifest
from openlineage_schemas import as_json, assert_valid
from unit.lineage.sample_run import lineage_run, node_result, sample_manifest
from unit.samples import manifest as manifest_of
from unit.samples import node

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

    from floe_orchestrator_dagster.lineage.events.run import LineageRun

    Json = dict[str, Any]


def end_of(
    each: Json,
    output: Json | None = None,
    run: LineageRun | None = None,
    groups: Json | None = None,
    **result: Any,  # noqa: ANN401
) -> Json:
    """Run one node and give its last event."""
    warehouse = read_warehouse(output or {"type": "postgres", "host": "pg"}, {})
    content = manifest_of(each, groups=groups or {})
    events = DbtEvents(run or lineage_run(), Manifest(sample_manifest().path, content), warehouse)
    made: list[RunEvent] = events.end(node_result("success", each["unique_id"], **result))
    assert_valid(made)
    return as_json(made[-1])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"meta": {"owner": "ann@example.com"}}, ["ann@example.com"]),
        (
            {"config": {"meta": {"owner": ["ann", {"name": "bob"}, {"email": "c@example.com"}]}}},
            ["ann", "bob", "c@example.com"],
        ),
        ({"group": "finance"}, ["finance@example.com"]),
        ({"config": {"group": "crew"}}, ["crew@example.com"]),
        ({"meta": {"owner": "ann"}, "group": "finance"}, ["ann", "finance@example.com"]),
        ({"meta": {"owner": 7}}, ["7"]),
        ({}, ["retail-data@example.com"]),
    ],
)
def test_owners_are_the_nodes_the_groups_or_the_products(fields: Json, expected: list[str]) -> None:
    groups = {
        "group.shop.finance": {"name": "finance", "owner": {"name": "Finance", "email": "finance@example.com"}},
        "group.shop.crew": {"name": "crew", "owner": {"email": ["crew@example.com", "other@example.com"]}},
    }

    end = end_of(node("orders", **fields), groups=groups)

    assert [owner["name"] for owner in end["job"]["facets"]["ownership"]["owners"]] == expected
    assert [owner["name"] for owner in end["outputs"][0]["facets"]["ownership"]["owners"]] == expected


@pytest.mark.parametrize(
    ("materialized", "kind"),
    [
        ("view", ("VIEW", None)),
        ("table", ("TABLE", None)),
        ("incremental", ("TABLE", None)),
        ("materialized_view", ("VIEW", "MATERIALIZED")),
        ("of our own", ("TABLE", None)),
    ],
)
def test_datasets_have_types(materialized: str, kind: tuple[str, str | None]) -> None:
    facet = end_of(node("orders", config={"materialized": materialized}))["outputs"][0]["facets"]["datasetType"]

    assert (facet["datasetType"], facet.get("subType")) == kind


@pytest.mark.parametrize(
    ("repository", "url"),
    [
        ("github.com/example/shop", "https://github.com/example/shop"),
        ("https://u:pa55@github.com/example/shop.git", "https://github.com/example/shop"),
        ("git@github.com:example/shop.git", "https://github.com/example/shop"),
        ("ssh://git@github.com/example/shop", "https://github.com/example/shop"),
        ("git.example.com/my shop/", "https://git.example.com/my%20shop"),
        ("", None),
    ],
)
def test_code_is_located_where_the_contract_names_a_repository(repository: str, url: str | None) -> None:
    run = lineage_run()
    identity = run.product.artifacts.identity.model_copy(update={"repository": repository})
    artifacts = run.product.artifacts.model_copy(update={"identity": identity})

    changed = replace(run, product=replace(run.product, artifacts=artifacts))

    end = end_of(node("orders"), run=changed)

    facet = end["job"]["facets"].get("sourceCodeLocation")
    product = as_json(product_event(changed, "START", changed.created_at))["job"]["facets"]
    assert product.get("sourceCodeLocation", {}).get("url") == url
    assert (facet and (facet["url"], facet["path"])) == (url and (url, "models/orders.sql"))


@pytest.mark.parametrize(
    ("output", "uri"),
    [
        ({"type": "postgres", "host": "pg"}, "postgres://pg:5432"),
        ({"type": "duckdb", "path": "/my data/x.duckdb"}, "duckdb:///my%20data/x.duckdb"),
        ({"type": "duckdb"}, None),
        ({"type": "bigquery"}, None),
    ],
)
def test_a_data_source_has_a_uri_where_its_namespace_makes_one(output: Json, uri: str | None) -> None:
    assert end_of(node("orders"), output)["outputs"][0]["facets"]["dataSource"].get("uri") == uri


def test_facets_contain_catalog_and_other_names() -> None:
    attach = [{"path": "wh", "alias": "lake", "type": "iceberg", "options": {"endpoint": "http://polaris:8181"}}]
    iceberg = end_of(node("orders", database="lake"), {"type": "duckdb", "path": "x.duckdb", "attach": attach})
    redshift = end_of(node("orders"), {"type": "redshift", "host": "shop.abc.eu-west-1.redshift.amazonaws.com"})

    catalog = iceberg["outputs"][0]["facets"]["catalog"]
    (other,) = redshift["outputs"][0]["facets"]["symlinks"]["identifiers"]
    assert {name: catalog[name] for name in ("framework", "type", "name", "metadataUri", "warehouseUri")} == {
        "framework": "iceberg",
        "type": "rest",
        "name": "lake",
        "metadataUri": "http://polaris:8181",
        "warehouseUri": "wh",
    }
    assert DatasetName(other["namespace"], other["name"]) == DatasetName(
        "redshift://shop.eu-west-1:5439", "main.orders"
    )
    assert other["type"] == "TABLE"


def test_tags_of_columns_name_the_column() -> None:
    columns = {"email": {"name": "email", "tags": ["pii"], "data_type": "text"}, "id": {"name": "id", "tags": "key"}}

    facet = end_of(node("orders", tags=["daily"], columns=columns))["outputs"][0]["facets"]["tags"]

    assert [(tag["key"], tag.get("field")) for tag in facet["tags"]] == [
        ("daily", None),
        ("pii", "email"),
        ("key", "id"),
    ]


@pytest.mark.parametrize(
    ("response", "rows"),
    [
        ({"rows_affected": 0}, 0),
        ({"rows_affected": -1}, None),
        ({"rows_affected": True}, None),
        ({"rows_affected": "5"}, 5),
        ({"rows_affected": "many"}, None),
        ({}, None),
    ],
)
def test_only_counts_of_rows_become_row_counts(response: Json, rows: int | None) -> None:
    facets = end_of(node("orders"), adapter_response=response)["outputs"][0]["outputFacets"]

    assert facets.get("outputStatistics", {}).get("rowCount") == rows


@pytest.mark.parametrize(
    ("response", "query_id"),
    [
        ({"query_id": "01b2"}, "01b2"),
        ({"query_id": "N/A"}, None),
        ({"job_id": "j", "project_id": "p", "location": "EU"}, "p:EU.j"),
        ({"job_id": "j"}, "j"),
        ({}, None),
    ],
)
def test_the_warehouses_query_is_named(response: Json, query_id: str | None) -> None:
    facet = end_of(node("orders"), adapter_response=response)["run"]["facets"].get("externalQuery")

    assert (facet and (facet["externalQueryId"], facet["source"])) == (query_id and (query_id, "postgres://pg:5432"))
