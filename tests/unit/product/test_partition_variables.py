"""Nodes whose inputs, names or settings may depend on the variables of a partition."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from floe_orchestrator_dagster.product import load_product
from floe_orchestrator_dagster.product.partition_variables import varying_nodes
from unit.odd_products import reads, write_product
from unit.samples import Json, node, write_json

if TYPE_CHECKING:
    from pathlib import Path

DAY = frozenset({"day"})
CHOOSING = "{% if var('day') %}select * from {{ ref('a') }}{% endif %}"
VARYING = "its inputs or settings may depend on the variables of a partition"


def varying(
    directory: Path, *nodes: Json, names: frozenset[str] = DAY, disabled: object = None, **files: str
) -> dict[str, str]:
    """Return the reasons of a product's nodes, by name."""
    product = load_product(write_product(directory, *nodes, disabled=disabled or {}))
    for name, text in files.items():
        (directory / f"{name}.yml").write_text(text, encoding="utf-8")
    assert product.dbt is not None
    found = varying_nodes(product.dbt.manifest, product.dbt.on(""), names)
    return {unique_id.rpartition(".")[2]: why for unique_id, why in found.items()}


def test_model_that_chooses_its_inputs_and_its_readers(tmp_path: Path) -> None:
    nodes = [
        node("chooses", raw_code=CHOOSING),
        node("reads", **reads("model.shop.chooses")),
        node("inlined", config={"materialized": "ephemeral", "enabled": True}, **reads("model.shop.chooses")),
        node("reads_inlined", **reads("model.shop.inlined")),
        node("reads_reader", **reads("model.shop.reads")),
    ]
    of_reader = "inputs or settings of chooses may depend on the variables of a partition"

    assert varying(tmp_path / "a", *nodes) == {
        "chooses": VARYING,
        "reads": of_reader,
        "inlined": of_reader,
        "reads_inlined": of_reader,
    }
    assert varying(tmp_path / "b", *nodes, names=frozenset({"month"})) == {}
    assert varying(tmp_path / "c", *nodes, names=frozenset()) == {}


def test_name_of_a_variable_that_is_computed(tmp_path: Path) -> None:
    computed = node("m", raw_code="{% if var(x) %}{{ ref('a') }}{% endif %}")
    fixed = node("f", raw_code="select '{{ var(x) }}'")

    assert varying(tmp_path, computed, fixed) == {"m": VARYING}


@pytest.mark.parametrize(
    ("text", "is_varying"),
    [
        ("\n# no variable\n", False),
        ("models: [{name: m, config: {alias: \"{{ var('month') }}\"}}]\n", False),
        ("models: [{name: m, config: {alias: \"{{ var('day') }}\"}}]\n", True),
        ('models: [{name: m, config: {alias: "{{ var(x) }}"}}]\n', True),
        ("models: [{name: m, data_tests: [{unique: {where: \"day = '{{ var('day') }}'\"}}]}]\n", False),
        ("models: [{name: m, columns: [{name: c, tests: [{x: \"{{ var('day') }}\"}]}]}]\n", False),
        ("models: {tests: {x: \"{{ var('day') }}\"}}\n", True),
        ("models: [{{ var('day') }}\n", True),
    ],
)
def test_settings_in_a_file(tmp_path: Path, text: str, *, is_varying: bool) -> None:
    nodes = [node("m", patch_path="shop://m.yml"), node("other")]
    why = "settings in m.yml may depend on the variables of a partition"

    assert varying(tmp_path, *nodes, m=text) == (dict.fromkeys(("m", "other"), why) if is_varying else {})


def test_settings_in_the_project_file(tmp_path: Path) -> None:
    text = "\nmodels: {+enabled: \"{{ var('day') }}\"}\n"

    assert varying(tmp_path, node("m"), dbt_project=text) == {
        "m": "settings in dbt_project.yml may depend on the variables of a partition"
    }


def test_disabled_model_that_may_take_the_place_of_another_one(tmp_path: Path) -> None:
    nodes = [node("m"), node("reads", **reads("model.shop.m")), node("other")]
    enabled, never = "{{ config(enabled=var('day') == 'x') }} select 1", "{{ config(enabled=false) }} select 1"
    of_reader = "inputs or settings of m may depend on the variables of a partition"

    def found(name: str, **fields: str) -> dict[str, str]:
        entry = {**node("m", **fields), "unique_id": "model.package.m"}
        settings = {"m": "models: [{name: m, config: {enabled: \"{{ var('day') == 'x' }}\"}}]"}
        files: dict[str, Any] = settings if "patch_path" in fields else {}
        return varying(tmp_path / name, *nodes, disabled={"model.package.m": [entry]}, **files)

    assert found("a", raw_code=enabled) == {"m": VARYING, "reads": of_reader}
    assert found("b", raw_code=never) == {}
    assert found("c", raw_code=never, patch_path="package://m.yml").keys() == {"m", "reads", "other"}


def test_profile_that_depends_on_the_partition(tmp_path: Path) -> None:
    path = write_product(tmp_path, node("m"))
    content = json.loads(path.read_text())
    dev = {"type": "duckdb", "path": "shop.duckdb", "schema": "{{ var('day') }}"}
    write_json(path, {**content, "dbt_profiles": {"shop_orders": {"target": "dev", "outputs": {"dev": dev}}}})
    dbt = load_product(path).dbt
    assert dbt is not None
    found = varying_nodes(dbt.manifest, dbt.on(""), DAY)
    assert found == {"model.shop.m": "the profile may depend on the variables of a partition"}
