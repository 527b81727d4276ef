"""Tables of ``ref`` and ``source`` that a template reads through a name."""
# ruff: noqa: S608  # SQL of templates that are not run

from __future__ import annotations

import pytest

from floe_orchestrator_dagster.product.unnamed_reads import unnamed_read

LIST = "{% set tables = [ref('a'), source('s', 'b'), ref('p', 'c', v=2)] %}"
LOOP = "{% for table in tables %}select id from {{ table }} {% if not loop.last %}union{% endif %} {% endfor %}"


@pytest.mark.parametrize(
    "code",
    [
        LIST + LOOP,
        "with combined as (\n{%- set tables = [\n ref('a'),\n ref('b')\n] -%}\n" + LOOP + ") select id from combined",
        "{% for t in [ref('a')] %} select 1 from {{ t }} as x join {{- t -}} as y using (id) {% endfor %}",
        "{% for t in (ref('a'), ref('b')) %} select 1 from {{ t }} {% endfor %}",
        "{%- set orders = ref('a') -%} select id from {{ orders }} join {{ ref('b') }} using (id)",
        LIST + LOOP + "{% for other in tables %} select 2 from {{ other }} {% endfor %}",
        LIST + "{% set limit = 5 %}" + LOOP + " limit {{ limit }}",
    ],
)
def test_name_that_always_holds_a_table_is_known(code: str) -> None:
    assert unnamed_read(code) is None


@pytest.mark.parametrize(
    "code",
    [
        "select id from {{ table }}",
        "{% set t = 'raw.x' %} select * from {{ t }}",
        "{% set t = ref('a') %}{% set t = 'raw.x' %} select * from {{ t }}",
        "{% set t = ref('a') %}{% set t %}raw.x{% endset %} select * from {{ t }}",
        "{% set t = ref(var('x')) %} select * from {{ t }}",
        "{% set t = ref(*names) %} select * from {{ t }}",
        "{% set t = ref('a') ~ '_x' %} select * from {{ t }}",
        "{% set t, u = ref('a'), 'raw.x' %} select * from {{ t }}",
        "{% set ns = namespace() %}{% set ns.t = 'raw.x' %}{% set t = ns.t %} select * from {{ t }}",
        "{% if execute %}{% set t = ref('a') %}{% endif %} select * from {{ t }}",
        "{% for t in [ref('a')] %} {% endfor %} select * from {{ t }}",
        "{% for t in [ref('a'), 'raw.x'] %} select * from {{ t }} {% endfor %}",
        "{% for t in [] %} select * from {{ t }} {% endfor %}",
        "{% for t in [ref('a')] recursive %} select * from {{ t }} {{ loop(['raw.x']) }} {% endfor %}",
        LIST + "{% do tables.append('raw.x') %}" + LOOP,
        LIST + "{% set same = tables %}{% do same.append('raw.x') %}" + LOOP,
        LIST + "{% set tables = ['raw.x'] %}" + LOOP,
        LIST + "{{ extended(tables) }}" + LOOP,
        "{% set ref = other %}" + LIST + LOOP,
        "{% macro m(t) %} select * from {{ t }} {% endmacro %}{% for t in [ref('a')] %} {{ m('raw.x') }} {% endfor %}",
        "{% with t = 'raw.x' %} select * from {{ t }} {% endwith %}{% for t in [ref('a')] %}{% endfor %}",
        "{% import 'x' as t %}{% for t in [ref('a')] %} select * from {{ t }} {% endfor %}",
        "{% snapshot s %}{% set t = ref('a') %} select * from {{ t }} {% endsnapshot %}",
        LIST + LOOP + "{% for",
    ],
)
def test_name_that_may_hold_something_else_is_not_known(code: str) -> None:
    assert unnamed_read(code) is not None
