"""Tables that SQL reads without ``ref()`` or ``source()``."""

from __future__ import annotations

import pytest

from floe_orchestrator_dagster.product.undeclared_tables import undeclared_tables


@pytest.mark.parametrize(
    ("code", "tables"),
    [
        ("select 1", []),
        ("select * from {{ ref('a') }} join {{ source('s', 't') }} on true", []),
        ("from {{ this }}", []),
        ("{% set a = ref('a') %} select * from {{ a }} as x", []),
        ("with s as (select * from {{ ref('a') }}), t(x) as materialized (select 1) select * from s, t as u", []),
        ('with "S" as (select 1) select * from s join "s" on true', []),
        ("with recursive r as (select 1 union all select * from r) select * from r", []),
        ("select * from generate_series(1, 2) as g, lateral unnest(g.x)", []),
        ("select 'from x' from {{ this }} -- from y\n/* join z */ {# from w #}", []),
        ("select extract(year from d), trim(both from x), a is not distinct from b from {{ ref('a') }}", []),
        ("select a, b from {{ ref('a') }} where c in (d, e) group by f, g", []),
        ("from orders", ["orders"]),
        ("select * from {{ ref('a') }} a, raw.orders o", ["raw.orders"]),
        ("select a from (select b from x.y) q, z left join (w) on true", ["w", "x.y", "z"]),
        ("select * from ((a join b on true) join c on true)", ["a", "b", "c"]),
        ("select a, (select max(b) from c), d from e", ["c", "e"]),
        ("select * from {% if x %}{{ ref('a') }}{% else %}b{% endif %}", ["b"]),
        ("select * from {% if x %}c{% elif y %}{{ ref('a') }}{% else %}b{% endif %} as d", ["b", "c"]),
        ("select * from {{ ref('a') }} {% if x %} join b on true {% endif %} where e", ["b"]),
        ('select * from `p.d.t` join "S"."T" using (id)', ['"S"."T"', "`p.d.t`"]),
        ("select * from {{ target.schema }}.orders", ["{{…}}.orders"]),
        ("select * from db.{{ var('schema') }}.orders", ["db.{{…}}.orders"]),
        ("delete from {{ this }} where x in (select id from gone)", ["gone"]),
        ("select * from{{ ref('a') }} join {{ x }}_orders on true", ["{{…}}_orders"]),
        ("select * from ({% for x in y %}{{ ref(x) }}{% endfor %})", []),
        ("select * from lateral (select * from t) l", ["t"]),
    ],
)
def test_tables_without_a_declaration_are_found(code: str, tables: list[str]) -> None:
    assert sorted(undeclared_tables(code)) == tables
