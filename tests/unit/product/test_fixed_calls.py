"""Calls that declare inputs and settings are fixed if they have constant arguments and do not depend on conditions."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment, TemplateError

from floe_orchestrator_dagster.product.fixed_calls import declares_nothing, has_fixed_calls


@pytest.mark.parametrize(
    "code",
    [
        "select 1",
        "{{ config(materialized='incremental', unique_key=['a', 'b'], n=-1, meta={'a': {'b': true}}) }}",
        "select * from {{ ref('a') }} where day >= '{{ var('day') }}'",
        "{% set a = ref('p', 'a', v=2) %} select * from {{ a.identifier }}",
        "{% if var('day') %} where x {% endif %} from {{ source('s', 'a') }}",
        "{% do log(ref('a')) %}{{ star(ref('a')) | upper }}",
        "{{ 'a' ~ ref('b') }}",
        "{# {% if x %}{{ ref(x) }}{% endif %} #} select 1",
        "select source, config from ref",
    ],
)
def test_fixed_calls(code: str) -> None:
    assert has_fixed_calls(code)


@pytest.mark.parametrize(
    "code",
    [
        "{% if var('day') %}{{ ref('a') }}{% endif %}",
        "{% if x %}{% else %}{{ source('s', 'a') }}{% endif %}",
        "{% for x in y %}{{ ref('a') }}{% endfor %}",
        "{% macro x() %}{{ ref('a') }}{% endmacro %}",
        "{% call x() %}{{ ref('a') }}{% endcall %}",
        "{{ ref('a') if x else ref('b') }}",
        "{{ x and ref('a') }}",
        "{{ ref('a') == 1 == ref('b') }}",
        "{{ ref('a' ~ var('day')) }}",
        "{{ ref(x) }}",
        "{{ ref(*x) }}",
        "{{ ref(**x) }}",
        "{{ ref('a', v=x) }}",
        "{{ config(alias=var('day')) }}",
        "{{ config(meta={'a': [x]}) }}",
        "{{ config.get('x') }}",
        "{{ a(config) }}",
        "{% call set_sql_header(config) %}x{% endcall %}",
        "{% set r = ref %}{{ r('a') }}",
        "{% for ref in [1] %}{% endfor %}",
        "{{ builtins.ref('a') }}",
        "{{ context['ref']('a') }}",
        "{{ x | attr('ref') }}",
        "{{ graph.nodes[var('day')] }}",
        "{{ render('x') }}",
        "{% include 'x' %}",
        "{% snapshot x %}{% endsnapshot %}",
        "{{ x[",
    ],
)
def test_calls_that_may_depend_on_values(code: str) -> None:
    assert not has_fixed_calls(code)


def test_template_declares_nothing() -> None:
    assert declares_nothing("{{ var('day') }} {{ this }}")
    assert not declares_nothing("{{ source('a', 'b') }}")
    assert not declares_nothing("{{ context['x'] }}")


# Templates that call `ref` and `config` in many ways; X is an expression, and T a template.
EXPRESSIONS = (
    *("'a'", "'b'", "ref('a')", "ref('b', v=1)", "ref(X)", "ref('a', X)", "var('day')", "var('day') == 'x'", "name"),
    *("config(n=X)", "config(n=[1, 'a'])", "X ~ X", "(X if X else X)", "(X and X)", "(X or X)", "not X", "[X, X][0]"),
    *("{'a': X}['a']", "X | upper", "call(X)", "call(other=X)", "ref", "call(ref)", "(ref)(X)", "builtins.ref(X)"),
    *("X == X == X", "X in [X]", "(X is defined)", "call(*[X])", "ref(*[X])", "builtins['ref'](X)"),
)
TEMPLATES = (
    *("{{ X }}", "{% if X %}T{% else %}T{% endif %}", "{% for name in [X, X] %}T{% endfor %}", "{% set name = X %}T"),
    *("{% set name %}T{% endset %}{{ name }}", "{% macro m() %}T{% endmacro %}{{ m() if X }}", "{% do X %}", "TT"),
    *("{% filter upper %}T{% endfilter %}", "{% call(x) call(X) %}T{% endcall %}", "{% with name = X %}T{% endwith %}"),
    *("{# {{ X }} #}", "{% set ref = call %}T", "{% raw %}{{ X }}{% endraw %}", "select 1"),
)


def template(random: Random, text: str, depth: int) -> str:
    """Fill a template at random."""
    while found := re.search("[XT]", text):
        options = (EXPRESSIONS if found[0] == "X" else TEMPLATES) if depth > 0 else ("'a'" if found[0] == "X" else "1",)
        depth -= 1
        text = text[: found.start()] + random.choice(options) + text[found.end() :]
    return text


def calls(code: str, day: str) -> list[str] | None:
    """Return what a template declares for a value of a variable; None if it cannot be rendered."""
    found: list[str] = []

    def declare(*arguments: object, **named: object) -> str:
        found.append(repr((arguments, named)))
        return "name"

    def call(*arguments: object, **_: object) -> object:
        return arguments[0] if arguments else "called"

    environment = Environment(extensions=["jinja2.ext.do"], autoescape=True)
    names = {"ref": declare, "config": declare, "call": call, "var": lambda _: day, "builtins": {"ref": declare}}
    try:
        environment.from_string(code).render(names, name="n")
    except (TemplateError, TypeError, LookupError):
        return None
    return sorted(set(found))


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_fixed_calls_are_the_same_for_all_values(random: Random) -> None:
    code = template(random, "T", 12)

    if has_fixed_calls(code):
        first, second = calls(code, "x"), calls(code, "")
        assert first == second or None in (first, second)


def test_random_templates_have_both_kinds_of_calls() -> None:
    codes = [template(Random(seed), "T", 12) for seed in range(2000)]  # noqa: S311  # not for secrets
    found = [(has_fixed_calls(code), calls(code, "x"), calls(code, "")) for code in codes]

    assert sum(is_fixed and bool(first) for is_fixed, first, _ in found) > 20
    differing = [(first, second) for is_fixed, first, second in found if not is_fixed and first != second]
    assert sum(None not in pair for pair in differing) > 100
