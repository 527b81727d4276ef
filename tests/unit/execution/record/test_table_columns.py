"""Where the columns of a table come from that dbt has just built, without OpenLineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.execution.dbt.results import Results
from floe_orchestrator_dagster.execution.record.column_lineage import column_lineage_of, table_column_lineage
from floe_orchestrator_dagster.product.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path

ORDERS = "model.shop.orders"
SQL = 'select id as number, amount * 2 as spent from "shop"."main"."orders"'


def finished(unique_id: str, columns: list[str], **data: str) -> dict[str, Any]:
    kind, _, name = unique_id.split(".")
    node = {"unique_id": unique_id, "node_name": name, "resource_type": kind, "materialized": "table"}
    shown = {"node_info": node, "run_result": {"status": "success"}, "columns": [[name, "int"] for name in columns]}
    return {"info": {"name": "NodeFinished", "invocation_id": "i-1"}, "data": {**shown, **data}}


@pytest.mark.parametrize("kind", ["model", "snapshot"])
def test_columns_are_followed_through_the_file_or_the_query_that_dbt_tells(tmp_path: Path, kind: str) -> None:
    built = f"{kind}.shop.history"
    orders = {"resource_type": "model", "relation_name": '"shop"."main"."orders"', "config": {}}
    content: dict[str, Any] = {"nodes": {ORDERS: orders}, "sources": {}, "parent_map": {built: [ORDERS]}}
    results = Results({})
    results.add(finished(ORDERS, ["id", "amount"]))
    compiled = tmp_path / "history.sql"
    if kind == "model":
        compiled.write_text(SQL, encoding="utf-8")
        results.add(finished(built, ["number", "spent"]))
    else:
        results.add(finished(built, ["number", "spent", "dbt_scd_id"], compiled_code=SQL))

    found = column_lineage_of(built, compiled, "duckdb", Manifest(tmp_path, content), results)

    assert found is not None
    key = dg.AssetKey("orders")
    assert table_column_lineage(found, {ORDERS: key}) == dg.TableColumnLineage(
        {"number": [dg.TableColumnDep(key, "id")], "spent": [dg.TableColumnDep(key, "amount")]}
    )
    assert table_column_lineage(found, {}) is None


def test_a_column_of_sources_with_one_key_is_shown_once(tmp_path: Path) -> None:
    built, sources = "model.shop.all", {f"source.shop.erp.{name}": f'"shop"."main"."{name}"' for name in ("a", "b")}
    columns: dict[str, Any] = {"id": {}, "amount": {}}
    content: dict[str, Any] = {
        "nodes": {},
        "sources": {id_: {"relation_name": name, "columns": columns, "config": {}} for id_, name in sources.items()},
        "parent_map": {built: list(sources)},
    }
    results = Results({})
    results.add(finished(built, ["id", "amount"]))
    compiled = tmp_path / "all.sql"
    sql = 'select * from "shop"."main"."a" union all select * from "shop"."main"."b"'
    compiled.write_text(sql, encoding="utf-8")

    found = column_lineage_of(built, compiled, "duckdb", Manifest(tmp_path, content), results)

    assert found is not None
    key = dg.AssetKey("extract_all")
    assert table_column_lineage(found, dict.fromkeys(sources, key)) == dg.TableColumnLineage(
        {name: [dg.TableColumnDep(key, name)] for name in columns}
    )


def test_what_has_no_query_has_no_columns_to_follow(tmp_path: Path) -> None:
    results = Results({})
    results.add(finished("model.shop.python", ["id"]))

    content: dict[str, Any] = {"nodes": {}, "sources": {}, "parent_map": {}}
    script = tmp_path / "python.py"
    script.write_text("def model(dbt, session): ...", encoding="utf-8")
    for compiled in (script, tmp_path / "gone.sql"):
        found = column_lineage_of("model.shop.python", compiled, "duckdb", Manifest(tmp_path, content), results)
        assert found is None
