"""Nodes whose rows can change without a change of their code and inputs are always built."""

from __future__ import annotations

import time
from typing import Any

import pytest

from floe_orchestrator_dagster.product.build_traits import build_traits
from floe_orchestrator_dagster.product.unnamed_reads import UNCERTAIN, unnamed_read


def manifest(code: str, macros: dict[str, str] | None = None, **fields: object) -> dict[str, Any]:
    node = {
        "resource_type": "model",
        "raw_code": code,
        "language": "sql",
        "config": {"materialized": "table"},
        "depends_on": {"nodes": [], "macros": []},
        **fields,
    }
    called = {
        f"macro.shop.{name}": {"name": name, "package_name": "shop", "macro_sql": text, "depends_on": {"macros": []}}
        for name, text in (macros or {}).items()
    }
    of_dbt = {
        "macro.dbt.date_spine": {
            "name": "date_spine",
            "package_name": "dbt",
            "macro_sql": "{% macro date_spine() %}{{ intervals() }}{% endmacro %}",
            "depends_on": {"macros": ["macro.dbt.intervals"]},
        },
        "macro.dbt.intervals": {
            "name": "intervals",
            "package_name": "dbt",
            "macro_sql": "{% macro intervals() %}{% do run_query('x') %}{% endmacro %}",
            "depends_on": {"macros": []},
        },
        "macro.dbt.concat": {
            "name": "concat",
            "package_name": "dbt",
            "macro_sql": "{% macro concat() %}||{% endmacro %}",
        },
        "macro.dbt.date": {
            "name": "date",
            "package_name": "dbt",
            "macro_sql": "{% macro date(year) %}{{ adapter.dispatch('date', 'dbt')(year) }}{% endmacro %}",
            "depends_on": {"macros": ["macro.dbt.default__date"]},
        },
        "macro.dbt.default__date": {
            "name": "default__date",
            "package_name": "dbt",
            "macro_sql": "{% macro default__date(year) %}{{ modules.datetime.date(year, 1, 1) }}{% endmacro %}",
        },
        "macro.dbt.generate_schema_name": {
            "name": "generate_schema_name",
            "package_name": "dbt",
            "macro_sql": "{% macro generate_schema_name() %}{{ target.schema }}{% endmacro %}",
        },
    }
    return {
        "metadata": {"adapter_type": "duckdb"},
        "nodes": {"model.shop.m": node},
        "sources": {},
        "macros": {**called, **of_dbt},
        "unit_tests": {},
    }


def reason(code: str, macros: dict[str, str] | None = None, **fields: object) -> str | None:
    return build_traits(manifest(code, macros, **fields)).always.get("model.shop.m")


