"""Selections of jobs, schedules and rules by YAML selectors of dbt and in Dagster's own syntax."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import build_definitions, definitions_from_file
from floe_orchestrator_dagster.errors import ConfigError
from floe_orchestrator_dagster.inspect.plan import plan_product
from floe_orchestrator_dagster.inspect.validation import examine_product
from floe_orchestrator_dagster.product import load_product
from unit.dbt_shop import write_dbt_shop
from unit.samples import Json, model, product, write_json

if TYPE_CHECKING:
    from pathlib import Path

_SELECTORS: Json = {
    "daily": {"name": "daily", "definition": {"method": "tag", "value": "daily"}},
    "hidden": {"name": "hidden", "definition": {"method": "fqn", "value": "hidden"}},
    "most": {
        "name": "most",
        "definition": {
            "union": [
                {"method": "selector", "value": "daily"},
                "raw",
                {"exclude": [{"method": "tag", "value": "gold"}]},
            ]
        },
    },
}


def _shop(directory: Path, config: Json | None = None) -> Path:
    """Write the product with YAML selectors, and return the path of its artifacts."""
    path = write_dbt_shop(directory, config)
    manifest = directory / "target" / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    write_json(manifest, {**content, "selectors": _SELECTORS})
    return path


def _assets_of(definitions: dg.Definitions, name: str) -> set[str]:
    job = definitions.get_repository_def().get_job(name)
    return {key.to_user_string() for key in job.asset_layer.executable_asset_keys}


def _problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        definitions_from_file(path)
    return [str(problem).removeprefix("plugins.orchestrator.config.") for problem in raised.value.problems]


def test_job_builds_the_assets_of_a_yaml_selector(tmp_path: Path) -> None:
    jobs = [
        {"name": "most", "selector": "most"},
        {"name": "less", "select": "selector:daily", "exclude": "selector:most"},
    ]

    definitions = definitions_from_file(_shop(tmp_path, {"jobs": jobs}))

    assert _assets_of(definitions, "most") == {"stg", "raw"}
    assert _assets_of(definitions, "less") == {"mart"}


def test_schedule_and_rule_have_the_assets_of_a_yaml_selector(tmp_path: Path) -> None:
    schedule = {"name": "often", "cron": "@hourly", "selector": "most"}
    config = {"schedules": [schedule], "automation": {"condition": "eager", "selector": "daily"}}

    repository = definitions_from_file(_shop(tmp_path, config)).get_repository_def()

    tick = repository.get_schedule_def("often").evaluate_tick(dg.build_schedule_context(repository_def=repository))
    [request] = tick.run_requests or []
    assert {key.to_user_string() for key in request.asset_selection or ()} == {"stg", "raw"}
    conditions = {
        key.to_user_string()
        for key in repository.asset_graph.materializable_asset_keys
        if repository.asset_graph.get(key).automation_condition
    }
    assert conditions == {"stg", "mart"}


_UNKNOWN = "'selector:dialy' is not a valid dbt selection: selectors.yml has no selector 'dialy'."
_KNOWN = "Did you mean 'daily'? Its selectors: daily, hidden, most"
_SYNTAX = "See https://docs.getdbt.com/reference/node-selection/syntax. Correct it in manifest.yaml."
_NOTHING = "'selector:hidden' selects no model, seed or snapshot"
_LS = "`dbt ls --select 'selector:hidden'` shows what it matches. Correct it in manifest.yaml."


@pytest.mark.parametrize(
    ("selector", "problem"),
    [("dialy", f"{_UNKNOWN} {_KNOWN}\n    fix: {_SYNTAX}"), ("hidden", f"{_NOTHING}\n    fix: {_LS}")],
)
def test_selector_without_assets_is_refused(tmp_path: Path, selector: str, problem: str) -> None:
    path = _shop(tmp_path, {"jobs": [{"name": "a"}, {"name": "b", "selector": selector}]})

    assert _problems(path) == [f"jobs[1].selector: {problem}"]
    [error] = examine_product(path, parses=False).errors
    assert problem.split("\n", maxsplit=1)[0] in str(error)


@pytest.mark.parametrize(("name", "expected"), [("my nightly", {"raw"}), ("a,b+", {"stg"}), ("night[l]y", {"mart"})])
def test_the_name_of_a_selector_is_not_read_as_a_selection(tmp_path: Path, name: str, expected: set[str]) -> None:
    path = _shop(tmp_path, {"jobs": [{"name": "some", "selector": name}]})
    manifest = tmp_path / "target" / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    named = {"my nightly": "raw", "a,b+": "stg", "night[l]y": "mart", "nightly": "stg"}
    selectors = {one: {"name": one, "definition": {"method": "fqn", "value": model}} for one, model in named.items()}
    write_json(manifest, {**content, "selectors": selectors})

    assert _assets_of(definitions_from_file(path), "some") == expected


@pytest.mark.parametrize("name", ["daily+", "dail*", "daily,most", "daily most"])
def test_operators_and_patterns_are_not_names_of_selectors(tmp_path: Path, name: str) -> None:
    [problem] = _problems(_shop(tmp_path, {"jobs": [{"name": "a", "selector": name}]}))

    assert f"jobs[0].selector: 'selector:{name}' is not a valid dbt selection: selectors.yml has no selector" in problem


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("kind:bronze", {"stg"}),
        ("+kind:bronze", {"raw", "stg"}),
        ('key:"stg"+', {"stg", "mart", "wide_v1"}),
        ('key:"erp/orders"+', {"stg", "mart", "wide_v1"}),
        ('+key:"mart" and not key:"raw"', {"stg", "mart"}),
        ("tag:daily and tag:gold", {"mart"}),
        ("sinks(*)", {"mart", "wide_v1"}),
        ("*", {"raw", "stg", "mart", "wide_v1"}),
    ],
)
def test_job_builds_the_assets_of_a_selection_of_dagster(tmp_path: Path, selection: str, expected: set[str]) -> None:
    definitions = definitions_from_file(_shop(tmp_path, {"jobs": [{"name": "some", "dagster": selection}]}))

    assert _assets_of(definitions, "some") == expected


def test_the_checks_of_an_asset_that_dagster_selects_run_with_it(tmp_path: Path) -> None:
    definitions = definitions_from_file(_shop(tmp_path, {"jobs": [{"name": "some", "dagster": "tag:gold"}]}))

    job = definitions.get_repository_def().get_job("some")
    assert {key.name for key in job.asset_layer.asset_graph.asset_check_keys} == {"unique_mart"}


def test_rule_for_assets_that_dagster_selects(tmp_path: Path) -> None:
    rules = [{"condition": "on_missing", "dagster": "+kind:bronze"}, {"condition": "eager", "select": "mart"}]

    graph = definitions_from_file(_shop(tmp_path, {"automation": rules})).resolve_asset_graph()

    conditions = {key.to_user_string(): graph.get(key).automation_condition for key in graph.materializable_asset_keys}
    assert {name for name, condition in conditions.items() if condition} == {"raw", "stg", "mart"}


def test_selection_of_dagster_in_a_product_without_a_dbt_project() -> None:
    jobs = [{"name": "some", "dagster": 'key:"a"+'}]

    shop = product(model("a"), model("b", "a"), model("c"), config={"jobs": jobs})

    assert _assets_of(build_definitions(shop), "some") == {"a", "b"}


_SEE = "See https://docs.dagster.io/guides/build/assets/asset-selection-syntax/reference. Correct it in manifest.yaml."


@pytest.mark.parametrize(
    ("selection", "problem"),
    [
        (
            "group:finance andd kind:table",
            "is not a valid asset selection: syntax error at line 1, column 14: mismatched input 'andd'",
        ),
        (
            "(kind:table or kind:view",
            "is not a valid asset selection: syntax error at line 1, column ",
        ),
        (
            "tag:team=finance and kindd:gold",
            "is not a valid asset selection: syntax error at line 1, column 21: mismatched input 'kindd'",
        ),
        ("stg*", "is not a valid asset selection: syntax error at line 1, column 0: mismatched input 'stg*'"),
        ("status:healthy", "is not a valid asset selection: it needs values that only Dagster's web interface has"),
        ("code_location:x", "is not a valid asset selection: it needs values that only Dagster's web interface has"),
    ],
)
def test_selection_that_dagster_cannot_read_is_refused_with_the_place(
    tmp_path: Path, selection: str, problem: str
) -> None:
    path = _shop(tmp_path, {"schedules": [{"name": "a", "cron": "@daily", "dagster": selection}]})

    [found] = _problems(path)

    assert found.startswith(f"schedules[0].dagster: {selection!r} {problem}")
    assert found.endswith(f"fix: {_SEE}")


@pytest.mark.parametrize("selection", ["group:nobody", 'key:"erp/orders"', 'key:"unknown"', "kind:table and kind:view"])
def test_selection_of_dagster_without_assets_is_refused(tmp_path: Path, selection: str) -> None:
    path = _shop(tmp_path, {"automation": {"condition": "eager", "dagster": selection}})

    what = f"{selection!r} selects no asset that the product builds"
    fix = "Enter it in the asset catalog of Dagster to see what it matches. Correct it in manifest.yaml."
    assert _problems(path) == [f"automation[0].dagster: {what}\n    fix: {fix}"]


def test_validate_reports_a_wrong_selection_of_dagster_with_other_problems(tmp_path: Path) -> None:
    jobs = [{"name": "a", "dagster": "*"}, {"name": "b", "dagster": "kind:gold and"}, {"name": "a", "select": "x"}]

    [error] = examine_product(_shop(tmp_path, {"jobs": jobs}), parses=False).errors

    assert isinstance(error, ConfigError)
    assert [problem.where.removeprefix("plugins.orchestrator.config.") for problem in error.problems] == [
        "jobs",
        "jobs[1].dagster",
        "jobs[2].select",
    ]


def test_plan_names_selections(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "jobs": [
            {"name": "b", "selector": "most"},
            {"name": "c", "dagster": "kind:gold"},
            {"name": "d", "exclude": "stg"},
        ],
        "schedules": [{"name": "s", "cron": "@daily", "dagster": "kind:gold"}],
    }
    path = _shop(tmp_path, config)

    plan = plan_product(load_product(path), definitions_from_file(path))

    assert {job.name: job.selection for job in plan.jobs} == {
        "shop_orders": None,
        "b": "selector:most",
        "c": "kind:gold",
        "d": "fqn:* without stg",
    }
    assert [(schedule.select, schedule.dagster) for schedule in plan.schedules] == [(None, "kind:gold")]
