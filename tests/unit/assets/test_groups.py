"""Groups of assets by ``group_by``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.code_location import build_definitions
from unit.dbt_shop import dbt_shop
from unit.samples import Json, model, node, product

if TYPE_CHECKING:
    from pathlib import Path

    import dagster as dg

NODES: list[Json] = [
    node("own", config={"materialized": "view", "enabled": True, "group": "finance"}),
    node("deep", fqn=["shop", "core-data", "eu", "deep"]),
    node("wider", version=2, fqn=["shop", "marts", "wider", "v2"], alias="wider_v2"),
    node("top", version=1, fqn=["shop", "top", "v1"], alias="top_v1"),
    node("history", "snapshot", fqn=["shop", "history", "history"], original_file_path="snapshots/history.sql"),
    node("filed", "snapshot", fqn=["shop", "crm", "filed", "filed"], original_file_path="snapshots/crm/filed.sql"),
    node("listed", "snapshot", fqn=["shop", "crm", "listed"], original_file_path="snapshots/crm/snapshots.yml"),
]


def groups(definitions: dg.Definitions) -> dict[str, str]:
    nodes = definitions.resolve_asset_graph().asset_nodes
    return {node.key.to_user_string(): node.group_name for node in nodes}


@pytest.mark.parametrize("config", [{}, {"group_by": "dbt_group"}])
def test_dbt_group_takes_precedence_over_the_product(tmp_path: Path, config: Json) -> None:
    found = groups(build_definitions(dbt_shop(tmp_path, config, *NODES)))

    assert found.pop("own") == "finance"
    assert set(found.values()) == {"shop_orders"}


def test_group_is_the_product(tmp_path: Path) -> None:
    found = groups(build_definitions(dbt_shop(tmp_path, {"group_by": "product"}, *NODES)))

    assert set(found.values()) == {"shop_orders"}


def test_group_is_the_tier_or_else_the_product(tmp_path: Path) -> None:
    found = groups(build_definitions(dbt_shop(tmp_path, {"group_by": "tier"}, *NODES)))

    assert found.pop("stg") == "bronze"
    assert found.pop("mart") == "gold"
    assert set(found.values()) == {"shop_orders"}


def test_group_is_the_folder_or_else_the_product(tmp_path: Path) -> None:
    assert groups(build_definitions(dbt_shop(tmp_path, {"group_by": "folder"}, *NODES))) == {
        "raw": "shop_orders",
        "erp/orders": "staging",
        "stg": "staging",
        "mart": "shop_orders",
        "wide_v1": "marts",
        "wider_v2": "marts",
        "top_v1": "shop_orders",
        "own": "shop_orders",
        "deep": "core_data",
        "history": "shop_orders",
        "filed": "crm",
        "listed": "crm",
    }


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [("dbt_group", "shop_orders"), ("product", "shop_orders"), ("folder", "shop_orders"), ("tier", "gold")],
)
def test_product_without_a_dbt_project_has_tiers_only(group_by: str, expected: str) -> None:
    shop = product(model("a", quality_tier="gold"), model("b"), config={"group_by": group_by})

    assert groups(build_definitions(shop)) == {"a": expected, "b": "shop_orders"}


def test_a_group_in_meta_may_have_any_name(tmp_path: Path) -> None:
    odd = node("odd", meta={"dagster": {"group": "finance team-1"}})

    assert groups(build_definitions(dbt_shop(tmp_path, {}, odd)))["odd"].startswith("finance_team_1_")
