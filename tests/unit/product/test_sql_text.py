"""Comments and whitespace of dbt models that mean nothing."""

from __future__ import annotations

import jinja2
import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot.errors import TokenError

from floe_orchestrator_dagster.product.sql_text import significant_sql

DIALECTS = ("duckdb", "postgres", "snowflake", "bigquery", "mysql", "spark")
PIECES = [
    *("a", "b1", "[", "]", ",", "(", ")", "-", "/", "*", "#", "$", "\\", ";", "1", "{", "}"),
    *("'a  b'", '"a  b"', "`a  b`", "'", '"', "`", "''", "$$", "'''", "/*", "*/", "--", "//"),
    *("-- c\n", "--c\n", "/* c */", "/*+ c */", "/*c*/", "# c\n", "// c\n", "-- it's\r", "{# c #}", "{#- c -#}"),
    *(
        "{% for x in ['c', 'd'] %}",
        "{%- for x in y -%}",
        "{% endfor %}",
        "{% set y = ['e', \"f\"] %}",
        "{% set x = 'g' -%}",
    ),
    *("{{ x }}", "'{{ x }}  a'", "{{- x }}", "{{ y }}"),
    *("{{ ref('t') }}", "{{ this }}", "{{- this -}}", "{% if x %}", "{%- else -%}", "{% endif %}"),
    *(" ", "  ", "\n", "\t", "\r", "\r\n"),
]


@pytest.mark.parametrize(
    ("code", "significant"),
    [
        ("select  1 -- one\n, 2\n", "select 1 , 2"),
        ("select 'it''s'   x /* c */ from {{ ref('t') }}", "select 'it''s' x from {{ ref('t') }}"),
        ("{{ config(materialized='table') }}\n\nselect 1", "{{ config(materialized='table') }} select 1"),
        ("{# of {{ ref('t') }} #}\nselect \"a  b\"", 'select "a  b"'),
        ("select 1\n{% if is_incremental() %}\nwhere x\n{% endif %}", None),
    ],
)
def test_comments_and_whitespace_are_left_out(code: str, significant: str | None) -> None:
    assert significant_sql(code) == (significant or " ".join(code.split()))


def test_space_that_is_not_ascii_is_part_of_the_code() -> None:
    assert significant_sql("select 1 as a\u00a0 -- c") == "select 1 as a\u00a0"


@pytest.mark.parametrize(
    "code",
    [
        "{{ config(materialized='table', meta=dict(a='(b)'), tags=['c']) }}  select 1",
        "select {% if x %} 'a' {% else %} 'b' {% endif %}  as c",
    ],
)
def test_calls_of_config_and_branches_with_strings_are_plain(code: str) -> None:
    assert significant_sql(code) == " ".join(code.split())


def test_comments_between_loops_over_words_are_left_out() -> None:
    code = """
        {% set methods = ['credit_card', "gift card"] %}
        select
            order_id, -- COMMENT
            {% for method in methods -%}
            sum(case when method = '{{ method }}' then amount end) as {{ method }}_amount,  -- COMMENT
            {% endfor -%}
            -- COMMENT
            sum(amount) as amount
        from {{ ref('payments') }}
        """

    assert significant_sql(code) == significant_sql(code.replace("COMMENT", "another one"))
    assert significant_sql(code) != significant_sql(code.replace("credit", "debit"))
    assert significant_sql(code) != significant_sql(code.replace("'{{ method }}'", "' {{ method }}'"))


