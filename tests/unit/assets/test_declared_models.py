"""Models of packages with the same name as a declared model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.code_location import definitions_from_file
from unit.odd_products import singular_test, write_product
from unit.samples import Json, model, node

if TYPE_CHECKING:
    from pathlib import Path


def people(package: str, **fields: object) -> Json:
    config: Json = {"materialized": "view", "enabled": True, **({} if package == "shop" else {"schema": package})}
    unique_id = f"model.{package}.people"
    return node(
        "people", "model", unique_id=unique_id, package_name=package, fqn=[package, "people"], config=config, **fields
    )


def not_null(package: str) -> Json:
    """Return the test as dbt parses it: its ``ref`` is resolved from the project, also in a package."""
    test = singular_test("not_null_people_id", "model.shop.people", package_name=package, column_name="id")
    return {
        **test,
        "unique_id": f"test.{package}.not_null_people_id",
        "attached_node": f"model.{package}.people",
        "test_metadata": {"name": "not_null", "kwargs": {"column_name": "id"}},
    }


def test_a_tier_marks_the_model_of_the_project_itself(tmp_path: Path) -> None:
    declared = model("people", quality_tier="gold")
    path = write_product(tmp_path, *map(people, ["shop", "hr", "finance"]), models=[declared])

    graph = definitions_from_file(path).resolve_asset_graph()

    tiers = {key.to_user_string(): graph.get(key).tags.get("floe/tier") for key in graph.materializable_asset_keys}
    assert tiers == {"people": "gold", "hr/people": None, "finance/people": None}


def test_a_tier_marks_the_model_of_a_package_that_the_project_does_not_have(tmp_path: Path) -> None:
    path = write_product(tmp_path, people("hr"), node("own"), models=[model("people", quality_tier="gold")])

    graph = definitions_from_file(path).resolve_asset_graph()

    assert graph.get(dg.AssetKey(["hr", "people"])).tags["floe/tier"] == "gold"


def test_each_test_is_a_check_of_the_model_of_its_own_package(tmp_path: Path) -> None:
    check: dict[str, Any] = {"name": "pid", "type": "not_null", "column": "id", "dimension": "completeness"}
    packages = ["shop", "hr", "finance"]
    declared = model("people", quality_checks=[{**check, "severity": "critical"}])
    path = write_product(tmp_path, *map(people, packages), *map(not_null, packages), models=[declared])

    graph = definitions_from_file(path).resolve_asset_graph()

    keys = {key.to_user_string() for key in graph.asset_check_keys}
    assert keys == {f"{asset}:not_null_people_id" for asset in ("people", "hr/people", "finance/people")}
    named = [key for key in graph.asset_check_keys if "floe/quality_check" in graph.get(key).metadata]
    assert [key.asset_key.to_user_string() for key in named] == ["people"]