@pytest.mark.parametrize(
    "code",
    [
        "select * from {{ ref('a') }}",
        "select * from {{ source('a', 'b') }} as x join {{ ref('c', v=1) }} using (id)",
        "with a as (select 1), b(x) as (select 2) select * from a, b left join a as c on a.id = c.id",
        "select extract(year from day), trim(both ' ' from name), x is distinct from y from {{ ref('a') }}",
        "select * from (select 1 as id) as x, unnest([1, 2]) as y where 'from here' = 'x'",
        "-- copied from the shop\n/* join nothing */ {# from raw.x #} select 1",
        "select {{ dbt.concat(['a', 'b']) }}, runtime from {{ ref('a') }}",
        "select {{ dbt.date(2024) }} from {{ ref('a') }}",
        "select {{ in_years(field='day', type='date') }} from {{ ref('a') }}",
        "{{ config(materialized='table') }} select '{{ target.name }}' as target",
        "{% for x in [1, 2] %} select {{ x }} {% if not loop.last %} union all {% endif %} {% endfor %}",
        "",
    ],
)
def test_plain_model_can_be_reused(code: str) -> None:
    assert reason(code) is None


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("{% set x = run_query('select 1') %} select 1", "its code uses run_query"),
        ("{% call statement('x') %} select 1 {% endcall %} select 1", "its code uses statement"),
        ("{% if execute %} select 1 {% endif %}", "its code uses execute"),
        ("select '{{ invocation_id }}'", "its code uses invocation_id"),
        ("select '{{ run_started_at }}'", "its code uses run_started_at"),
        ("select '{{ modules.datetime.date.min }}'", "its code uses modules"),
        ("select {{ adapter.get_columns_in_relation(ref('a')) }}", "its code uses adapter"),
        ("select {{ context['var']('x') }}", "its code uses context"),
        ("select {{ [1, 2] | random }}", "its code uses random"),
        ("select * from ({{ date_spine('day') }})", "its code uses date_spine"),
        ("select * from ({{ dbt.date_spine('day') }})", "its code uses date_spine"),
        ("""select {{ "}}" ~ run_query('x') }}""", "its code uses run_query"),
        ("select current_date", "its code uses current_date"),
        ("select NOW( ) as t", "its code uses now"),
        ("select random()", "its code uses random"),
        ("select age(birthday) from {{ ref('a') }}", "its code uses age"),
        ("select * from read_csv('x.csv')", "its code uses read_csv"),
        ("select date 'now'", "its code uses 'now'"),
        ("select * from {{ this }}", "its code uses this"),
        ("select * from raw.orders", "its code reads raw.orders, which is neither a ref nor a source"),
        ("select * from {{ ref('a') }}, raw.b", "its code reads raw.b, which is neither a ref nor a source"),
        ("select * from 'x.csv'", "its code reads '', which is neither a ref nor a source"),
        ("select (select max(id) from other)", "its code reads other, which is neither a ref nor a source"),
        ("select * from {{ 'raw' }}.orders", "its code reads {{ 'raw' }}, which is neither a ref nor a source"),
        ("{% set t = 'raw.x' %} select * from {{ t }}", "which is neither a ref nor a source"),
        ("with a as (select * from b) select * from a", "its code reads b, which is neither a ref nor a source"),
        ("select 'it\\'s' from {{ ref('a') }}", "code that cannot be read with certainty"),
        ("select $$ from x $$", "code that cannot be read with certainty"),
        ("select 1 # don't from x", "code that cannot be read with certainty"),
    ],
)
def test_model_with_varying_rows_is_always_built(code: str, why: str) -> None:
    assert why in str(reason(code))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"language": "python"}, "it is a Python model"),
        ({"resource_type": "snapshot", "config": {"materialized": "snapshot"}}, "it is a snapshot"),
        ({"config": {"materialized": "materialized_view"}}, "its materialization is materialized_view"),
        ({"config": {"materialized": "table", "post-hook": [{"sql": "grant x"}]}}, "it has hooks"),
        ({"config": {"materialized": "incremental", "incremental_strategy": "microbatch"}}, "depend on the time"),
        ({"unrendered_config": {"schema": "{{ run_query('X') }}"}}, "its code uses run_query"),
    ],
)
def test_node_of_a_kind_that_is_always_built(fields: dict[str, Any], why: str) -> None:
    assert why in str(reason("select 1", **fields))


def test_only_microbatch_models_depend_on_the_time_of_a_run() -> None:
    assert reason("select 1", config={"materialized": "table", "event_time": "day"}) is None


REUSABLE = {"materialized": "table", "meta": {"dagster": {"reuse": True}}}


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("{% set x = run_query('select 1') %} select current_date", {"config": REUSABLE}),
        ("def model(dbt, session): ...", {"language": "python", "config": REUSABLE}),
        ("select 1", {"config": {**REUSABLE, "materialized": "materialized_view"}}),
        ("select 1", {"config": {**REUSABLE, "post-hook": [{"sql": "grant x"}]}}),
    ],
)
def test_model_can_declare_that_it_is_reusable(code: str, fields: dict[str, Any]) -> None:
    assert reason(code, **fields) is None
    other = {**fields, "config": {**fields["config"], "meta": {"dagster": {"reuse": False}}}}
    assert reason(code, **other) is not None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"resource_type": "snapshot", "config": {**REUSABLE, "materialized": "snapshot"}}, "it is a snapshot"),
        (
            {"config": {**REUSABLE, "materialized": "incremental", "incremental_strategy": "microbatch"}},
            "its rows depend on the time of the run (microbatch)",
        ),
        ({"resource_type": "test", "config": REUSABLE}, "its code uses random"),
    ],
)
def test_declaration_does_not_apply_to_nodes_that_depend_on_time_and_to_tests(fields: dict[str, Any], why: str) -> None:
    assert reason("select random()", **fields) == why


