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
        "select * from {% if x %}{{ ref('a') }}{% else %}{{ ref('b') }}{% endif %} where x{% if y %} z{% endif %}",
        "select {% for x in y %}{{ x }} a_{{ x }}{% if not loop.last %}, {% endif %}{% endfor %} from {{ ref('a') }}",
        "select 1 from {% for t in [ref('a'), ref('b')] %}{{ t }}{% if not loop.last %}, {% endif %}{% endfor %} where",
        "select * from {{ ref('a') }} {% if x %} where y {% else %} order by z {% endif %}",
        "select 'https://x.y' // 2 as url from {{ ref('a') }}",
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
        # Text behind a table, in a template.
        ("select * from {{ ref('a') }}{% if x %}_sample{% endif %}", UNCERTAIN),
        ("select * from {{ ref('a') }}{% if x %} y {% else %}_sample{% endif %}", UNCERTAIN),
        ("select * from {{ ref('a') }}{# x #}_sample", "{}_sample"),
        ("select * from {{ ref('a') }}{% set x = 1 %}_sample", "{}_sample"),
        ("select * from {% if a %}{{ ref('a') }}{% else %}{{ ref('b') }} y{% endif %}_hist", UNCERTAIN),
        ("{% set t = ref('a') %}select * from {{ t }}{% for s in ['_x'] %}{{ s }}{% endfor %}", UNCERTAIN),
        # Names of common table expressions that change.
        ("{% set x = 'a' %}with {{ x }}_t as (select 1) {% set x = 'b' %} select * from {{ x }}_t", "{{ x }}_t"),
        (
            "with {% for x in y %}{{ x }}_t as (select 1){% endfor %} from {% for x in z %}{{ x }}_t{% endfor %}",
            "{{ x }}_t",
        ),
        (
            "{% for x in y %}with {{ loop.index }}_t as (select 1) select * from {{ loop.index }}_t{% endfor %}",
            "{{ loop.index }}_t",
        ),
        ("with {{\n ns.x }}_t as (select 1) select * from {{\n ns.x }}_t", "{{\n ns.x }}_t"),
        # Changed text.
        ("{% filter replace('stg_','raw_') %}select * from {{ ref('stg_a') }}{% endfilter %}", UNCERTAIN),
        ("select * from {{ latest(ref('a')) | replace('prod', 'dev') }}", UNCERTAIN),
        # Branches.
        ("select * from {% if x %} {{ ref('a') }} {% endif %} {% if not x %} raw.x {% endif %}", "raw.x"),
        ("select * from ({% if x %} select 1 as id {% endif %} {% if not x %} raw.x {% endif %})", "raw.x"),
        ("from {{ ref('a') }} a {% if x %} where a.b {% else %} , raw.x b {% endif %}", "raw.x"),
        ("select * from\n-- {% if x %}\n{{ ref('a') }}\n-- {% else %}\nraw.x\n-- {% endif %}", UNCERTAIN),
        ("select * from {% if x %} ( {% endif %} {{ ref('a') }}", UNCERTAIN),
        # Parts of queries that templates print.
        ("select * from values (1), (2) as t(id), raw.b", "2"),
        ("{% set head %}select * from{% endset %} select 'z' union all {{ head }} raw.x", UNCERTAIN),
        ("{% macro base() %}select id from{% endmacro %}", UNCERTAIN),
        ("{% set src = 'from ' ~ 'raw' ~ '.x' %}select * {{ src }}", UNCERTAIN),
        ("select * from {{ ref('a') }} {{ ', raw.x' if x }}", UNCERTAIN),
        ("pivot (raw.b join {{ ref('a') }} b on true) on k using count(*)", UNCERTAIN),
        ("// don't\nselect * from raw.x\n// won't\nwhere true", UNCERTAIN),
        ("select * from (pivot raw.a on x)", UNCERTAIN),
        ("select * from (pivot (select * from raw.a) on x)", UNCERTAIN),
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