@pytest.mark.parametrize(
    "code",
    [
        "select {{ quoted('a') }}  b",  # a macro can open a string
        "{% set text %}a  b{% endset %}select '{{ text }}'",
        "{% for x in y %}  {{ x }}{% endfor %}",
        "select '{{ this }}  a'",
        "select $$a  b$$",
        "select 'a\\'  b'",
        "select 1 # a\n, 2",
        "select 1 // a\n, 2",
        "select 5--1\n, 2",
        "select 5 --- 1\n, 2",
        "select 5 //* 1 */  2",
        "select 1 -- a\r, 2",
        "select /*+ hint */  1",
        "/* a /* b */ c */  d",
        "select 1 -- {{ ref('t') }}\n, 2",
        "select 1 -- a\n{%- if x -%}, 2{% endif %}",
        "select '''it's  b'''",
        "select 5 -{% if x %}- 1\n, 2{% endif %}",
        "select [a  b]",
        "select 1 /*M!50101 , 2 */  , 3",
        "select q'[it's  a]', q'[it's  b]'",
        "{% for x in ways %}'{{ x }}' -- a\n{% endfor %}",  # the values are not in the code
        "{% set x = \"it's\" %}'{{ x }}' -- a\n",
        "{% for x in ['a'] %}{% endfor %}'{{ x }}' -- a\n",
        "{% set ways = ['a'] %}{% if ways.append(other) %}{% endif %}{% for x in ways %}'{{ x }}' -- a\n{% endfor %}",
        "select '{{ x }}' {% if a %}{% set x = 'b' %}{% endif %} -- a\n",
        "{% for x in ['q'] %}{{ x }}'[it's  a]' -- a\n{% endfor %}",
        "{% set x = ['a', 'b'] %}'{{ x }}' -- a\n",
        "{% for x in ['a'] -%} /* c */ {{ x }}{% endfor %}",
        "a{% if x -%} /* c */ b {% endif %}",
        "{% set x = 'a' %} {{ x -}} {% if x -%} /* c */ b {% endif %}",
        "{% for x in ['a'] %}1 -- c\n{%- endfor %}",
        "{% for x in ['a'] %}1 {# c #} {{- x }}{% endfor %}",
        "{% for x in ['a'] %}5 - {%- endfor %}",
        "select 1 -- a \\\n, 2",  # Spark continues the comment
        "select 1 -- a \\\r\n, 2",
        "select 1 /*T! + 1 */  , 2",  # TiDB executes it
        "select 1 /*T![auto_rand] + 1 */  , 2",
        "select 5 --\u00a03",
        "select 1 -- a\u2028, 2",
        "{% if a == '%} ' %} 'a  b ' as c -- '\n from t {% endif %}",
        "{% if a == \"'\" ~ '%} ' %} 'a  b ' as c -- '\n from t {% endif %}",
        "{{ config(d=')}} ') }} select 'a  b ' as c -- '\n from t",
        "{% set w = ['a'] %}{% if 'b\\'' ~ w.append(o) ~ '\\'c' %}{% endif %}{% for x in w %}  {{ x }}{% endfor %}",
        "{% set x = 'q' %}select {{ x -}} '(it's  a)', q'(it 's  b)' from dual",
        "select q{% if true -%} '(it's  a)', q'(it 's  b)' {% endif %} from dual",
        "{% set x = '' %}select '' {{- x -}} ' c '  d  ' e ' {{- x -}} '' from t",
        "{% set x = '' %}select '{{ x }}'' b  c'",
        "{% if a %}{% set dict = 'a' %}{% endif %}select {{ dict }}  from t",
        "select a\u00a0{% if true -%} -- c\n b{% endif %}",
        "select {{ config(a=1) or quoted('a') }}  b",
        "select {{ config(a=1) ~ config.get('a') }}  b",
        "select 'a'\n'b'",
        "select 'a' -- c\n 'b'",
        "select 'a' {% if x %}\n'b'{% endif %}",
    ],
)
def test_code_with_another_meaning_somewhere_stays_as_it_is(code: str) -> None:
    assert significant_sql(code) == code


@given(st.lists(st.sampled_from(PIECES), max_size=14), st.data())
def test_code_of_different_tokens_is_never_taken_for_the_same(pieces: list[str], data: st.DataObject) -> None:
    other = list(pieces)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(other)))
        other[place : place + data.draw(st.integers(0, 2))] = data.draw(st.lists(st.sampled_from(PIECES), max_size=2))
    one, two = "".join(pieces), "".join(other)
    if significant_sql(one) == significant_sql(two):
        assert _tokens(one) == _tokens(two)


def _tokens(code: str) -> list[object]:
    """Split what Jinja leaves of the code into the tokens of each dialect."""
    return [_tokens_in(dialect, _rendered(code, **names)) for names in ({}, {"x": 1}) for dialect in DIALECTS]


def _tokens_in(dialect: str, code: str) -> list[tuple[object, str]] | None:
    """Return kind and text of each token; None for code that the dialect does not accept."""
    try:
        return [(token.token_type, token.text) for token in sqlglot.tokenize(code, dialect=dialect)]
    except TokenError:
        return None


def _rendered(code: str, **names: int) -> str:
    """Render code in which `this` and every `ref` are a table named t."""

    class Table:
        def __str__(self) -> str:
            return "t"

    try:
        return jinja2.Template(code).render(ref=lambda _: "t", this=Table(), **names)
    except jinja2.TemplateError:
        return code


@pytest.mark.parametrize(
    "code",
    [
        "{{ config(enabled=var('on', true) | as_bool) }}{% set t = 'x' %}select '{{ t }}' as c",
        "{% set t = 'x' %}select '{{ t }}', {{ 1 | unknown }}",
        "{% set t = 'x' %}{% set loop = 1 %}{% for y in z %}{{ loop.index }}{% set loop = 1 %}{% endfor %}'{{ t }}'",
        "{% set t = 'x' %}select '{{ t }}', {{ t" + ".replace('a', 'b')" * 500 + " }}",
        "{% set t = 'x' %}select '{{ t }}', {{ 1" + " + 1" * 3000 + " }}",
    ],
)
def test_templates_that_jinja_cannot_analyse_stay_as_they_are(code: str) -> None:
    assert significant_sql(f"{code} -- a").startswith("{")