def test_query_in_a_nested_macro_makes_a_model_always_built() -> None:
    macros = {"outer": "{% macro outer() %}{{ inner() }}{% endmacro %}", "inner": "{{ run_query('x') }}"}

    assert reason("select {{ outer() }}", macros) == "its code uses run_query"
    assert reason("select {{ apply(inner) }}", {**macros, "apply": "{{ x }}"}) == "its code uses run_query"
    assert reason("select 1", macros) is None


@pytest.mark.parametrize(
    "code",
    [
        "select date_spine, run_query from {{ ref('a') }}",
        "{{ config(partition_by={'field': 'results', 'data_type': 'date_spine'}, tags=['flags']) }} select 1",
        "select {{ labelled('the results of a random date_spine') }} from {{ ref('a') }}",
        "select '{{ modules.re.sub('a', 'b', 'abc') }}', {{ modules . itertools.chain([1], [2]) | list }}",
        "{# statement #} select {{ labelled('x') }}",
    ],
)
def test_names_outside_of_templates_and_in_plain_text_call_nothing(code: str) -> None:
    macros = {"labelled": "{% macro labelled(text) %}'{{ text }}'{% endmacro %}"}

    assert reason(code, {**macros, "date": "{{ run_query('x') }}"}) is None
    assert reason(f"{code} where date = 1", {**macros, "date": "{{ run_query('x') }}"}) is None


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("{{ config(x=run_query('a b')) }} select 1", "run_query"),
        ("{{ config(x='a b', y=results) }} select 1", "results"),
        ("{{ config(x='{{ run_query() }}') }} select 1", "run_query"),
        ("select {{ dbt['date_spine']('day') }}", "date_spine"),
        ("""select {{ labelled("it's") ~ run_query('a b') }}""", "run_query"),
        ("""select {{ labelled('\\'') ~ run_query(' x') }}""", "run_query"),
        ("select {{ labelled('}} a b') ~ run_query('x') }}", "run_query"),
        ("select {{ labelled('{{ run_query(1) }}') }}", "run_query"),
        ("select {{ modules.datetime.date.min }}", "modules"),
        ("{% set m = modules %} select 1", "modules"),
    ],
)
def test_names_in_templates_count_as_called(code: str, name: str) -> None:
    assert reason(code, {"labelled": "{% macro labelled(text) %}{{ text }}{% endmacro %}"}) == f"its code uses {name}"


def test_models_with_a_materialization_of_the_project_are_always_built() -> None:
    macros = {"materialization_table_default": "x"}

    assert reason("select 1", macros) == "the project has its own materialization table"
    assert reason("select 1", macros, config={"materialized": "view"}) is None


def test_macro_that_replaces_one_of_dbt_matters_only_to_nodes_that_call_it() -> None:
    macros = {"concat": "{% macro concat() %}{{ run_query('x') }}{% endmacro %}"}

    assert reason("select 1", macros) is None
    assert reason("select {{ concat() }}", macros) == "its code uses run_query"


def test_version_of_a_test_changes_with_its_code_and_macros() -> None:
    def version(code: str, macro: str, **config: object) -> str:
        config = {"severity": "error", **config}
        found = manifest(code, {"test_ok": macro}, resource_type="test", config=config)
        return build_traits(found).tests["model.shop.m"]

    first = version("{{ test_ok() }}", "select 1")
    assert first == version("{{ test_ok() }}", "select 1")
    others = [("{{ test_ok( ) }}", "select 1"), ("{{ test_ok() }}", "select 2")]
    assert first not in {version(*other) for other in others}
    assert first != version("{{ test_ok() }}", "select 1", where="id > 1")


