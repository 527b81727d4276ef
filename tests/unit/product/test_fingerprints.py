"""Which changes of a dbt project change the fingerprints of which nodes."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.product.trimming import trim
from unit.samples import manifest, node

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.samples import Json

EVERY = {"called", "passed", "dispatched", "computed", "inlined_twice", "plain", "contracted", "stores", "history"}


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
    return manifest(
        model("called", "select {{ price() }}"),
        model("passed", "select {{ apply(tax) }}"),
        model("dispatched", "select {{ adapter.dispatch('rounded', 'shop')() }}"),
        model("computed", "select {{ context['fee_' ~ var('kind')]() }}"),
        model("part", "select {{ nested() }}", materialized="ephemeral"),
        model("whole", "select * from {{ ref('part') }}", "part", materialized="ephemeral"),
        model("inlined_twice", "select * from {{ ref('whole') }}", "whole"),
        model("plain", "select a  -- the first\nfrom {{ ref('called') }}", "called"),
        model("contracted", "select 2", contract={"enforced": True}),
        node("stores", "seed", raw_code="", config={"materialized": "seed"}),
        node("history", "snapshot", raw_code="select 3", config={"materialized": "snapshot", "strategy": "check"}),
        macros=dict(
            [
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
        (in_config("snapshot.shop.history", strategy="timestamp"), {"history"}),
        (in_config("model.shop.called", materialized="view"), {"called"}),
        (in_config("model.shop.called", **{"post-hook": [{"sql": "grant …"}]}), {"called"}),
        (in_config("model.shop.called", **{"post-hook": [{"sql": "{{ hook_statement() }}"}]}), {"called"}),
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

    assert changed(in_config("model.shop.called", **settings)) == set()
    content = project()
    read(content)
    read_before = versions(content)
    content = project()
    described(content)
    after = versions(content)
    assert {key for key in EVERY if read_before[key] != after[key]} == {"called"}


def test_columns_count_under_a_contract_and_descriptions_if_they_are_persisted() -> None:
    columns = {"id": {"name": "id", "data_type": "int", "description": "x"}}

    assert changed(in_node("model.shop.contracted", columns=columns)) == {"contracted"}
    assert changed(in_node("model.shop.plain", columns=columns, description="y")) == set()

    def persisted(content: Json, description: str) -> Json:
        columns = {"id": {"name": "id", "description": description}}
        content["nodes"]["model.shop.plain"].update(columns=columns, description=description)
        content["nodes"]["model.shop.plain"]["config"]["persist_docs"] = {"relation": True, "columns": True}
        return content

    before, after = versions(persisted(project(), "a")), versions(persisted(project(), "b"))
    assert {name for name in EVERY if before[name] != after[name]} == {"plain"}
