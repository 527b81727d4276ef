"""The sample product in ``dagster dev``, queried through its GraphQL API."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

if TYPE_CHECKING:
    from e2e.servers import DagsterDev

MODELS = {
    "customer_lifetime_value",
    "dim_customers",
    "dim_products",
    "fct_daily_revenue",
    "fct_orders",
    "int_customer_orders",
    "int_order_payments",
    "product_performance",
    "stg_customers",
    "stg_order_items",
    "stg_orders",
    "stg_payments",
    "stg_products",
    "stg_stores",
}
SEEDS = {"customers", "products", "stores"}
SNAPSHOTS = {"customers_snapshot"}
SOURCES = {"shop/order_items", "shop/orders", "shop/payments"}

RETAIL, FINANCE = "retail-data@example.com", "retail-finance@example.com"
PRODUCT_TAGS = {
    "floe/compute": "duckdb",
    "floe/domain": "retail",
    "floe/product": "retail-orders",
}

NOISE = re.compile(r" - (\x1b\[\d+m)?(WARNING|ERROR|CRITICAL)\b|^Traceback")

LOCATIONS = """{
  workspaceOrError { ... on Workspace { locationEntries {
    name
    loadStatus
    locationOrLoadError { __typename ... on PythonError { message } ... on RepositoryLocation { repositories {
      jobs { name description }
      schedules {
        name pipelineName cronSchedule executionTimezone scheduleState { status }
        futureTicks(limit: 5) { results { timestamp } }
      }
    } } }
  } } }
}"""
ASSETS = """{
  assetNodes {
    assetKey { path }
    isMaterializable
    description
    groupName
    owners { ... on UserAssetOwner { email } }
    kinds
    tags { key value }
    metadataEntries { label ... on TableSchemaMetadataEntry { schema { columns { name type description } } } }
    assetChecksOrError { ... on AssetChecks { checks { name blocking } } }
  }
}"""


@pytest.fixture(scope="module")
def location(dagster_dev: DagsterDev) -> dict[str, Any]:
    [entry] = dagster_dev.graphql(LOCATIONS)["workspaceOrError"]["locationEntries"]
    return dict(entry)


@pytest.fixture(scope="module")
def repository(location: dict[str, Any]) -> dict[str, Any]:
    [repository] = location["locationOrLoadError"]["repositories"]
    return dict(repository)


@pytest.fixture(scope="module")
def assets(dagster_dev: DagsterDev) -> dict[str, dict[str, Any]]:
    nodes = dagster_dev.graphql(ASSETS)["assetNodes"]
    return {"/".join(node["assetKey"]["path"]): node for node in nodes}


def columns(asset: dict[str, Any]) -> list[dict[str, str]]:
    [entry] = [entry for entry in asset["metadataEntries"] if entry["label"] == "dagster/column_schema"]
    return list(entry["schema"]["columns"])


def tags(asset: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in asset["tags"] if not tag["key"].startswith("dagster/")}


def test_dev_server_parses_the_project_itself(dagster_dev: DagsterDev) -> None:
    assert (dagster_dev.project / "target" / "manifest.json").is_file()


def test_code_location_loads_without_error(location: dict[str, Any]) -> None:
    assert location["name"] == "floe"
    assert location["loadStatus"] == "LOADED"
    assert location["locationOrLoadError"]["__typename"] == "RepositoryLocation"


def test_dev_server_logs_no_warnings_and_no_errors(dagster_dev: DagsterDev) -> None:
    noise = [line for line in dagster_dev.log.read_text().splitlines() if NOISE.search(line)]

    assert noise == []


def test_models_seeds_and_snapshots_can_be_materialized(assets: dict[str, dict[str, Any]]) -> None:
    materializable = {key for key, asset in assets.items() if asset["isMaterializable"]}

    assert materializable == MODELS | SEEDS | SNAPSHOTS


def test_sources_are_shown_but_cannot_be_materialized(assets: dict[str, dict[str, Any]]) -> None:
    shown_only = {key for key, asset in assets.items() if not asset["isMaterializable"]}

    assert shown_only == SOURCES


@pytest.mark.parametrize(
    ("key", "description"),
    [
        ("fct_daily_revenue", "Revenue per order day. Refunds count on the day of the order they belong to."),
        ("customers", "Everyone who signed up for a customer account, as exported from the shop system."),
        (
            "customers_snapshot",
            "History of the customer attributes that change over time, such as address and newsletter consent.",
        ),
        ("shop/orders", "One row per order, in the state of the last extract."),
    ],
)
def test_description_is_the_one_of_the_dbt_project(
    assets: dict[str, dict[str, Any]], key: str, description: str
) -> None:
    assert assets[key]["description"] == description


def test_every_asset_is_described_without_its_sql(assets: dict[str, dict[str, Any]]) -> None:
    wanting = [
        key
        for key, asset in assets.items()
        if not asset["description"] or asset["description"].startswith("dbt ") or "```" in asset["description"]
    ]

    assert wanting == []


def test_dbt_group_wins_over_the_products_group(assets: dict[str, dict[str, Any]]) -> None:
    finance = {"customer_lifetime_value", "fct_daily_revenue", "product_performance"}

    assert {key: asset["groupName"] for key, asset in assets.items()} == {
        key: "finance" if key in finance else "retail_orders" for key in assets
    }
    assert {key: asset["owners"] for key, asset in assets.items()} == {
        key: [{"email": FINANCE if key in finance else RETAIL}] for key in assets
    }


@pytest.mark.parametrize(
    ("key", "kinds", "own_tags"),
    [
        ("stg_orders", {"dbt", "duckdb", "bronze"}, {"floe/tier": "bronze", "staging": ""}),
        ("int_order_payments", {"dbt", "duckdb", "silver"}, {"floe/tier": "silver", "intermediate": ""}),
        ("fct_orders", {"dbt", "duckdb", "gold"}, {"floe/tier": "gold", "marts": "", "daily": ""}),
        ("stores", {"dbt", "duckdb"}, {"reference": ""}),
        ("customers_snapshot", {"dbt", "duckdb"}, {"history": ""}),
        ("shop/payments", {"dbt", "duckdb"}, {}),
    ],
)
def test_kinds_and_tags_come_from_contract_and_dbt(
    assets: dict[str, dict[str, Any]], key: str, kinds: set[str], own_tags: dict[str, str]
) -> None:
    assert set(assets[key]["kinds"]) == kinds
    assert tags(assets[key]) == {**PRODUCT_TAGS, **own_tags}


def test_columns_are_known_before_the_first_run(assets: dict[str, dict[str, Any]]) -> None:
    assert columns(assets["stg_stores"]) == [
        {"name": "store_id", "type": "integer", "description": "Number of the store."},
        {"name": "store_name", "type": "varchar", "description": "Name of the store."},
        {"name": "city", "type": "varchar", "description": "City of the store."},
        {"name": "state", "type": "varchar", "description": "Two-letter US state."},
        {"name": "channel", "type": "varchar", "description": "Either online or shop."},
        {"name": "is_online", "type": "boolean", "description": "Whether the store is the web store."},
        {"name": "opened_on", "type": "date", "description": "First day of business."},
        {
            "name": "floor_area_sqm",
            "type": "integer",
            "description": "Sales floor in square meters, empty for the web store.",
        },
    ]
    assert [key for key, asset in assets.items() if not all(column["description"] for column in columns(asset))] == []


def test_dbt_tests_are_checks_of_the_asset_they_test(assets: dict[str, dict[str, Any]]) -> None:
    checks = {key: asset["assetChecksOrError"]["checks"] for key, asset in assets.items()}

    # 80 data tests without the one that floe.yaml disables, a unit test, and the freshness of three sources.
    assert sum(map(len, checks.values())) == 83
    assert sum(len(checks[key]) for key in SOURCES) == 10
    assert {check["name"] for check in checks["fct_orders"]} == {
        "assert_payments_match_orders",
        "not_negative_fct_orders_order_total",
        "not_null_fct_orders_order_date",
        "not_null_fct_orders_order_id",
        "not_null_fct_orders_order_total",
        "relationships_fct_orders_customer_id__customer_id__ref_dim_customers_",
        "unique_fct_orders_order_id",
    }


def test_only_tests_of_severity_error_block(assets: dict[str, dict[str, Any]]) -> None:
    blocking = {check["name"]: check["blocking"] for check in assets["dim_products"]["assetChecksOrError"]["checks"]}

    assert blocking == {
        "not_null_dim_products_product_id": True,
        "unique_dim_products_product_id": True,
        "not_negative_dim_products_unit_margin": False,
    }


def test_product_is_a_job(repository: dict[str, Any]) -> None:
    jobs = {job["name"]: job["description"] for job in repository["jobs"]}

    assert jobs == {
        "__ASSET_JOB": None,
        "retail_orders": "Orders of a small shop chain, from raw extracts to revenue marts",
    }


def test_schedule_is_running_and_will_tick_on_weekday_mornings(repository: dict[str, Any]) -> None:
    [schedule] = repository["schedules"]
    ticks = schedule.pop("futureTicks")["results"]
    new_york = ZoneInfo("America/New_York")
    moments = [datetime.fromtimestamp(tick["timestamp"], tz=new_york) for tick in ticks]

    assert schedule == {
        "name": "retail_orders_schedule",
        "pipelineName": "retail_orders",
        "cronSchedule": "0 6 * * MON-FRI",
        "executionTimezone": "America/New_York",
        "scheduleState": {"status": "RUNNING"},
    }
    assert [(moment.hour, moment.minute) for moment in moments] == [(6, 0)] * 5
    assert {moment.isoweekday() for moment in moments} == {1, 2, 3, 4, 5}
    assert moments[0] > datetime.now(tz=new_york)
