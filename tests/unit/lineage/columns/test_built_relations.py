"""Column lineage of relations that dbt has just built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.execution.dbt.node_result import NodeRelation, NodeResult
from floe_orchestrator_dagster.execution.record.materializations import table_column_lineage
from floe_orchestrator_dagster.lineage.columns.built_relations import BuiltRelations
from floe_orchestrator_dagster.product.manifest import Manifest

ORDERS = "model.shop.orders"
SQL = 'select id as number, amount * 2 as spent from "shop"."main"."orders"'


def relations_of(built: str, **fields: Any) -> BuiltRelations:  # noqa: ANN401  # of the node in the manifest
    orders = {"resource_type": "model", "relation_name": '"shop"."main"."orders"', "config": {}}
    content: dict[str, Any] = {"nodes": {ORDERS: orders, built: fields}, "sources": {}, "parent_map": {built: [ORDERS]}}
    return BuiltRelations(Manifest(Path(), content), "duckdb")


def finished(unique_id: str, columns: list[str], sql: str | None = None, relation: str = "") -> NodeResult:
    kind, _, name = unique_id.split(".")
    return NodeResult(
        unique_id,
        name,
        kind,
        "table",
        "success",
        columns=dict.fromkeys(columns, "int"),
        relation=NodeRelation(name=relation),
        compiled_code=sql,
    )


@pytest.mark.parametrize("kind", ["model", "snapshot"])
def test_columns_are_followed_through_the_query_to_columns_that_were_just_built(kind: str) -> None:
    built = f"{kind}.shop.history"
    relations = relations_of(built)
    relations.learn(finished(ORDERS, ["id", "amount"]))
    added = ["dbt_scd_id"] if kind == "snapshot" else []

    found = relations.column_lineage(finished(built, ["number", "spent", *added], SQL))

    assert found is not None
    key = dg.AssetKey("orders")
    assert table_column_lineage(found, {ORDERS: key}) == dg.TableColumnLineage(
        {"number": [dg.TableColumnDep(key, "id")], "spent": [dg.TableColumnDep(key, "amount")]}
    )
    assert table_column_lineage(found, {}) is None


def test_tables_are_found_by_the_names_that_dbt_reports() -> None:
    relations = relations_of("model.shop.history")
    relations.learn(finished(ORDERS, ["id", "amount"], relation='"shop"."dev"."orders"'))

    found = relations.column_lineage(finished("model.shop.history", [], SQL.replace("main", "dev")))

    assert found is not None
    assert found.direct["number"] == [(ORDERS, "id")]


def test_a_column_of_sources_with_one_key_is_shown_once() -> None:
    built, sources = "model.shop.all", {f"source.shop.erp.{name}": f'"shop"."main"."{name}"' for name in ("a", "b")}
    columns: dict[str, Any] = {"id": {}, "amount": {}}
    content: dict[str, Any] = {
        "nodes": {},
        "sources": {id_: {"relation_name": name, "columns": columns, "config": {}} for id_, name in sources.items()},
        "parent_map": {built: list(sources)},
    }
    sql = 'select * from "shop"."main"."a" union all select * from "shop"."main"."b"'

    relations = BuiltRelations(Manifest(Path(), content), "duckdb")
    found = relations.column_lineage(finished(built, ["id", "amount"], sql))

    assert found is not None
    key = dg.AssetKey("extract_all")
    assert table_column_lineage(found, dict.fromkeys(sources, key)) == dg.TableColumnLineage(
        {name: [dg.TableColumnDep(key, name)] for name in columns}
    )


def test_what_has_no_query_has_no_columns_to_follow() -> None:
    script = "def model(dbt, session): ..."

    assert relations_of("model.shop.a").column_lineage(finished("model.shop.a", ["id"])) is None
    python = relations_of("model.shop.python", language="python")
    assert python.column_lineage(finished("model.shop.python", ["id"], script)) is None
    assert relations_of("test.shop.a").column_lineage(finished("test.shop.a", [], SQL)) is None


@pytest.mark.parametrize(
    ("sql", "materialized", "columns"),
    [
        ("select ID as Number, 1 as one, amount from {orders}", "table", ["Number", "one", "Amount"]),
        ("with o as (select * from {orders}) select * exclude (amount), id as Last from o", "view", ["Id", "Last"]),
        ("select id, amount from {orders} union all select 1, 2", "table", ["Id", "Amount"]),
        ("select id, amount from {orders}", "incremental", None),
        ("select id, amount from {orders}", "snapshot", None),
        ("select id, amount from {orders}", "external", None),
        ("select id, count(*) from {orders} group by all", "table", None),
        ("select columns('a.*') from {orders}", "table", None),
        ("select id, unnest({{'a': 1, 'b': 2}}) from {orders}", "table", None),
        ("select * from elsewhere", "table", None),
    ],
)
def test_a_table_has_the_columns_of_its_query_if_dbt_reports_none(
    sql: str, materialized: str, columns: list[str] | None
) -> None:
    built = "snapshot.shop.history" if materialized == "snapshot" else "model.shop.history"
    documented = {"NUMBER": {"data_type": "integer"}, "gone": {}}
    kind = built.partition(".")[0]
    relations = relations_of(built, resource_type=kind, columns=documented, config={})
    relations.learn(finished(ORDERS, ["Id", "Amount"]))
    compiled = sql.format(orders='"shop"."main"."orders"')

    lineage = relations.column_lineage(replace(finished(built, [], compiled), materialized=materialized))

    assert lineage is not None
    assert list(lineage.output) == (columns or [])
    found = relations.columns(built)
    assert (None if found is None else list(found)) == columns
    assert (found or {}).get("Number", "integer") == "integer"


def test_a_table_that_failed_has_no_columns_of_its_query() -> None:
    relations = relations_of("model.shop.history")

    relations.column_lineage(replace(finished("model.shop.history", [], SQL), status="error"))

    assert relations.columns("model.shop.history") is None


def test_a_table_with_a_contract_does_not_have_the_columns_of_its_query() -> None:
    relations = relations_of("model.shop.history", config={"contract": {"enforced": True}})

    relations.column_lineage(finished("model.shop.history", [], SQL))

    assert relations.columns("model.shop.history") is None
