"""Tables that SQL reads without ``ref`` and ``source``, in code as public projects write it."""

from __future__ import annotations

import pytest

from floe_orchestrator_dagster.product.unnamed_reads import UNCERTAIN, unnamed_read


@pytest.mark.parametrize(
    "code",
    [
        # Columns with the names of words of SQL.
        """select "from" as sender, coalesce("to", "order") as receiver from {{ ref('a') }} where "from" = "select" """,
        """select 1 from {{ ref('a') }} x join {{ ref('b') }} y on x."from" = y."join" and "from" in (1, 2)""",
        """select "group", "as" ("x") from {{ ref('a') }}, {{ ref('b') }} where "values" is not distinct from 1""",
        # Names with templates.
        "with {{ x }}_latest as (select 1) select * from {{ x }}_latest join {{ ref('a') }} using (id)",
        "with a_{{ x }} as (select 1), b{{ x }}c as (select 2) select * from a_{{ x }}, b{{ x }}c y",
        "select * from{{ ref('a') }}where x = 1",
        # Operators.
        "select * from {{ ref('a') }} pivot (sum(x) for y in ('a', 'b')) unpivot (x for y in (a, b))",
        # A union in brackets.
        "select * from ( {% for x in [1, 2] %} select {{ x }} {% if y %} union all {% endif %} {% endfor %} )",
        "select * from ({% if x %} select 1, 2 {% else %} with a as (select 1) select 2, 3 from a {% endif %}) y",
    ],
)
def test_code_that_reads_no_other_table(code: str) -> None:
    assert unnamed_read(code) is None


@pytest.mark.parametrize(
    ("code", "read"),
    [
        ("select * from {{ ref('a') }}_history", "{}_history"),
        ("select * from {{ ref('a') -}} _history", "{}_history"),
        ("select * from {{ ref('a') }}{{ suffix }}", "{}{{ suffix }}"),
        ("select * from raw_{{ x }}", "raw_{{ x }}"),
        ("with {{ x }}_a as (select 1) select * from {{ x }}_b", "{{ x }}_b"),
        ("select * from{{- x }}", "{{ x }}"),
        ("select * from (pivot raw.a on x)", UNCERTAIN),
        ("select * from (pivot (select * from raw.a) on x)", "pivot"),
        ("""select * from "from" """, '"from"'),
        ("""select * from {{ ref('a') }}, "order" """, '"order"'),
        ("select * from ({% for x in [1] %} select 1 from raw.a {% endfor %})", "raw.a"),
        ("select * from ({% if x %} select 1 {% else %} raw.a {% endif %})", "raw.a"),
        ("select * from ({% if x %} select 1 {% else %} {{ ref('a') }}, raw.b {% endif %})", "raw.b"),
        (
            "select 1 from ({% if x %} {{ this }} {% elif y %} select 1 {% else %} {{ this }} x, raw.b {% endif %})",
            "raw.b",
        ),
        ("select * from ({% if x %} select 1 {% endif %}) as y, raw.b", "raw.b"),
    ],
)
def test_code_that_reads_another_table(code: str, read: str) -> None:
    assert unnamed_read(code) == read
