"""dbt variables that a model reads in its code, its configuration and the macros it calls."""

from __future__ import annotations

import time

import pytest

from floe_orchestrator_dagster.product.references import variables_read
from unit.samples import Json, manifest, node

MACROS: Json = {
    "macro.shop.window": {
        "macro_sql": "{% macro window() %}{{ bounds() }} {{ var('end_date') }}{% endmacro %}",
        "depends_on": {"macros": ["macro.shop.bounds"]},
    },
    "macro.shop.bounds": {
        "macro_sql": '{% macro bounds() %}{{ var( "start_date", none ) }}{% endmacro %}',
        "depends_on": {"macros": ["macro.shop.window", "macro.shop.gone"]},
    },
}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"raw_code": "select {{ var('start_date') }}, '{{ var(\"region\") }}'"}, ["region", "start_date"]),
        ({"raw_code": "select variance('a'), myvar('b') from var"}, []),
        ({"unrendered_config": {"post_hook": "delete where day = '{{ var('day') }}'"}}, ["day"]),
        ({"unrendered_config": {"post-hook": [{"sql": "{{\nvar('day') }}"}]}}, ["day"]),
        ({"unrendered_config": {"begin": '{{ var("day") }}'}}, ["day"]),
        ({"depends_on": {"nodes": [], "macros": ["macro.shop.window"]}}, ["end_date", "start_date"]),
        ({"depends_on": {"nodes": [], "macros": ["macro.shop.bounds"]}}, ["end_date", "start_date"]),
        ({"raw_code": "def model(dbt, session):\n    dbt.config.get('start_date')"}, ["start_date"]),
        ({"raw_code": ""}, []),
    ],
)
def test_variables_are_found_wherever_they_are_read(changes: Json, names: list[str]) -> None:
    found = variables_read(manifest(node("orders", **changes), macros=MACROS))

    assert found == ({"model.shop.orders": names} if names else {})


def test_macros_that_call_each_other_read_the_same_in_any_order() -> None:
    nodes = [node(name, depends_on={"nodes": [], "macros": [f"macro.shop.{name}"]}) for name in ("bounds", "window")]

    found = variables_read(manifest(*nodes, macros=MACROS))

    assert found == {f"model.shop.{name}": ["end_date", "start_date"] for name in ("bounds", "window")}


def test_a_macro_is_searched_once_for_all_models() -> None:
    code = "{% macro used() %}" + "select 1 -- var" * 2_000 + "{{ var('start_date') }}{% endmacro %}"
    called = [f"macro.shop.used_{row}" for row in range(300)]
    macros: Json = {name: {"macro_sql": code, "depends_on": {"macros": []}} for name in called}

    def seconds(models: int) -> float:
        nodes = [node(f"m{row}", depends_on={"nodes": [], "macros": called[row:]}) for row in range(models)]
        content = manifest(*nodes, macros=macros)
        started = time.process_time()
        assert len(variables_read(content)) == models
        return time.process_time() - started

    # Searching 300 macros for each of 50 models would take 50 times as long as for one.
    assert seconds(50) < 10 * seconds(1)


def test_variables_of_a_test_are_those_of_its_code_macros_and_arguments() -> None:
    arguments: Json = {"test_metadata": {"name": "since", "kwargs": {"since": "{{ var('day') }}"}}}
    of_macro: Json = {"depends_on": {"nodes": [], "macros": ["macro.shop.bounds"]}}
    tests = [
        node("arguments", "test", raw_code="{{ test_since(**_dbt_generic_test_kwargs) }}", **arguments),
        node("code", "test", raw_code="select 1 where '{{ var(\"region\") }}' = 'north'"),
        node("macro", "test", raw_code="{{ test_bounds() }}", **of_macro),
        node("none", "test", raw_code="{{ test_unique(**_dbt_generic_test_kwargs) }}"),
    ]

    found = variables_read(manifest(*tests, macros=MACROS))

    assert found == {
        "test.shop.arguments": ["day"],
        "test.shop.code": ["region"],
        "test.shop.macro": ["end_date", "start_date"],
    }
