"""Tables that compiled SQL reads and dbt does not know."""

from __future__ import annotations

from typing import Any

import pytest

from floe_orchestrator_dagster.execution.reuse.compiled_reads import MISSING, compiled_read
from floe_orchestrator_dagster.product.unnamed_reads import UNCERTAIN

NODE: dict[str, Any] = {
    "unique_id": "model.shop.m",
    "resource_type": "model",
    "relation_name": '"shop"."main"."m"',
    "config": {},
    "depends_on": {"nodes": ["model.shop.a", "model.shop.e", "source.shop.raw.b"]},
}
CONTENT: dict[str, Any] = {
    "nodes": {
        "model.shop.a": {"relation_name": '"shop"."main"."a"', "config": {"materialized": "table"}},
        "model.shop.e": {
            "relation_name": None,
            "config": {"materialized": "ephemeral"},
            "depends_on": {"nodes": ["model.shop.x"]},
        },
        "model.shop.x": {"relation_name": "shop.main.x", "config": {"materialized": "view"}},
    },
    "sources": {"source.shop.raw.b": {"relation_name": "`raw`.`b`"}},
}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('select * from "shop"."main"."a" join `raw`.`b` as b using (id)', None),
        ('select * from "shop"."main"."a", shop.main.x, "shop"."main"."m" where a = \'from other\'', None),
        ('with __dbt__cte__e as (select * from shop.main.x) select * from "shop"."main"."a" join __dbt__cte__e', None),
        ('select * from "shop"."main"."a" , other.x', "other.x"),
        ("select * from shop.main.x_history", "a ref_history"),
        ('select * from "shop"."main"."a_history"', 'shop"."main"."a_history'),
        ("select * from shop.main.other", "shop.main.other"),
        ("select '{{ x }}' as c", UNCERTAIN),
        ("select $$ from x $$", UNCERTAIN),
    ],
)
def test_tables_outside_of_ref_and_source_are_found(code: str, found: str | None) -> None:
    assert compiled_read(CONTENT, NODE, [code]) == found


def test_query_of_each_batch_is_read() -> None:
    assert compiled_read(CONTENT, NODE, ["select 1 as n", "select * from other.x"]) == "other.x"


def test_model_without_compiled_sql_is_in_doubt() -> None:
    assert compiled_read(CONTENT, NODE, []) == MISSING
    assert compiled_read(CONTENT, {**NODE, "resource_type": "seed"}, []) is None


def test_python_declared_nodes_and_readers_of_files_are_not_looked_at() -> None:
    code = "select * from other.x"
    files = {**CONTENT["sources"]["source.shop.raw.b"], "meta": {"external_location": "b.csv"}}

    assert compiled_read(CONTENT, NODE, [code]) == "other.x"
    assert compiled_read(CONTENT, {**NODE, "language": "python"}, [code]) is None
    assert compiled_read(CONTENT, {**NODE, "config": {"meta": {"dagster": {"reuse": True}}}}, [code]) is None
    assert compiled_read({**CONTENT, "sources": {"source.shop.raw.b": files}}, NODE, [code]) is None
