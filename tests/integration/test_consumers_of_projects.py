"""Exposures and the semantic layer as assets, from what each dbt engine writes into its manifest."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dbt_v2 import engine_config
from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

FILES = {
    "dbt_project.yml": "{name: shop, version: '1.0', profile: shop-orders}",
    "models/raw.sql": "select 1 as order_id, date '2026-01-01' as ordered_at, 2.5 as total",
    "models/inner.sql": "{{ config(materialized='ephemeral') }} select * from {{ ref('raw') }}",
    "models/orders.sql": "select * from {{ ref('inner') }}",
    "models/days.sql": "select date '2026-01-01' as date_day",
    "models/days.yml": """
        models:
          - name: days
            time_spine: {standard_granularity_column: date_day}
            columns: [{name: date_day, granularity: day}]
        """,
    "models/exposures.yml": """
        exposures:
          - name: board
            type: dashboard
            url: https://bi.example.com/board
            owner: {name: Retail, email: retail@example.com}
            depends_on: [ref('orders'), ref('inner')]
        """,
}
# The form that dbt-core 1.x reads.
CORE = {
    "models/orders.sql": """
        {{ config(freshness={
            'warn_after': {'count': 6, 'period': 'hour'}, 'error_after': {'count': 1, 'period': 'day'}
        }) }}
        select * from {{ ref('inner') }}
        """,
    "models/semantic.yml": """
        semantic_models:
          - name: sales
            model: ref('orders')
            defaults: {agg_time_dimension: ordered_at}
            entities: [{name: order_id, type: primary}]
            dimensions: [{name: ordered_at, type: time, type_params: {time_granularity: day}}]
            measures: [{name: total, agg: sum}]
        metrics:
          - {name: revenue, label: Revenue, type: simple, type_params: {measure: total}}
        saved_queries:
          - {name: weekly, query_params: {metrics: [revenue], group_by: ["TimeDimension('order_id__ordered_at')"]}}
        exposures:
          - name: letter
            type: analysis
            owner: {name: Retail}
            depends_on: [metric('revenue')]
        """,
}
# https://docs.getdbt.com/docs/build/latest-metrics-spec
V2 = {
    "models/semantic.yml": """
        models:
          - name: orders
            semantic_model: {enabled: true, name: sales}
            agg_time_dimension: ordered_at
            columns:
              - {name: order_id, entity: {type: primary, name: order_id}}
              - {name: ordered_at, granularity: day, dimension: {type: time}}
            metrics:
              - {name: revenue, label: Revenue, type: simple, agg: sum, expr: total}
        saved_queries:
          - {name: weekly, query_params: {metrics: [revenue], group_by: ["TimeDimension('order_id__ordered_at')"]}}
        """,
}


def parsed(project: Path, files: Mapping[str, str], engine: str) -> AssetGraph:
    """Parse a project with a dbt engine, and load it."""
    write_files(project, {**FILES, **files})
    artifacts = contract(model("orders"), config={"dbt": engine_config(engine)})
    path = write_json(project / "compiled_artifacts.json", artifacts)
    load_product(path, manifest_source=manifest_rebuilt)
    definitions = definitions_from_file(path)
    dg.Definitions.validate_loadable(definitions)
    return definitions.resolve_asset_graph()


@pytest.mark.parametrize("engine", ["core", "v2"])
def test_consumers_read_what_the_project_declares(tmp_path: Path, engine: str) -> None:
    graph = parsed(tmp_path / "shop", CORE if engine == "core" else V2, engine)

    semantic = {
        "semantic_model/sales": {"orders"},
        "metric/revenue": {"semantic_model/sales"},
        "saved_query/weekly": {"metric/revenue"},
    }
    letter = {"exposure/letter": {"metric/revenue"}} if engine == "core" else {}
    assert {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.external_asset_keys
    } == {"exposure/board": {"orders", "raw"}, **semantic, **letter}
    board = graph.get(dg.AssetKey(["exposure", "board"]))
    assert (board.owners, board.kinds) == (["retail@example.com"], {"dbt", "dashboard"})
    assert board.metadata["floe/url"] == dg.MetadataValue.url("https://bi.example.com/board")


@pytest.mark.skipif(
    not hasattr(getattr(dg, "FreshnessPolicy", None), "time_window"), reason="no such policies before Dagster 1.12"
)
def test_a_model_has_the_freshness_policy_of_its_code(tmp_path: Path) -> None:
    orders = parsed(tmp_path / "shop", CORE, "core").get(dg.AssetKey("orders"))

    assert orders.freshness_policy == dg.FreshnessPolicy.time_window(timedelta(days=1), timedelta(hours=6))
