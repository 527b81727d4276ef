"""Which changes of a dbt project change the fingerprints of which nodes."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.product.trimming import trim
from unit.samples import manifest, node, source

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.samples import Json

EVERY = {
    *("called", "passed", "dispatched", "computed", "inlined_twice", "plain", "contracted", "stores", "history"),
    *("hooked", "reader", "grapher", "counted"),
}


TOTAL = "function.shop.total"


def macro(name: str, code: str = "1", package: str = "shop") -> tuple[str, Json]:
    unique_id = f"macro.{package}.{name}"
    sql = f"{{% macro {name}() %}}{code}{{% endmacro %}}"
    depends_on: Json = {"macros": []}
    return unique_id, {"name": name, "package_name": package, "macro_sql": sql, "depends_on": depends_on}


def model(name: str, code: str = "select 1", *parents: str, **config: object) -> Json:
    depends_on = {"nodes": [f"model.shop.{parent}" for parent in parents], "macros": []}
    return node(name, raw_code=code, depends_on=depends_on, config={"materialized": "table", **config})


def project() -> Json:
    """Make a project in which each macro is reached in another way."""
    content = manifest(
        model("called", "select {{ price() }}"),
        model("passed", "select {{ apply(tax) }}"),
        model("dispatched", "select {{ adapter.dispatch('rounded', 'shop')() }}"),
        model("computed", "select {{ context['fee_' ~ var('kind')]() }}"),
        model("part", "select {{ nested() }}", materialized="ephemeral"),
        model("whole", "select * from {{ ref('part') }}", "part", materialized="ephemeral"),
        model("inlined_twice", "select * from {{ ref('whole') }}", "whole"),
        model("plain", "select a  -- the first\nfrom {{ ref('called') }}", "called"),
        model("contracted", "select 2", contract={"enforced": True}),
        model("hooked", "select 4", **{"post-hook": [{"sql": "{{\ngrant_all(model.config.meta.role) }}"}]}),
        {**model("reader", "select 5"), "depends_on": {"nodes": ["source.shop.raw.orders"], "macros": []}},
        model("grapher", "select '{{ graph.nodes.values() | list | length }}'"),
        {**model("counted", "select total(1)"), "depends_on": {"nodes": ["function.shop.total"], "macros": []}},
        node("stores", "seed", raw_code="", config={"materialized": "seed"}),
        node("history", "snapshot", raw_code="select 3", config={"materialized": "snapshot", "strategy": "check"}),
        sources=(source("raw", "orders"),),
        functions={TOTAL: node("total", "function", raw_code="{{ summed() }}")},
        macros=dict(
            [
                macro("grant_all"),
                macro("summed"),
                macro("price", "{{ inner() }}"),
                macro("inner"),
                macro("apply"),
                macro("tax"),
                macro("default__rounded"),
                macro("fee_low"),
                macro("nested"),
                macro("generate_alias_name", package="dbt"),
                macro("hook_statement"),
            ]
        ),
        metadata={"adapter_type": "duckdb", "project_name": "shop", "dbt_version": "1.12.6"},
    )
    content["parent_map"][TOTAL] = []
    return content


def versions(content: Json) -> dict[str, str]:
    nodes = trim(content)["nodes"].values()
    return {entry["name"]: entry["code_version"] for entry in nodes if entry["name"] in EVERY}


def changed(change: Callable[[Json], object]) -> set[str]:
    """Return the names of the nodes whose fingerprint a change of the project changes."""
    content = deepcopy(project())
    change(content)
    before, after = versions(project()), versions(content)
    assert before.keys() == after.keys() == EVERY
    return {name for name in before if before[name] != after[name]}


def in_macro(name: str, package: str = "shop") -> Callable[[Json], object]:
    def change(content: Json) -> None:
        content["macros"][f"macro.{package}.{name}"]["macro_sql"] += " "

    return change


def in_node(unique_id: str, **fields: object) -> Callable[[Json], object]:
    return lambda content: content["nodes"][unique_id].update(fields)


def in_config(unique_id: str, **settings: object) -> Callable[[Json], object]:
    return lambda content: content["nodes"][unique_id]["config"].update(settings)


@pytest.mark.parametrize(
    ("name", "users"),
    [
        ("price", {"called"}),
        ("inner", {"called"}),
        ("tax", {"passed"}),
        ("default__rounded", {"dispatched"}),
        ("fee_low", set()),
        ("nested", {"inlined_twice"}),
        ("hook_statement", set()),
        ("grant_all", {"hooked"}),
        ("summed", {"counted"}),
    ],
)
def test_a_changed_macro_changes_the_nodes_that_can_call_it(name: str, users: set[str]) -> None:
    # The name of the macro that `computed` calls is not known before it runs.
    assert changed(in_macro(name)) == users | {"computed"}


def test_a_macro_of_dbt_changes_with_dbts_version_only() -> None:
    assert changed(in_macro("generate_alias_name", "dbt")) == set()
    assert changed(lambda content: content["metadata"].update(dbt_version="1.12.9")) == set()
    assert changed(lambda content: content["metadata"].update(dbt_version="1.13.0")) == EVERY


def test_a_macro_that_replaces_one_of_dbt_changes_everything() -> None:
    assert changed(lambda content: content["macros"].update([macro("generate_alias_name")])) == EVERY
    assert changed(lambda content: content["macros"].update([macro("duckdb__generate_alias_name")])) == EVERY
    assert changed(lambda content: content["macros"].update([macro("materialization_table_default")])) == EVERY


def test_a_hook_of_the_project_and_the_macros_it_calls_change_everything() -> None:
    def with_hook(content: Json, code: str) -> Json:
        hook = node("shop-on-run-start-0", "operation", raw_code="{{ hook_statement() }}")
        content["nodes"]["operation.shop.start"] = hook
        content["macros"]["macro.shop.hook_statement"]["macro_sql"] = code
        return content

    before, after = versions(with_hook(project(), "1")), versions(with_hook(project(), "2"))

    assert changed(lambda content: with_hook(content, "1")) == EVERY
    assert {name for name in EVERY if before[name] == after[name]} == set()


@pytest.mark.parametrize(
    ("change", "nodes"),
    [
        (in_node("model.shop.plain", raw_code="select a from {{ ref('called') }}"), set()),
        (in_node("model.shop.plain", raw_code="select b from {{ ref('called') }}"), {"plain"}),
        (in_node("model.shop.called", raw_code="select  {{ price() }}"), {"called"}),
        (in_node("model.shop.part", raw_code="select 5"), {"inlined_twice"}),
        (in_node("seed.shop.stores", checksum={"name": "sha256", "checksum": "other"}), {"stores"}),
        (in_config("snapshot.shop.history", strategy="timestamp"), {"history", "grapher"}),
        (in_config("model.shop.called", materialized="view"), {"called", "grapher"}),
        (in_config("model.shop.hooked", meta={"role": "reader"}), {"hooked", "grapher"}),
        (in_config("model.shop.called", **{"post-hook": [{"sql": "grant …"}]}), {"called", "grapher"}),
    ],
)
def test_code_and_settings(change: Callable[[Json], object], nodes: set[str]) -> None:
    assert changed(change) == nodes


@pytest.mark.parametrize("settings", [{"tags": ["x"]}, {"meta": {"a": 1}}, {"docs": {"show": False}}, {"group": "g"}])
def test_what_describes_a_table_counts_if_code_reads_it(settings: Json) -> None:
    (name,) = settings

    def read(content: Json) -> None:
        content["macros"]["macro.shop.inner"]["macro_sql"] += f"{{{{ model.{name} }}}}"

    def described(content: Json) -> None:
        read(content)
        content["nodes"]["model.shop.called"]["config"].update(settings)
        content["nodes"]["model.shop.plain"]["config"].update(settings)

    # `grapher` reads the settings of all nodes.
    assert changed(in_config("model.shop.called", **settings)) == {"grapher"}
    content = project()
    read(content)
    read_before = versions(content)
    content = project()
    described(content)
    after = versions(content)
    assert {key for key in EVERY if read_before[key] != after[key]} == {"called", "grapher"}


@pytest.mark.parametrize(
    ("code", "inner"),
    [
        ("select 1{% if 'full' in model.raw_code %} + 1{% endif %}", "1"),
        ("select 1{% if 'full' in model['compiled_code'] %} + 1{% endif %}", "1"),
        ("select 1{% if price() %} + 1{% endif %}", "{{ return('full' in model.raw_code) }}"),
        ("select 1{% if price() %} + 1{% endif %}", "{{ return('full' in model | string) }}"),
    ],
)
def test_comments_count_if_code_can_read_them(code: str, inner: str) -> None:
    content = project()
    content["macros"]["macro.shop.inner"]["macro_sql"] += inner
    of_comment = {}
    for comment in ("full", "part"):
        content["nodes"]["model.shop.called"]["raw_code"] = f"{code} -- {comment}"
        of_comment[comment] = versions(deepcopy(content))["called"]

    assert of_comment["full"] != of_comment["part"]


def test_comments_of_a_model_that_is_declared_reusable_count() -> None:
    content = project()
    content["nodes"]["model.shop.plain"]["config"]["meta"] = {"dagster": {"reuse": True}}
    before = versions(deepcopy(content))
    content["nodes"]["model.shop.plain"]["raw_code"] = "select a  -- the second\nfrom {{ ref('called') }}"

    assert {name for name, version in versions(content).items() if before[name] != version} == {"plain"}


def test_comments_that_name_a_model_do_not_count() -> None:
    content = project()
    content["nodes"]["model.shop.plain"]["raw_code"] = "select a -- of this model\nfrom {{ ref('called') }}"
    before = versions(deepcopy(content))
    content["nodes"]["model.shop.plain"]["raw_code"] = "select a -- of another model\nfrom {{ ref('called') }}"

    assert versions(content) == before


def test_columns_and_constraints_count_under_a_contract() -> None:
    column = {"name": "id", "data_type": "int"}
    constraints = [{"type": "primary_key", "columns": ["id"]}]

    for fields in ({"columns": {"id": column}}, {"constraints": constraints}):
        assert changed(in_node("model.shop.contracted", **fields)) - {"grapher"} == {"contracted"}
        assert changed(in_node("model.shop.plain", **fields)) - {"grapher"} == set()


@pytest.mark.parametrize(
    ("persisted", "relation", "columns"),
    [({"relation": True}, True, False), ({"columns": True}, False, True), ({}, False, False), (True, True, True)],
)
def test_descriptions_count_if_they_are_persisted(persisted: object, relation: object, columns: object) -> None:
    def changed_by(**fields: object) -> bool:
        one, two = project(), project()
        for content in (one, two):
            content["nodes"]["model.shop.plain"]["config"]["persist_docs"] = persisted
        two["nodes"]["model.shop.plain"].update(fields)
        return versions(one)["plain"] != versions(two)["plain"]

    assert changed_by(description="y") is relation
    assert changed_by(columns={"id": {"name": "id", "description": "y"}}) is columns


@pytest.mark.parametrize(
    "fields", [{"schema": "other"}, {"identifier": "other"}, {"meta": {"external_location": "other.csv"}}]
)
def test_the_place_of_a_source_counts_for_what_reads_it(fields: Json) -> None:
    assert changed(lambda content: content["sources"]["source.shop.raw.orders"].update(fields)) == {"reader", "grapher"}


def test_event_times_count_for_the_nodes_that_dbt_filters_by_them() -> None:
    assert changed(in_config("model.shop.called", event_time="at")) == {"called", "plain", "grapher"}


@pytest.mark.parametrize(
    "call",
    [
        "adapter.dispatch('pri' ~ 'ce', 'shop')()",
        "adapter.dispatch(macro_namespace='shop', macro_name=var('name'))()",
        "shop['pri' ~ 'ce']()",
    ],
)
def test_a_computed_name_can_be_that_of_any_macro(call: str) -> None:
    def versions_with(code: str) -> dict[str, str]:
        content = project()
        content["nodes"]["model.shop.plain"]["raw_code"] = f"select {{{{ {call} }}}}"
        content["macros"]["macro.shop.price"]["macro_sql"] = code
        return versions(content)

    assert versions_with("1")["plain"] != versions_with("2")["plain"]