LATEST = "{% macro latest(relation, key='id') %}select * from {{ relation }} qualify {{ key }} = 1{% endmacro %}"
UNKNOWN = "its code reads {{ relation }}, which is neither a ref nor a source"


@pytest.mark.parametrize(
    "code",
    [
        "{{ latest(ref('a')) }}",
        "{{ latest(relation=source('a', 'b'), key='x') }} union all {{ shop.latest(ref('c')) }}",
        "{% set orders = ref('a') %}{{ latest(orders) }}",
        "{% for table in [ref('a'), ref('b')] %}{{ latest(table) }}{% endfor %}",
        "with a as ({{ latest(ref('a')) }}) select 'latest' from a {# latest('raw.x') #}",
        "{{ other(ref('b')) }}",
    ],
)
def test_macro_to_which_a_model_passes_tables_reads_no_other_table(code: str) -> None:
    other = "{% macro other(table) %}{{ latest(ref('a')) }}{% endmacro %}"

    assert reason(code, {"latest": LATEST, "other": other, "unused": "{{ latest('raw.x') }}"}) is None


@pytest.mark.parametrize(
    "code",
    [
        "{{ latest('raw.x') }}",
        "{{ latest(ref('a')) }} union all {{ latest('raw.x') }}",
        "{{ latest(key='id') }}",
        "{{ latest(*tables) }}",
        "{{ latest(**{'relation': 'raw.x'}) }}",
        "{{ latest(ref('a') ~ '_x') }}",
        "{% set read = latest %}{{ latest(ref('a')) }}{{ read('raw.x') }}",
        "{{ latest(ref('a')) }}{{ apply(shop['latest'], 'raw.x') }}",
        "{{ latest(ref('a')) }}{{ other('raw.x') }}",
        "{% set table = 'raw.x' %}{{ latest(table) }}",
        "{{ config(x='{{ latest(1) }}') }}{{ latest(ref('a')) }}",
    ],
)
def test_macro_to_which_a_model_passes_something_else_may_read_another_table(code: str) -> None:
    macros = {
        "latest": LATEST,
        "other": "{% macro other(table) %}{{ latest(table) }}{% endmacro %}",
        "apply": "{{ f }}",
    }

    assert reason(code, macros) is not None


@pytest.mark.parametrize(
    "macro",
    [
        "{% macro latest(relation) %}{% set relation = 'raw.x' %}select * from {{ relation }}{% endmacro %}",
        "{% macro latest(relation) %}{% with relation = 'x' %}select * from {{ relation }}{% endwith %}{% endmacro %}",
        "{% macro latest(relation) %}{% for relation in ['x'] %}select * from {{ relation }}{% endfor %}{% endmacro %}",
        "{% macro latest(x) %}select * from {{ relation }}{% endmacro %}",
        "{% macro latest(relation) %}{% set relation %}x{% endset %}select * from {{ relation }}{% endmacro %}",
    ],
)
def test_parameter_that_a_macro_replaces_may_be_another_table(macro: str) -> None:
    assert reason("{{ latest(ref('a')) }}", {"latest": macro}) == UNKNOWN


def test_parameter_of_a_macro_that_dbt_calls_may_be_another_table() -> None:
    replaced = {"default__date_spine": LATEST.replace("latest", "default__date_spine")}
    code = "{{ default__date_spine(ref('a')) }}"

    assert reason(code, replaced) is not None


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"incremental_predicates": ["day > current_date - 7"]}, "its incremental_predicates use current_date"),
        ({"sql_header": "create temp table x as select * from raw.x;"}, "its sql_header use a table"),
    ],
)
def test_settings_with_sql_count(config: dict[str, Any], why: str) -> None:
    assert reason("select 1", config={"materialized": "table", **config}) == why


@pytest.mark.parametrize(
    "code",
    [
        "{{ config(fn='run_query') }} select {{ dbt[config.get('fn')]('x') }}",
        "{% for m in 'run_query ref'.split(' ') %}{{ dbt[m]('x') }}{% endfor %}",
        "select {{ dbt_duckdb.get('run' ~ '_query')('x') }}",
        "select {{ adapter.dispatch('get_' ~ 'columns_in_query', 'dbt')('x') }}",
    ],
)
def test_computed_names_of_macros_of_dbt_may_be_any(code: str) -> None:
    assert reason(code) is not None


