"""Validation of a product: all problems at once, and valid exactly when the product loads."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from floe_orchestrator_dagster.cli import main
from floe_orchestrator_dagster.errors import (
    ArtifactsError,
    ConfigError,
    FloeDagsterError,
    ManifestError,
    Problem,
    ProfileError,
    ProjectError,
    ScheduleError,
    SpecError,
)
from floe_orchestrator_dagster.inspect.validation import Findings, ProductWarning, examine_product
from floe_orchestrator_dagster.product import load_product
from floe_orchestrator_dagster.product.trimmed_file import TRIMMED_FILE
from unit.samples import Json, contract, ingestion_output, manifest, model, node, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path

_SPEC = """
apiVersion: floe.dev/v1
kind: FloeSpec
metadata: {{name: {name}, version: 1.0.0}}
transforms: [{{name: a}}]
schedule: {{cron: "0 25 * * *"}}
"""


def _data_contract(*tables: str) -> Json:
    return {
        "apiVersion": "v3.0.2",
        "kind": "DataContract",
        "id": "shop",
        "version": "1.0.0",
        "status": "active",
        "schema": [{"name": name} for name in tables],
    }


def _compiled(directory: Path, *models: Json, config: Json | None = None, **changes: object) -> Path:
    content = {**contract(*models, config=config), **changes}
    return write_json(directory / "compiled_artifacts.json", content)


def _parsed(directory: Path, *names: str) -> None:
    """Make a dbt project with a manifest of these models."""
    write_project(directory)
    write_json(directory / "target" / "manifest.json", manifest(*(node(name) for name in names)))


def _kinds(errors: tuple[FloeDagsterError, ...]) -> list[type[FloeDagsterError]]:
    return [type(error) for error in errors]


def test_product_that_loads_has_its_definitions_and_no_errors(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("orders"), config={"default_schedule": "@daily"})
    _parsed(tmp_path, "orders")

    findings = examine_product(path)

    assert (findings.errors, findings.warnings) == ((), ())
    assert findings.loaded is not None
    assert findings.loaded.product.name == "shop-orders"
    assert [schedule.name for schedule in findings.loaded.definitions.schedules or []] == ["shop_orders_schedule"]


def test_independent_stages_all_report(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("a", "b"), model("b", "a"), config={"timezne": "UTC"}, dbt_profiles={})
    _parsed(tmp_path, "a", "c")
    (tmp_path / "floe.yaml").write_text("kind: Nothing", encoding="utf-8")

    findings = examine_product(path)

    assert _kinds(findings.errors) == [ArtifactsError, ConfigError, SpecError, ProfileError, ManifestError]
    assert [error.problems[0].where for error in findings.errors] == [
        "transforms.models",
        "plugins.orchestrator.config.timezne",
        "apiVersion",
        "dbt_profiles",
        "transforms.models[1].name",
    ]
    assert findings.loaded is None


def test_schedule_profile_and_missing_manifest_report_together(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("a", compute="spark"), config={"default_schedule": "0 0 31 2 *"})
    write_project(tmp_path)

    findings = examine_product(path)

    assert _kinds(findings.errors) == [ConfigError, ProfileError, ManifestError]
    assert "cron '0 0 31 2 *' cannot fire" in str(findings.errors[0])
    assert f"Run `floe-dagster prepare {path}`" in findings.errors[2].problems[0].fix


def test_schedule_of_floe_yaml_is_checked_although_the_configuration_is_wrong(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("a"), config={"colour": "red"})
    (tmp_path / "floe.yaml").write_text(_SPEC.format(name="shop-orders"), encoding="utf-8")

    findings = examine_product(path)

    assert _kinds(findings.errors) == [ConfigError, ScheduleError]
    assert str(findings.errors[1]).startswith("floe.yaml of 'shop-orders', schedule: cron '0 25 * * *' cannot fire: ")


def test_configuration_is_read_although_the_contract_has_fields_that_floe_does_not_know(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("a"), config={"timezne": "UTC"}, colour="red")

    findings = examine_product(path)

    assert [error.problems[0].where for error in findings.errors] == ["colour", "plugins.orchestrator.config.timezne"]


def _wrong(findings: Findings) -> list[str]:
    """Say where the configuration is wrong: it is the only error."""
    (error,) = findings.errors
    assert isinstance(error, ConfigError)
    return [problem.where.removeprefix("plugins.orchestrator.config.") for problem in error.problems]


def test_one_error_has_all_problems_of_the_configuration(tmp_path: Path) -> None:
    config = {
        "colour": "red",
        "timezone": "Mars/Base",
        "jobs": [{"name": "shop_orders"}, {"name": "x", "select": "tag:nobody", "tags": {"retries": 1}}],
        "schedules": [
            "daily",
            {"name": "twice", "cron": "noon", "job": "weekly", "selekt": "a"},
            {"name": "twice", "cron": "@daily", "select": "tag:nobody"},
        ],
        "sensors": [{"type": "http"}, {"type": "asset", "name": "follow", "asset": "/"}],
        "automation": [{"condition": "eager", "select": "typo"}, {"condition": "eager", "cron": "@daily"}],
        "partitions": [{"select": "nothing", "type": "daily", "start": "soon"}],
    }
    path = _compiled(tmp_path, model("a"), config=config)
    _parsed(tmp_path, "a")

    assert sorted(_wrong(examine_product(path))) == sorted(
        [
            "colour",
            "timezone",
            "jobs[0].name",
            "jobs[1].tags.retries",
            "jobs[1].select",
            "schedules",
            "schedules[0]",
            "schedules[1].cron",
            "schedules[1].selekt",
            "schedules[2].select",
            "sensors[0].type",
            "sensors[1].asset",
            "automation[0].select",
            "automation[1].cron",
            "partitions[0].select",
            "partitions[0].start",
        ]
    )


def test_settings_that_cannot_be_checked_are_not_reported(tmp_path: Path) -> None:
    config = {
        "jobs": [{"name": 5}],
        "schedules": [{"name": "a", "cron": "@daily", "job": "nightly"}],
        "computes": {"spark": 5},
    }
    path = _compiled(tmp_path, model("a", compute="spark"), config=config)
    _parsed(tmp_path, "a")

    assert _wrong(examine_product(path)) == ["jobs[0].name", "computes.spark"]


def test_unknown_jobs_and_wrong_selections_are_found_although_the_profile_cannot_be_used(tmp_path: Path) -> None:
    config = {
        "jobs": [{"name": "part", "select": "tag:nobody"}],
        "schedules": [{"name": "a", "cron": "@daily", "job": "nightly"}],
    }
    path = _compiled(tmp_path, model("a"), config=config, dbt_profiles={})
    _parsed(tmp_path, "a")

    findings = examine_product(path)

    assert _kinds(findings.errors) == [ConfigError, ProfileError]
    assert _wrong(Findings(findings.errors[:1])) == ["schedules[0].job", "jobs[0].select"]


def test_assets_by_which_sensors_would_launch_themselves_are_reported_at_once(tmp_path: Path) -> None:
    sensors = [{"type": "asset", "name": name, "asset": "a"} for name in ("x", "y")]
    path = _compiled(tmp_path, model("a"), config={"sensors": sensors})
    _parsed(tmp_path, "a")

    assert _wrong(examine_product(path)) == ["sensors[0].asset", "sensors[1].asset"]


@pytest.mark.parametrize("plugins", [None, [], {}, {"orchestrator": 5}, {"orchestrator": {"config": []}}])
def test_malformed_plugins_are_reported_once_with_the_contract(tmp_path: Path, plugins: object) -> None:
    path = _compiled(tmp_path, model("a"), plugins=plugins)

    findings = examine_product(path)

    assert set(_kinds(findings.errors)) <= {ArtifactsError}


def test_missing_dependencies_are_checked_with_the_manifest_if_there_is_one(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("a", "nowhere"))
    without_project = examine_product(path)
    _parsed(tmp_path, "a", "b")
    with_project = examine_product(path)

    for findings in (without_project, with_project):
        assert _kinds(findings.errors) == [ArtifactsError]
        assert findings.errors[0].problems[0].where == "transforms.models[0].depends_on[0]"


def test_wrong_project_directory_does_not_hide_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(tmp_path / "nowhere"))
    path = _compiled(tmp_path, model("a", "unknown"), config={"colour": "red"})

    findings = examine_product(path)

    assert _kinds(findings.errors) == [ConfigError, ProjectError]


def test_dbt_project_that_is_not_a_mapping_is_reported(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("a"))
    (tmp_path / "dbt_project.yml").write_text("[]", encoding="utf-8")

    assert _kinds(examine_product(path).errors) == [ProjectError]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "the file does not exist"),
        ('{"version": "0.16.0", "meta', "is not JSON, or is cut off: unexpected end of data (line 1, column 28)"),
        ("[]", "contains an array, not a JSON object"),
        ("{}", "is missing"),
    ],
)
def test_artifacts_that_cannot_be_read_are_the_only_problem(tmp_path: Path, content: str | None, what: str) -> None:
    path = tmp_path / "compiled_artifacts.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")

    findings = examine_product(path)

    assert _kinds(findings.errors) == [ArtifactsError]
    assert findings.errors[0].problems[0].what == what


def test_path_that_the_system_rejects_is_a_problem_not_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 5000)

    findings = examine_product(path)

    assert [str(error) for error in findings.errors] == [
        (
            f"{path}: 1 problem\n"
            "  cannot be accessed: File name too long\n"
            "    fix: Correct the path, or let this user read the file."
        )
    ]


def test_group_that_dagster_rejects_gets_another_name(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("a"))
    write_project(tmp_path)
    grouped = node("a", meta={"dagster": {"group": "the shop"}})
    write_json(tmp_path / "target" / "manifest.json", manifest(grouped))

    findings = examine_product(path)

    assert not findings.errors
    assert findings.loaded is not None


def test_definitions_that_only_dagster_rejects_are_reported_with_its_reason(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("a"))
    write_project(tmp_path)
    tags = [f"dagster/kind/kind_{number}" for number in range(10)]
    write_json(tmp_path / "target" / "manifest.json", manifest(node("a", tags=tags)))

    findings = examine_product(path)

    assert _kinds(findings.errors) == [ArtifactsError]
    (problem,) = findings.errors[0].problems
    assert problem.what.startswith("Dagster refuses the definitions: Assets can have at most ten kinds")
    assert problem.fix == "Correct what it names, in floe.yaml, the dbt project or plugins.orchestrator.config."
    assert findings.loaded is None


def test_product_name_that_is_not_a_valid_job_name_is_reported(tmp_path: Path) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("a"), name="config"))

    findings = examine_product(path)

    assert [error.problems[0].where for error in findings.errors] == ["metadata.product_name"]
    assert findings.loaded is None


def test_missing_dbt_project_is_a_warning(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("a"))

    findings = examine_product(path)

    fix = "Set FLOE_DBT_PROJECT_DIR to the dbt project, or put the artifacts into it."
    assert findings.errors == ()
    assert findings.warnings == (
        ProductWarning(str(path), Problem("", "no dbt project, so assets can be seen but not run", fix)),
    )


def test_product_without_transforms_needs_no_dbt_project(tmp_path: Path) -> None:
    path = _compiled(tmp_path)
    write_project(tmp_path)

    findings = examine_product(path)

    assert (findings.errors, findings.warnings) == ((), ())
    assert findings.loaded is not None


def test_warnings_are_collected_once_and_not_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    profile = {"target": "dev", "outputs": {"dev": {"type": "duckdb", "path": "{{ env_var('WAREHOUSE') }}"}}}
    path = _compiled(tmp_path, model("a"), dbt_profiles={"shop-orders": profile})
    _parsed(tmp_path, "a")
    (tmp_path / "floe.yaml").write_text(_SPEC.format(name="other"), encoding="utf-8")

    findings = examine_product(path)

    assert [str(remark) for remark in findings.warnings] == [
        f"{tmp_path}/floe.yaml belongs to product 'other', not 'shop-orders', and is not used",
        f"{path}: the dbt profile reads WAREHOUSE, which is not set; runs will fail",
    ]
    assert {remark.file for remark in findings.warnings} == {""}
    assert findings.loaded is not None
    assert caplog.records == []
    assert logging.getLogger("floe_orchestrator_dagster").propagate


def test_declared_checks_that_dbt_does_not_run_as_declared_are_warnings(tmp_path: Path) -> None:
    checks = [
        {"name": "id_unique", "type": "unique", "column": "id", "dimension": "consistency", "severity": "warning"},
        {"name": "rows", "type": "row_count", "dimension": "completeness", "severity": "critical"},
    ]
    path = _compiled(tmp_path, model("a", quality_checks=checks))
    write_project(tmp_path)
    test = node(
        "unique_a_id",
        "test",
        config={"severity": "ERROR", "enabled": True},
        test_metadata={"name": "unique", "kwargs": {"column_name": "id"}},
        column_name="id",
        attached_node="model.shop.a",
        depends_on={"nodes": ["model.shop.a"]},
    )
    write_json(tmp_path / "target" / "manifest.json", manifest(node("a"), test))

    findings = examine_product(path)

    assert findings.errors == ()
    assert [(remark.file, remark.problem.where) for remark in findings.warnings] == [
        (str(path), "transforms.models[0].quality_checks[1]"),
        (str(path), "transforms.models[0].quality_checks[0].severity"),
    ]


def test_data_contracts_of_unknown_tables_are_warnings_unless_ingestion_writes_them(tmp_path: Path) -> None:
    contracts = [_data_contract("orders", "nowhere", "events")]
    path = _compiled(
        tmp_path, model("orders"), data_contracts=contracts, ingestion_outputs=[ingestion_output("bronze.events")]
    )
    _parsed(tmp_path, "orders")

    findings = examine_product(path)

    assert findings.errors == ()
    assert [remark.problem.where for remark in findings.warnings] == ["data_contracts[0].schema[1]"]


def test_invalid_data_contract_is_reported_with_other_problems(tmp_path: Path) -> None:
    broken = {**_data_contract("orders"), "slaProperties": [{"property": "freshness", "value": "soon"}]}
    path = _compiled(tmp_path, model("orders"), data_contracts=[broken], config={"colour": "red"})
    _parsed(tmp_path, "orders")

    assert [error.problems[0].where for error in examine_product(path).errors] == [
        "plugins.orchestrator.config.colour",
        "data_contracts[0].slaProperties[0].value",
    ]


def test_nothing_is_changed_and_only_the_trimmed_manifest_is_written(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("a"))
    _parsed(tmp_path, "a")
    before = {entry: entry.stat().st_mtime_ns for entry in tmp_path.rglob("*") if entry.is_file()}

    examine_product(path)

    after = {entry: entry.stat().st_mtime_ns for entry in tmp_path.rglob("*") if entry.is_file()}
    after.pop(tmp_path / "target" / TRIMMED_FILE)
    assert after == before


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_help_names_the_file_that_is_written(command: str) -> None:
    shown = CliRunner().invoke(main, [command, "--help"]).output

    words = " ".join(shown.split())
    assert re.search(rf"It writes (one file, as every load does:|at most) {re.escape(TRIMMED_FILE)}", words)


@pytest.mark.parametrize(
    "models", [[model("a")], [model("a", "a")], [model("a", "zzz")], [model("a", compute="x")], []]
)
def test_product_is_valid_exactly_when_it_loads(tmp_path: Path, models: list[Json]) -> None:
    path = _compiled(tmp_path, *models)
    _parsed(tmp_path, "a")
    try:
        load_product(path)
        loads = True
    except FloeDagsterError:
        loads = False

    assert (examine_product(path).loaded is not None) is loads
