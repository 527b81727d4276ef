"""Freshness policies of assets: those of dbt's limits, beside the checks, and those of data contracts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import definitions_from_file
from unit.samples import Json, contract, manifest, model, node, source, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path

    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

pytestmark = pytest.mark.skipif(
    not hasattr(getattr(dg, "FreshnessPolicy", None), "time_window"),
    reason="Dagster has no freshness policies before 1.12",
)
SLA = {
    "apiVersion": "v3.1.0",
    "kind": "DataContract",
    "id": "shop",
    "version": "1.0.0",
    "status": "active",
    "slaProperties": [{"property": "freshness", "value": "PT6H"}],
    "schema": [{"name": "orders"}, {"name": "stores"}],
}


def limit(count: object, period: str) -> Json:
    """Return a limit as dbt's manifest has it."""
    return {"count": count, "period": period}


def graph(directory: Path, *nodes: Json, sources: tuple[Json, ...] = (), **changes: Any) -> AssetGraph:  # noqa: ANN401
    """Load a product with these models and sources."""
    write_project(directory)
    write_json(directory / "target" / "manifest.json", manifest(*nodes, sources=sources))
    content = contract(*(model(one["name"]) for one in nodes), **changes)
    return definitions_from_file(write_json(directory / "artifacts.json", content)).resolve_asset_graph()


def policy(found: AssetGraph, *key: str) -> object:
    """Return the policy of an asset."""
    return found.get(dg.AssetKey(key)).freshness_policy


def test_limits_of_a_source_are_its_policy_beside_its_check(tmp_path: Path) -> None:
    limits = {"warn_after": limit(12, "hour"), "error_after": limit(1, "day"), "filter": None}
    orders = node("orders", depends_on={"nodes": ["source.shop.raw.orders"], "macros": []})

    found = graph(tmp_path, orders, sources=(source("raw", "orders", freshness=limits, loaded_at_field="at"),))

    assert policy(found, "raw", "orders") == dg.FreshnessPolicy.time_window(timedelta(days=1), timedelta(hours=12))
    assert dg.AssetCheckKey(dg.AssetKey(["raw", "orders"]), "freshness") in found.asset_check_keys
    assert policy(found, "orders") is None


@pytest.mark.parametrize("place", ["config", "unrendered_config"])
def test_limits_of_a_model_are_its_policy(tmp_path: Path, place: str) -> None:
    declared = {"error_after": limit(30, "minute"), "warn_after": limit(10, "minute")}

    settings: Json = {place: {"freshness": declared, "materialized": "table"}}

    found = graph(tmp_path, node("orders", **settings))

    assert policy(found, "orders") == dg.FreshnessPolicy.time_window(timedelta(minutes=30), timedelta(minutes=10))


def test_limits_in_the_code_of_a_model_are_its_policy(tmp_path: Path) -> None:
    written = "{'error_after': {'count': 2, 'period': 'day'}}"  # as dbt-core has it in its manifest

    found = graph(tmp_path, node("orders", unrendered_config={"freshness": written}))

    assert policy(found, "orders") == dg.FreshnessPolicy.time_window(timedelta(days=2))


@pytest.mark.parametrize(
    "declared",
    [
        pytest.param({"build_after": limit(4, "hour")}, id="the shortest time between builds is no limit"),
        pytest.param({"warn_after": limit(4, "hour")}, id="dagster has no policy that only warns"),
        pytest.param({"error_after": limit("{{ var('hours') }}", "hour")}, id="template"),
        pytest.param({"error_after": limit(0, "hour")}, id="zero"),
        pytest.param({"error_after": limit(10**10, "day")}, id="longer than a duration can be"),
        pytest.param({"error_after": limit(count=True, period="day")}, id="a truth value"),
        pytest.param({"error_after": limit(3, "fortnight")}, id="unit"),
        pytest.param("daily", id="text"),
        pytest.param("{'error_after': var('limit')}", id="code"),
        pytest.param("{" * 500, id="code that is too deep"),
        pytest.param("{{ {'error_after': {'count': 2, 'period': 'day'}} }}", id="template of the whole setting"),
        pytest.param(None, id="null"),
    ],
)
def test_other_settings_are_no_policy(tmp_path: Path, declared: object) -> None:
    found = graph(tmp_path, node("orders", unrendered_config={"freshness": declared}))

    assert policy(found, "orders") is None


def test_a_resolved_setting_without_a_value_keeps_the_declared_one(tmp_path: Path) -> None:
    declared, resolved = {"error_after": limit(2, "hour")}, {"error_after": None, "build_after": limit(1, "hour")}
    settings: Json = {"config": {"freshness": resolved, "materialized": "table"}}

    found = graph(tmp_path, node("orders", unrendered_config={"freshness": declared}, **settings))

    assert policy(found, "orders") == dg.FreshnessPolicy.time_window(timedelta(hours=2))


def test_warning_that_is_not_before_the_error_is_left_out(tmp_path: Path) -> None:
    declared = {"error_after": limit(1, "day"), "warn_after": limit(24, "hour")}

    found = graph(tmp_path, node("orders", unrendered_config={"freshness": declared}))

    assert policy(found, "orders") == dg.FreshnessPolicy.time_window(timedelta(days=1))


def test_limits_of_dbt_take_precedence_over_the_data_contract(tmp_path: Path) -> None:
    declared = {"error_after": limit(2, "hour")}

    found = graph(
        tmp_path,
        node("orders", unrendered_config={"freshness": declared}),
        node("stores", unrendered_config={"freshness": {"warn_after": limit(1, "hour")}}),
        data_contracts=[SLA],
    )

    assert policy(found, "orders") == dg.FreshnessPolicy.time_window(timedelta(hours=2))
    assert policy(found, "stores") == dg.FreshnessPolicy.time_window(timedelta(hours=6))