@pytest.mark.parametrize(
    "code",
    [
        "{{ shop['lat' ~ 'est']('raw.x') }}",
        "{{ latest(ref('a')) }} union all {{ shop[config.get('meta').reader]('raw.x') }}",
        "{% macro other(ref) %}{{ latest(ref('raw.x')) }}{% endmacro %}",
        "{{ latest(ref('a'), ', raw.x') }}",
        f"{{{{ latest(ref('a')) }}}}{{{{ {'1 + ' * 3000}1 }}}}",
    ],
)
def test_parameters_of_macros_that_may_be_called_otherwise_are_unknown(code: str) -> None:
    assert reason(code, {"latest": LATEST.replace("qualify {{ key }} = 1", "{{ key }}")}) is not None


def test_filters_of_dbt_are_known_and_unknown_ones_do_no_harm() -> None:
    known = "{% set t = ref('a') %}select * from {{ t }} where 1 = {{ '1' | as_number }}"
    unknown = "{% set t = ref('a') %}select * from {{ t }} where 1 = {{ '1' | unknown }}"

    assert reason(known) is None
    assert reason(unknown) == "its code reads {{ t }}, which is neither a ref nor a source"


def test_table_of_a_test_is_known() -> None:
    code = "select * from {{ model }}"

    assert reason(code, resource_type="test", test_metadata={"name": "x", "kwargs": {}}) is None
    assert reason(code, resource_type="test") == "its code reads {{ model }}, which is neither a ref nor a source"


def test_variables_are_compared_by_fingerprints_but_not_those_of_tests() -> None:
    code = "select {{ var('x') }} from {{ ref('a') }}"

    assert reason(code) is None
    assert reason(code, resource_type="test") == "its code uses var"


def test_seed_without_a_materialization_can_be_reused() -> None:
    assert reason("", resource_type="seed", config={"materialized": None}) is None


def test_code_of_ephemeral_models_counts() -> None:
    def with_ephemeral(code: str, **reads: list[str]) -> str | None:
        macros = {"ask": "{% macro ask() %}{{ run_query('x') }}{% endmacro %}"}
        found = manifest("select * from {{ ref('e') }}", macros, depends_on={"nodes": ["model.shop.e"], "macros": []})
        ephemeral = manifest(
            code, config={"materialized": "ephemeral"}, depends_on={"nodes": [], "macros": [], **reads}
        )
        found["nodes"]["model.shop.e"] = ephemeral["nodes"]["model.shop.m"]
        return build_traits(found).always.get("model.shop.m")

    assert with_ephemeral("select 1 as id") is None
    assert with_ephemeral("select now() as id") == "its code uses now"
    assert with_ephemeral("select {{ ask() }} as id") == "its code uses run_query"
    assert with_ephemeral("select 1", nodes=["function.shop.f"]) == "it calls a function of the project"


