"""dbt variables that a model reads in its code, its configuration and the macros it calls."""

from __future__ import annotations

import pytest

from floe_orchestrator_dagster.product.variables import variables_read
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
