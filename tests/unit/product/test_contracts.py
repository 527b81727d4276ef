"""Matching of data contracts with dbt nodes, table by table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from floe_orchestrator_dagster.errors import ArtifactsError
from floe_orchestrator_dagster.product.contracts import (
    TableContract,
    contract_of,
    contract_problems,
    match_table_contracts,
    read_table_contracts,
)
from unit.samples import Json, manifest, model, node, source, validated


def read(*tables: str | Json, **contract: object) -> list[TableContract]:
    """Read one data contract over these tables."""
    schema = [table if isinstance(table, dict) else {"name": table} for table in tables]
    declared = {"apiVersion": "v3.1.0", "kind": "DataContract", "id": "c1", "schema": schema, **contract}
    artifacts = validated(model("orders"), data_contracts=[declared])
    return read_table_contracts(artifacts.data_contracts, "contract")


def sla(value: object, unit: str | None = None, element: str | None = None) -> Json:
    return {"property": "freshness", "value": value, "unit": unit, "element": element}


# --- freshness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "window"),
    [
        ("PT6H", None, timedelta(hours=6)),
        ("P1D", None, timedelta(days=1)),
        ("P1DT12H30M", None, timedelta(days=1, hours=12, minutes=30)),
        ("P2W", None, timedelta(weeks=2)),
        (6, "h", timedelta(hours=6)),
        ("1.5", "hours", timedelta(minutes=90)),
        (30, "min", timedelta(minutes=30)),
        (90, "seconds", timedelta(seconds=90)),
        (4, "D", timedelta(days=4)),
        (1, "yr", timedelta(days=365)),
    ],
)
def test_freshness_is_a_duration(value: object, unit: str | None, window: timedelta) -> None:
    [orders] = read("orders", slaProperties=[sla(value, unit)])

    assert orders.freshness == window


@pytest.mark.parametrize(
    ("value", "unit", "what"),
    [
        ("daily", None, "'daily'"),
        ("PT", None, "'PT'"),
        (6, None, "6"),
        (6, "m", "6 with unit 'm'"),
        ("6h", "h", "'6h' with unit 'h'"),
        (None, "h", "None with unit 'h'"),
        ("PT30S", None, "'PT30S'"),
        (-1, "d", "-1 with unit 'd'"),
        (1e300, "d", "1e+300 with unit 'd'"),
    ],
)
def test_freshness_that_is_not_a_duration_is_refused_with_its_place(value: object, unit: str | None, what: str) -> None:
    with pytest.raises(ArtifactsError) as raised:
        read("orders", slaProperties=[{"property": "retention", "value": 3}, sla(value, unit)])

    [problem] = raised.value.problems
    assert problem.where == "data_contracts[0].slaProperties[1].value"
    assert problem.what == f"{what} is not a duration of at least one minute"


def test_freshness_is_for_the_tables_that_its_element_names() -> None:
    promises = [sla("P1D"), sla("PT6H", element="orders.updated_at, main.refunds.at"), sla("PT1H", element="stores")]
    tables = read("orders", {"physicalName": "main.refunds"}, "stores", "products", slaProperties=promises)

    assert [table.freshness for table in tables] == [
        timedelta(hours=6),
        timedelta(hours=6),
        timedelta(hours=1),
        timedelta(days=1),
    ]


def test_element_without_a_table_is_for_all_tables() -> None:
    [orders] = read("orders", slaProperties=[sla("P1D", element="updated_at")])

    assert orders.freshness == timedelta(days=1)


def test_other_slas_are_not_freshness() -> None:
    [orders] = read("orders", slaProperties=[{"property": "latency", "value": 4, "unit": "d"}])

    assert orders.freshness is None


# --- owners, classifications ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("team", "owners"),
    [
        (None, []),
        ([{"username": "ann@example.com", "role": "Data Steward"}], ["ann@example.com"]),
        (
            [{"username": "ann@example.com", "role": "Data Product Owner"}, {"username": "bob@example.com"}],
            ["ann@example.com"],
        ),
        ([{"username": "ann@example.com", "dateOut": "2026-01-01"}, {"name": "Bob"}], ["Bob"]),
        ({"name": "orders", "members": [{"username": "ann@example.com"}]}, ["team:orders", "ann@example.com"]),
        ({"name": "orders"}, ["team:orders"]),
    ],
)
def test_owners_are_the_team_and_its_owning_members(team: object, owners: list[str]) -> None:
    [orders] = read("orders", team=team)

    assert orders.owners == owners


def test_classifications_are_those_of_the_columns() -> None:
    columns = [{"name": "a", "classification": "pii"}, {"name": "b", "classification": "internal"}, {"name": "c"}]
    [orders] = read({"name": "orders", "properties": [*columns, {"name": "d", "classification": "pii"}]})

    assert orders.classifications == ["internal", "pii"]


# --- which table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        {"name": "orders"},
        {"name": "ORDERS"},
        {"name": "o", "physicalName": "fct_orders"},
        {"name": "o", "physicalName": "main.fct_orders"},
        {"name": "o", "physicalName": "Shop.main.fct_orders"},
    ],
)
def test_contract_matches_the_model_of_its_name(table: Json) -> None:
    orders = node("orders", alias="fct_orders", database="shop", schema="main")

    found = match_table_contracts(read(table), manifest(orders, node("stores")))

    assert set(found.by_node) == {"model.shop.orders"}
    assert found.unmatched == ()


@pytest.mark.parametrize("name", ["customers", "raw.customers", "crm.customers", "raw.cust_table"])
def test_contract_matches_the_source_of_its_name(name: str) -> None:
    names = {"raw.customers": "customers"}
    customers = source("crm", "customers", schema="raw", identifier=names.get(name, "cust_table"))

    found = match_table_contracts(read({"physicalName": name}), manifest(sources=(customers,)))

    assert set(found.by_node) == {"source.shop.crm.customers"}


def test_model_takes_precedence_over_a_source_of_the_same_name() -> None:
    found = match_table_contracts(read("orders"), manifest(node("orders"), sources=(source("crm", "orders"),)))

    assert set(found.by_node) == {"model.shop.orders"}


def test_contract_without_a_table_is_reported() -> None:
    found = match_table_contracts(read("orders", "gone"), manifest(node("orders")))

    [problem] = contract_problems(found.unmatched)
    assert problem.where == "data_contracts[0].schema[1]"
    assert problem.what == "'gone' is not a model, seed, snapshot or source of dbt"


@pytest.mark.parametrize(("names", "found"), [(["raw.orders"], True), (["x.Orders"], True), (["stores"], False)])
def test_contract_is_found_by_names_alone(names: list[str], *, found: bool) -> None:
    assert (contract_of(read("orders"), *names) is not None) is found