@pytest.mark.parametrize(
    ("code", "read"),
    [
        ("select * from (other.a a join {{ ref('r') }} r on true)", "other.a"),
        ("select * from {% if x %}{{ ref('r') }}{% else %} other.a {% endif %}", "other.a"),
        ("select * from {% if x %}{{ ref('r') }}{% elif y %} other.a {% endif %}", "other.a"),
        ("with base as (select * from base) select * from base", "base"),
        ("with p as (pivot raw.o on x) select * from p", UNCERTAIN),
        ("select 1 union all table raw.x", UNCERTAIN),
        ("from (summarize raw.x)", UNCERTAIN),
        ("{{ 'select * from raw.x' }}", UNCERTAIN),
        ("{% set q = 'select id from raw.x' %} select 1 where id in ({{ q }})", UNCERTAIN),
        ("{{ only('select id from raw.x') }}", UNCERTAIN),
        ("with a as (select * from b), b as (select 1) select * from a", "b"),
        ("with o as (select * from {{ ref('z') }}, o) select * from o", "o"),
        ("select * from (with t as (select 1) select * from t) as x join t on true", "t"),
        ("select * from {% for x in y %}{{ ref('a') }}{% else %}raw.x{% endfor %}", "raw.x"),
        ("with a as (select 1), b as (select * from a) select * from a join b on true, (select * from b) as c", None),
        ("select {{ ',' if not loop.last }} 1", None),
        ("{{ config(materialized='table') }} select 1", None),
        ("with recursive r as (select 1 union all select * from r) select * from r", None),
        ("select * from ({{ ref('a') }} as a join {{ ref('b') }} as b using (id)), (select 1)", None),
        ("select {{ dbt.concat(['a', 'b']) }} from {% if x %}{{ ref('a') }}{% else %}{{ ref('b') }}{% endif %}", None),
    ],
)
def test_table_that_dbt_does_not_know_is_found(code: str, read: str | None) -> None:
    assert unnamed_read(code) == read


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"expression": "day <= current_date"}, "its arguments use current_date"),
        ({"expression": "id in (select id from raw.other)"}, "its arguments contain a query"),
        ({"values": ["{{ var('x') }}"]}, "its arguments use a template"),
        ({"values": ["a"], "model": "{{ get_where_subquery(ref('a')) }}"}, None),
    ],
)
def test_arguments_of_a_test_are_read(arguments: dict[str, Any], why: str | None) -> None:
    generic = {"name": "ok", "kwargs": arguments}

    assert reason("select 1", resource_type="test", test_metadata=generic) == why


def test_where_of_a_test_is_read() -> None:
    config = {"where": "id in (select id from other.a)"}

    assert reason("select 1", resource_type="test", config=config) == "its arguments contain a query"


def test_own_table_in_a_macro_makes_a_model_always_built() -> None:
    macros = {"rows": "{% macro rows() %}select * from {{ this }}{% endmacro %}"}

    assert reason("{{ rows() }}", macros) == "its code uses this"
    assert reason("{{ rows() }}", macros, config={"materialized": "incremental"}) is None


def test_version_of_a_test_changes_with_macros_of_an_ephemeral_model() -> None:
    def version(macro: str) -> str:
        found = manifest("select 1", {"part": macro}, resource_type="test", config={})
        found["nodes"]["model.shop.m"]["depends_on"]["nodes"] = ["model.shop.e"]
        found["nodes"]["model.shop.e"] = {
            "resource_type": "model",
            "raw_code": "{{ part() }}",
            "config": {"materialized": "ephemeral"},
        }
        return build_traits(found).tests["model.shop.m"]

    assert version("select 1") == version("select 1") != version("select 2")


def test_many_templates_after_an_open_quote_are_read_in_no_time() -> None:
    started = time.process_time()
    unnamed_read("# don't join here\n" + "{{ c }} " * 2000)

    assert time.process_time() - started < 10  # it doubled with each template


@pytest.mark.parametrize("name", ["create_table_as", "default__get_merge_sql", "duckdb__create_table_as"])
def test_own_macros_that_fill_tables_make_all_models_always_built(name: str) -> None:
    assert reason("select 1", {name: "select 1"}) == f"the project has its own {name}"


def test_own_incremental_strategy_is_read() -> None:
    macros = {"get_incremental_ours_sql": "delete from x where at < now()"}
    config = {"materialized": "incremental", "incremental_strategy": "ours"}

    assert reason("select 1", macros, config=config) == "its code uses now"
    assert reason("select 1", macros, config={"materialized": "incremental"}) is None


def test_comments_in_macros_are_not_read() -> None:
    macros = {"rows": "{% macro rows() %}{# in this case, flags and results #}1{% endmacro %}"}

    assert reason("select {{ rows() }}", macros) is None


@pytest.mark.parametrize("rows", ["select current_date as day", "select '{{ env_var(\"X\") }}' as x"])
def test_unit_test_with_varying_rows_always_runs(rows: str) -> None:
    found = manifest("select 1")
    found["unit_tests"] = {"unit_test.shop.u": {"given": [{"input": "ref('a')", "rows": rows, "format": "sql"}]}}

    assert build_traits(found).always["unit_test.shop.u"] == "its rows may differ each time"


