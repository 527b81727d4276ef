"""Conversion of dbt's names to valid, distinct and stable Dagster names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe_orchestrator_dagster.assets.names import LONGEST_NAME, acceptable_group, acceptable_name
from floe_orchestrator_dagster.code_location import definitions_from_file
from unit.odd_products import singular_test, unit_test, write_product
from unit.samples import Json, node, source

if TYPE_CHECKING:
    from pathlib import Path

    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

ODD = ["a-b", "a_b", "größe", "x y", "type", "class", 'say "hi"', "a.b", "naïve"]


def graph(path: Path) -> AssetGraph:
    definitions = definitions_from_file(path)
    dg.Definitions.validate_loadable(definitions)
    return definitions.resolve_asset_graph()


def checks(path: Path) -> dict[str, dg.AssetCheckKey]:
    """Return the key of each test's check, by unique id."""
    found = graph(path)
    return {str(found.get(key).metadata["dagster_dbt/unique_id"]): key for key in found.asset_check_keys}


@given(st.text(min_size=1))
def test_any_text_becomes_an_acceptable_name(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_]+", acceptable_name(name))
    dg.AssetSpec("any", group_name=acceptable_group(name))


@given(st.lists(st.text(alphabet="ab-_ .ä", min_size=1), unique=True))
def test_different_texts_become_different_names(names: list[str]) -> None:
    assert len({acceptable_name(name) for name in names}) == len(names)


def test_an_acceptable_name_is_kept_and_a_long_one_is_cut() -> None:
    assert acceptable_name("not_null_orders_id") == "not_null_orders_id"
    assert len(acceptable_name("x" * 5000)) == LONGEST_NAME
    assert acceptable_name("x" * 5000) != acceptable_name("x" * 5001)


def test_models_keep_the_keys_that_dbt_gives_them(tmp_path: Path) -> None:
    path = write_product(tmp_path, *[node(name, description="") for name in ODD])

    found = graph(path)

    # A quotation mark cannot be written in an asset selection.
    [quoted] = [key for key in found.materializable_asset_keys if "say" in key.path[0]]
    assert found.materializable_asset_keys - {quoted} == {dg.AssetKey(name) for name in ODD if '"' not in name}
    assert re.fullmatch(r"say _hi_[0-9a-f]{6}", quoted.path[0])
    assert found.get(quoted).description == 'dbt model say "hi"'
    for key in found.materializable_asset_keys:
        selected = dg.AssetSelection.from_string(f'key:"{key.to_user_string()}"')
        assert selected.resolve(found) == {key}


def test_tests_keep_acceptable_names_and_show_the_others(tmp_path: Path) -> None:
    names = ["a-x", "a_x", "prüfe größe", "not_null_a-b_id"]
    path = write_product(
        tmp_path,
        node("a-b"),
        *[singular_test(name, "a-b") for name in names],
        unit_tests=[unit_test("a-is-one", "a-b"), unit_test("a-x", "a-b")],
    )

    found, assets = checks(path), graph(path)

    assert {key.asset_key for key in found.values()} == {dg.AssetKey("a-b")}
    assert len(set(found.values())) == len(names) + 2
    assert found["test.shop.a_x"].name == "a_x"
    assert re.fullmatch(r"a_x_[0-9a-f]{6}", found["test.shop.a-x"].name)
    assert re.fullmatch(r"a_is_one_[0-9a-f]{6}", found["unit_test.shop.a-b.a-is-one"].name)
    assert assets.get(found["test.shop.prüfe größe"]).description == "dbt test prüfe größe"


def test_a_new_node_does_not_rename_others(tmp_path: Path) -> None:
    few = [node("a-b"), singular_test("a-x", "a-b")]
    before = checks(write_product(tmp_path / "before", *few))

    more = [node("a_b"), node("a b"), singular_test("a_x", "a-b"), singular_test("a x", "a-b")]
    after = checks(write_product(tmp_path / "after", *more, *few))

    assert before.items() <= after.items()
    assert len(set(after.values())) == 3


def test_a_check_and_a_model_may_have_the_same_derived_name(tmp_path: Path) -> None:
    models = ["orders", "orders_summary", "orders_a", "a__b"]
    tests = [("summary", "orders"), ("a_b", "orders"), ("b", "orders_a")]
    path = write_product(
        tmp_path,
        *[node(name) for name in models],
        node("b", config={"materialized": "view", "enabled": True, "schema": "a"}),
        *[singular_test(name, of) for name, of in tests],
    )

    assert graph(path).materializable_asset_keys == {*map(dg.AssetKey, models), dg.AssetKey(["a", "b"])}
    assert {(key.name, key.asset_key.path[0]) for key in checks(path).values()} == set(tests)


def test_sources_with_unusual_names_are_read_and_tested(tmp_path: Path) -> None:
    names = ['"GROUP"', "GROUP", "größe", "a b", "a/b", "a-b", "a_b"]
    sources = [source("erp", name, freshness={"warn_after": {"count": 1, "period": "day"}}) for name in names]
    path = write_product(
        tmp_path,
        node("reader", depends_on={"nodes": [entry["unique_id"] for entry in sources], "macros": []}),
        *[singular_test(f"on-{row}", entry["unique_id"]) for row, entry in enumerate(sources)],
        sources=sources,
    )

    found = graph(path)

    parents = found.get(dg.AssetKey("reader")).parent_keys
    assert {dg.AssetKey(["erp", name]) for name in names if name not in {'"GROUP"', "a/b"}} < parents
    assert len(parents) == len(names)
    on_sources = [key for key in found.asset_check_keys if key.asset_key in parents]
    assert len(on_sources) == 2 * len(names)


@pytest.mark.parametrize("group", ["finance-team", "finance team", "Größe", "a/b-c"])
def test_a_group_with_an_unusual_name_is_shown_in_metadata(tmp_path: Path, group: str) -> None:
    config: Json = {"materialized": "view", "enabled": True}
    path = write_product(
        tmp_path,
        node("one", config={**config, "group": group}),
        node("two", config={**config, "group": "finance_team"}),
    )

    found = graph(path)

    one, two = found.get(dg.AssetKey("one")), found.get(dg.AssetKey("two"))
    assert two.group_name == "finance_team"
    assert one.group_name != two.group_name
    assert one.metadata["floe/dbt_group"] == group
    assert "floe/dbt_group" not in two.metadata
