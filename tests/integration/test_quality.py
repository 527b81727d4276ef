"""Declared quality checks, source freshness and the quality score, on real dbt, DuckDB and Dagster."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.inspect.plan import plan_product
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from lineage_backend import serving
from openlineage_schemas import assert_valid_json
from processes import dbt_commands

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]

FILES = {
    "models/schema.yml": """
        models:
          - name: orders
            columns:
              - name: id
                data_tests:
                  - unique
                  - accepted_values: {values: [7], config: {severity: error}}
              - name: amount
                data_tests:
                  - accepted_values: {values: [10], config: {severity: warn}}
        sources:
          - name: pantry
            schema: main
            tables:
              - name: fresh
                identifier: raw_orders
                loaded_at_field: current_timestamp
                freshness: {error_after: {count: 1, period: day}}
              - name: warm
                identifier: raw_orders
                loaded_at_field: current_timestamp - interval 36 hour
                freshness: {warn_after: {count: 1, period: day}, error_after: {count: 2, period: day}}
              - name: stale
                identifier: raw_orders
                loaded_at_field: current_timestamp - interval 72 hour
                freshness: {warn_after: {count: 1, period: day}, error_after: {count: 2, period: day}}
              - name: broken
                identifier: raw_orders
                loaded_at_field: no_such_column
                freshness: {warn_after: {count: 1, period: day}}
              - name: unwatched
                identifier: raw_orders
        """,
}


def check(name: str, kind: str, column: str, dimension: str, severity: str, **fields: object) -> Json:
    return {"name": name, "type": kind, "column": column, "dimension": dimension, "severity": severity, **fields}


CHECKS = [
    check("one row per order", "unique", "id", "consistency", "critical"),
    check("amounts are usual", "accepted_values", "amount", "validity", "warning"),
    check("ids are lucky", "accepted_values", "id", "validity", "critical", enabled=False),
    check("orders are recent", "dbt_utils.recency", "ordered_at", "timeliness", "info"),
]
QUALITY = {"provider": "dbt_expectations", "thresholds": {"min_score": 60, "warn_score": 80}}


@pytest.fixture
def project(stranger: Path) -> Path:
    for name, content in FILES.items():
        (stranger / name).write_text(dedent(content).lstrip(), encoding="utf-8")
    path = artifacts(stranger)
    compiled = json.loads(path.read_text(encoding="utf-8"))
    [orders] = [model for model in compiled["transforms"]["models"] if model["name"] == "orders"]
    orders["quality_checks"] = CHECKS
    path.write_text(json.dumps({**compiled, "quality_config": QUALITY}), encoding="utf-8")
    return stranger


def artifacts(project: Path) -> Path:
    return project / "target" / "compiled_artifacts.json"


def run_job(project: Path, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = definitions_from_file(artifacts(project)).resolve_job_def("jaffle_shop")
    return job.execute_in_process(instance=instance, raise_on_error=False)


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, dg.AssetCheckSeverity]]:
    return {found.check_name: (found.passed, found.severity) for found in result.get_asset_check_evaluations()}


def score(result: dg.ExecuteInProcessResult) -> Json:
    [found] = [found for found in result.get_asset_check_evaluations() if found.check_name == "quality_score"]
    return {name.removeprefix("floe/"): value.value for name, value in found.metadata.items()}


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    events = result.get_asset_materialization_events()
    return {event.asset_key.path[-1] for event in events if event.asset_key is not None}


def ran_by_dbt(project: Path) -> set[str]:
    newest = max(project.glob("build/dbt/*/run_results.json"), key=lambda path: path.stat().st_mtime)
    return {run["unique_id"].split(".")[2] for run in json.loads(newest.read_text(encoding="utf-8"))["results"]}


ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
UNIQUE, USUAL = "unique_orders_id", "accepted_values_orders_amount__10"


def test_declared_checks_rule_what_dbt_tests_mean_for_the_product(project: Path, instance: dg.DagsterInstance) -> None:
    load_product(artifacts(project), manifest_source=manifest_rebuilt)

    first = run_job(project, instance)

    assert first.success
    assert materialized(first) == {"raw_orders", "orders", "totals"}
    assert ran_by_dbt(project) == {"raw_orders", "orders", "totals", UNIQUE, USUAL}
    assert evaluations(first) == {
        UNIQUE: (True, ERROR),
        USUAL: (False, WARN),
        "orders_are_recent": (False, WARN),
        "quality_score": (False, WARN),
    }
    # Validity and timeliness are lost: 65 of 100, on floe's scale 5/70 of 50 points below the baseline of 70.
    assert score(first) == {
        "score": 66.43,
        "score/completeness": 100,
        "score/accuracy": 100,
        "score/validity": 0,
        "score/consistency": 100,
        "score/timeliness": 0,
        "min_score": 60,
        "warn_score": 80,
        "checks_passed": 1,
        "checks_failed": 2,
        "checks_unimplemented": 1,
        "other_dbt_tests_passed": 0,
        "other_dbt_tests_failed": 0,
        "never_evaluated": 0,
    }

    (project / "seeds" / "raw_orders.csv").write_text("id,amount\n1,10\n1,20\n", encoding="utf-8")
    second = run_job(project, instance)

    assert not second.success
    assert materialized(second) == {"raw_orders", "orders"}
    # The step of the score did not run, the failed one recorded it.
    assert evaluations(second) == {
        UNIQUE: (False, ERROR),
        USUAL: (False, WARN),
        "quality_score": (False, ERROR),
    }
    assert score(second)["score"] == 55.71


# dbt writes no compiled file of a snapshot.
SNAPSHOT = """
    {% snapshot order_history %}
    {{ config(unique_key='number', strategy='check', check_cols=['spent'], target_schema='main') }}
    select id as number, amount * 2 as spent from {{ ref('raw_orders') }}
    {% endsnapshot %}
    """


def test_source_freshness_is_what_dbt_finds(
    project: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as backend:
        monkeypatch.setenv("OPENLINEAGE_URL", backend.url.removesuffix("/api/v1/lineage"))
        monkeypatch.setenv("FLOE_STATE_DIR", str(project.parent / "state"))
        check_freshness(project, instance)

    assert_freshness_is_told(backend.events)


def check_freshness(project: Path, instance: dg.DagsterInstance) -> None:
    write_files(project, {"snapshots/history.sql": SNAPSHOT})
    compiled = json.loads(artifacts(project).read_text(encoding="utf-8"))
    compiled["observability"]["lineage"] = True
    artifacts(project).write_text(json.dumps(compiled), encoding="utf-8")
    product = load_product(artifacts(project), manifest_source=manifest_rebuilt)
    definitions = definitions_from_file(artifacts(project))
    keys = [key for key in definitions.resolve_asset_graph().asset_check_keys if key.name == "freshness"]
    tables = [dg.AssetKey(["kitchen", name]) for name in ("raw_orders", "order_history")]
    selection = dg.AssetSelection.assets(*tables) | dg.AssetSelection.checks(*keys)
    job = dg.define_asset_job("on_demand", selection=selection)

    with_job = dg.Definitions(assets=definitions.assets, asset_checks=definitions.asset_checks, jobs=[job])
    options = {"threads": 2, "vars": {"currency": "EUR"}, "exclude": "source:pantry.unwatched"}
    result = with_job.resolve_job_def("on_demand").execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"ops": {"jaffle_shop_source_freshness": {"config": options}}},
    )

    found = {evaluation.asset_key.path[-1]: evaluation for evaluation in result.get_asset_check_evaluations()}
    assert result.success
    messages = [entry.user_message for entry in instance.all_logs(result.run_id)]
    [command] = [message for message in messages if message.startswith("running dbt source freshness")]
    assert '--vars {"currency": "EUR"} --threads 2 ' in command
    assert {name: (evaluation.passed, evaluation.severity) for name, evaluation in found.items()} == {
        "fresh": (True, ERROR),
        "warm": (False, WARN),
        "stale": (False, ERROR),
        "broken": (False, ERROR),
    }
    [planned] = [job for job in plan_product(product, with_job).jobs if job.name == "on_demand"]
    started = dbt_commands(instance, result.run_id)
    assert sorted(started) == ["build", "source"]
    assert (planned.steps, planned.dbt_invocations) == (2, len(started))
    stale: Json = {name: value.value for name, value in found["stale"].metadata.items()}
    assert stale["status"] == "error"
    assert 72 * 3600 <= stale["age_seconds"] < 73 * 3600
    assert stale["max_loaded_at"] < stale["snapshotted_at"]
    assert stale["criteria"]["error_after"] == {"count": 2, "period": "day"}
    assert "no_such_column" in str(found["broken"].description)

    (project / "models" / "typo.sql").write_text("select {{ oops(", encoding="utf-8")
    job = dg.define_asset_job("checks", selection=dg.AssetSelection.checks(*keys))
    with_job = dg.Definitions(assets=definitions.assets, asset_checks=definitions.asset_checks, jobs=[job])
    with pytest.raises(dg.Failure, match="dbt failed: Compilation Error in model typo"):
        with_job.resolve_job_def("checks").execute_in_process(instance=instance)


def assert_freshness_is_told(events: list[Json]) -> None:
    """Each source that was looked at is a run; so is a snapshot, whose columns come from its query."""
    assert_valid_json(events)
    ends = {event["job"]["name"]: event for event in events if event["eventType"] != "START"}
    why = {
        name.rpartition(".")[2]: (event["eventType"], event["run"]["facets"].get("errorMessage", {}).get("message", ""))
        for name, event in ends.items()
        if name.startswith("source.")
    }
    assert {name: state for name, (state, _) in why.items()} == {
        "fresh": "COMPLETE",
        "warm": "COMPLETE",
        "stale": "FAIL",
        "broken": "FAIL",
    }
    assert why["stale"][1].endswith("more than 2 day before the check")
    assert "no_such_column" in why["broken"][1]  # dbt's results leave such a source out
    [history] = ends["snapshot.jaffle.order_history"]["outputs"]
    origins = history["facets"]["columnLineage"]["fields"]
    assert {
        name: [(origin["name"], origin["field"]) for origin in column["inputFields"]]
        for name, column in origins.items()
    } == {
        "number": [("jaffle_shop.main.raw_orders", "id")],
        "spent": [("jaffle_shop.main.raw_orders", "amount")],
    }


def test_declared_checks_hold_without_a_manifest_too(
    project: Path, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = artifacts(project)
    compiled = json.loads(path.read_text(encoding="utf-8"))
    models = {model["name"]: model for model in compiled["transforms"]["models"]}
    models["orders"]["depends_on"] = ["raw_orders"]
    compiled["transforms"]["models"].append({"name": "raw_orders", "compute": "duckdb"})
    elsewhere = tmp_path / "elsewhere" / "compiled_artifacts.json"
    elsewhere.parent.mkdir()
    elsewhere.write_text(json.dumps(compiled), encoding="utf-8")
    schema = project / "models" / "schema.yml"
    schema.write_text(schema.read_text(encoding="utf-8").replace("[7]", "[1, 2]"), encoding="utf-8")
    job = definitions_from_file(elsewhere).resolve_job_def("jaffle_shop")
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(project))

    orders = [dg.AssetKey(["kitchen", name]) for name in ("raw_orders", "orders")]
    first = job.execute_in_process(instance=instance, raise_on_error=False, asset_selection=orders)
    (project / "models" / "orders.sql").write_text("select 1 as id, 10 as amount union all select 1, 20")
    second = job.execute_in_process(instance=instance, raise_on_error=False, asset_selection=orders[1:])

    assert first.success
    assert evaluations(first) == {
        "one_row_per_order": (True, ERROR),
        "amounts_are_usual": (False, WARN),
        "orders_are_recent": (False, WARN),
    }
    assert not second.success
    assert evaluations(second) == {
        "one_row_per_order": (False, ERROR),
        "amounts_are_usual": (False, WARN),
        "orders_are_recent": (False, WARN),
        "quality_score": (False, ERROR),
    }
    assert score(second)["score"] == 55.71
    described = {found.check_name: found.description for found in second.get_asset_check_evaluations()}
    assert described["orders_are_recent"] == "declared, not implemented by any dbt test: nothing was checked"