@pytest.mark.parametrize(("fixture", "why"), [(None, None), ("orders", "its rows may differ each time")])
def test_unit_test_with_rows_in_a_file_always_runs(fixture: str | None, why: str | None) -> None:
    found = manifest("select 1")
    given = [{"input": "ref('a')", "rows": [{"id": 1}], "format": "dict", "fixture": fixture}]
    found["unit_tests"] = {"unit_test.shop.u": {"given": given, "expect": {"rows": [{"id": 1}], "fixture": None}}}

    assert build_traits(found).always.get("unit_test.shop.u") == why


DISJOINT = {"materialized": "incremental", "meta": {"dagster": {"partitions": "disjoint"}}}
BATCHES = {**DISJOINT, "incremental_strategy": "microbatch", "event_time": "day"}
KEYED = {**DISJOINT, "incremental_strategy": "delete+insert", "unique_key": "id"}
READS_DAY = "select '{{ var(\"day\") }}' as day from {{ ref('a') }}"


def keeps_partitions(
    code: str, config: dict[str, Any], macros: dict[str, str] | None = None, adapter: str = "duckdb", **fields: object
) -> bool:
    content = manifest(code, macros or {}, config=config, **fields)
    content["metadata"]["adapter_type"] = adapter
    return "model.shop.m" in build_traits(content).partitioned


@pytest.mark.parametrize(
    ("code", "config"),
    [
        ("select 1", BATCHES),
        ("select 1", KEYED),
        (READS_DAY, KEYED),
        ("select 1", {**KEYED, "incremental_strategy": "merge"}),
        ("select 1", {**KEYED, "incremental_strategy": None}),
        ("select 1", {**KEYED, "full_refresh": False}),
        ("select 1", {**KEYED, "on_schema_change": "append_new_columns"}),
        ("{{ config(x=[1, true], meta={'dagster': {'partitions': 'disjoint'}}) }} select '{{ var(\"day\") }}'", KEYED),
        ("{# this config(x=y) #} select 1 as this", KEYED),
    ],
)
def test_builds_of_partitions_leave_the_rows_of_others(code: str, config: dict[str, Any]) -> None:
    assert keeps_partitions(code, config)


@pytest.mark.parametrize(
    ("code", "config"),
    [
        ("select 1", {**KEYED, "meta": {}}),  # it may write rows of other partitions
        ("select 1", {**KEYED, "meta": {"dagster": {"reuse": True}}}),
        ("select 1", {**BATCHES, "meta": {}}),
        ("select 1", {**KEYED, "materialized": "table"}),
        ("select 1", {**KEYED, "unique_key": None}),
        ("select 1", {**KEYED, "incremental_strategy": "append"}),
        ("select 1", {**KEYED, "incremental_strategy": "insert_overwrite"}),
        ("select 1", {**KEYED, "full_refresh": True}),
        ("select 1", {**BATCHES, "full_refresh": True}),
        ("select 1", {**KEYED, "on_schema_change": "sync_all_columns"}),
        ("select 1", {**KEYED, "incremental_predicates": ["day > 1"]}),
        ("select 1", {**KEYED, "incremental_strategy": "merge", "merge_clauses": {"not_matched_by_source": []}}),
        ("select 1", {**KEYED, "post-hook": [{"sql": "delete from x"}]}),
        ("select * from {{ this }}", KEYED),
        ("select * from {{ this.render() }}", BATCHES),
        ("{{ config(full_refresh=var('day') == 'x') }} select 1", KEYED),
        ("{{ config(full_refresh=is_first) }} {{ var('day') }} select 1", KEYED),
        ("{% set x = config.get('y') %} {{ var('day') }} select 1", KEYED),
        (
            "{% if var('day') == 'x' %}select * from {{ ref('a') }}{% else %}select * from {{ ref('b') }}{% endif %}",
            KEYED,
        ),
        ("select {{ own() }}", KEYED),
    ],
)
def test_builds_of_partitions_that_may_change_or_read_the_rows_of_others(code: str, config: dict[str, Any]) -> None:
    assert not keeps_partitions(code, config, {"own": "{% macro own() %}{{ this }}{% endmacro %}"})


def test_declaration_of_reuse_does_not_hide_code_that_may_read_the_rows_of_other_partitions() -> None:
    config = {**KEYED, "meta": {"dagster": {"partitions": "disjoint", "reuse": True}}}

    assert keeps_partitions("select 1", config)
    assert not keeps_partitions("select '{{ adapter.get_relation(this.database, 's', 'm') }}'", config)
    assert not keeps_partitions("def model(dbt, session): ...", config, language="python")


@pytest.mark.parametrize("name", ["get_incremental_microbatch_sql", "duckdb__get_delete_insert_merge_sql", "concat"])
def test_own_macros_in_place_of_those_of_dbt_may_change_the_rows_of_other_partitions(name: str) -> None:
    own = {name: f"{{% macro {name}() %}}x{{% endmacro %}}"}
    naming = {"generate_schema_name": "{% macro generate_schema_name() %}x{% endmacro %}"}

    assert not keeps_partitions("select 1", BATCHES, own)
    assert not keeps_partitions("select 1", KEYED, own)
    assert keeps_partitions("select 1", KEYED, naming)


def test_settings_that_vary_may_change_the_rows_of_other_partitions() -> None:
    varying = {"full_refresh": "{{ var('day') == 'x' }}"}

    assert not keeps_partitions("select 1", KEYED, unrendered_config=varying)


@pytest.mark.parametrize(
    ("config", "adapters"),
    [
        (BATCHES, ["duckdb"]),  # PostgreSQL merges the rows of a batch by a key
        ({**BATCHES, "unique_key": "id"}, ["duckdb"]),
        (KEYED, ["duckdb", "postgres"]),
        ({**KEYED, "incremental_strategy": None}, ["duckdb", "postgres"]),
    ],
)
def test_only_known_adapters_leave_the_rows_of_other_partitions(config: dict[str, Any], adapters: list[str]) -> None:
    every = ["duckdb", "postgres", "redshift", "snowflake", "spark"]

    assert [adapter for adapter in every if keeps_partitions("select 1", config, adapter=adapter)] == adapters


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("{% if var('day') < 'x' %}{{ ref('a') }}{% else %}{{ ref('b') }}{% endif %}", {}),
        ("select * from {{ ref('x' ~ var('day')) }}", {}),
        ("{{ config(alias=var('day')) }} select 1", {}),
        ("select * from {{ chosen() }}", {}),
        ("select '{{ var(\"day\") }}'", {"unrendered_config": {"alias": "{{ var('day') }}"}}),
        ("def model(dbt, session): return dbt.config.get('var')", {"language": "python"}),
    ],
)
def test_inputs_and_settings_may_depend_on_variables(code: str, fields: dict[str, Any]) -> None:
    chosen = {"chosen": "{% macro chosen() %}{% if var('day') %}{{ ref('a') }}{% endif %}{% endmacro %}"}

    assert build_traits(manifest(code, chosen, **fields)).varying == {"model.shop.m"}


@pytest.mark.parametrize(
    "code",
    [READS_DAY, "{% if x %}{{ ref('a') }}{% endif %}", "{% if var('day') %}{{ var('day') }}{% endif %} {{ ref('a') }}"],
)
def test_inputs_and_settings_that_do_not_depend_on_variables(code: str) -> None:
    day = {"day": "{% macro day() %}{{ var('day') }}{% endmacro %}"}

    assert build_traits(manifest(code, day)).varying == frozenset()
    assert build_traits(manifest(code + "{{ day() }}", day)).varying == (
        {"model.shop.m"} if "{% if x %}" in code else frozenset()
    )


def test_names_of_all_tables_may_depend_on_a_variable() -> None:
    naming = {"generate_schema_name": "{% macro generate_schema_name() %}{{ var('day') }}{% endmacro %}"}

    assert build_traits(manifest("select 1", naming)).varying == {"model.shop.m"}
