"""Check of a dbt engine: a project of two models is built with it, and the result is compared with the expected one."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import FloeDagsterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import dagster as dg

    from floe_orchestrator_dagster.product.engines import EngineChoice

_NAME = "engine-check"
_FILES = {
    "dbt_project.yml": "{name: engine_check, version: '1.0', profile: engine_check}",
    "models/amounts.sql": "{{ config(materialized='table') }} select 1 as id, 10.5 as amount",
    "models/totals.sql": "{{ config(materialized='table') }} select sum(amount) as total from {{ ref('amounts') }}",
    "models/schema.yml": """
models:
  - name: amounts
    columns: [{name: id, data_tests: [unique]}]
  - name: totals
    columns: [{name: total, data_tests: [{not_null: {config: {severity: warn}}}]}]
""",
    "tests/no_large_total.sql": "{{ config(severity='warn') }} select * from {{ ref('totals') }} where total > 10",
}
# The expected result: columns of the tables; whether each check has passed, and its failing rows.
_COLUMNS = {"amounts": ["id", "amount"], "totals": ["total"]}
_CHECKS = {"unique_amounts_id": (True, 0), "not_null_totals_total": (True, 0), "no_large_total": (False, 1)}

# Variables of the user's product and of its dbt project.
_OF_THE_PRODUCT = ("FLOE_ARTIFACTS_PATH", "FLOE_DBT_PROJECT_DIR", "FLOE_ENV", "FLOE_STATE_DIR")
_PREFIX_OF_DBT = "DBT_"


@dataclass(frozen=True)
class EngineCheck:
    """The result of a check.

    Attributes:
        engine: Name and version of the engine.
        differences: What differs from the expected result; empty when nothing does.
    """

    engine: str
    differences: tuple[str, ...]


def check_engine(choice: EngineChoice) -> EngineCheck:
    """Build the project on DuckDB, in a temporary directory and without the environment variables of other projects.

    Raises:
        FloeDagsterError: The engine is not installed, or the project cannot be prepared with it.
    """
    import dagster as dg

    from floe_orchestrator_dagster.code_location import build_definitions
    from floe_orchestrator_dagster.product import load_product, manifest_parsed_offline

    with tempfile.TemporaryDirectory(prefix="floe-engine-check-") as directory, _without_variables_of_projects():
        artifacts = _written(Path(directory), choice)
        product = load_product(artifacts, manifest_source=manifest_parsed_offline)
        if product.dbt is None:
            raise FloeDagsterError(f"{directory}: the project of the check was removed. Run the check again.")
        job = build_definitions(product).resolve_job_def(_NAME.replace("-", "_"))
        printed = StringIO()
        with dg.DagsterInstance.ephemeral() as instance, redirect_stdout(printed), redirect_stderr(printed):
            result = job.execute_in_process(instance=instance, raise_on_error=False)
        return EngineCheck(str(product.dbt.engine), tuple(_differences(result)))


@contextmanager
def _without_variables_of_projects() -> Iterator[None]:
    """Remove the variables that choose a project, its paths, target and flags, also for the processes of dbt."""
    before = dict(os.environ)
    for name in before:
        if name in _OF_THE_PRODUCT or name.startswith(_PREFIX_OF_DBT):
            del os.environ[name]
    os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _differences(result: dg.ExecuteInProcessResult) -> list[str]:
    columns: dict[str, list[str]] = {}
    for key, metadata in _reported_tables(result):
        schema: Any = metadata.get("dagster/column_schema")
        names = [column.name for column in schema.value.columns] if schema else []
        columns[key.path[-1]] = names or columns.get(key.path[-1], [])
    checks = {
        check.check_name: (check.passed, getattr(check.metadata.get("dagster_dbt/failed_row_count"), "value", 0) or 0)
        for check in result.get_asset_check_evaluations()
    }
    found: list[tuple[str, object, object]] = [
        ("failures of the run", [], [*_failures(result)]),
        ("columns of the tables", _COLUMNS, columns),
        ("results and failing rows of the checks", dict(sorted(_CHECKS.items())), dict(sorted(checks.items()))),
    ]
    return [f"{what}: expected {expected}, found {actual}" for what, expected, actual in found if expected != actual]


def _failures(result: dg.ExecuteInProcessResult) -> Iterator[str]:
    for event in result.all_events:
        error = event.step_failure_data.error if event.is_step_failure else None
        if error is not None:
            yield (error.cause or error).message.strip()


def _reported_tables(result: dg.ExecuteInProcessResult) -> Iterator[tuple[dg.AssetKey, Mapping[str, object]]]:
    """List the metadata of materializations and observations; columns may be reported after the build."""
    for event in result.all_events:
        if event.is_step_materialization:
            materialization = event.step_materialization_data.materialization
            yield materialization.asset_key, materialization.metadata
        elif event.is_asset_observation:
            observation = event.asset_observation_data.asset_observation
            yield observation.asset_key, observation.metadata


def _written(directory: Path, choice: EngineChoice) -> Path:
    for name, text in _FILES.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    path = directory / "compiled_artifacts.json"
    path.write_text(json.dumps(_artifacts(choice)), encoding="utf-8")
    return path


def _artifacts(choice: EngineChoice) -> dict[str, Any]:
    executable = {} if choice.executable is None else {"executable": choice.executable}
    resource = dict.fromkeys(("service_name", "floe_namespace", "floe_product_name"), _NAME)
    version = dict.fromkeys(("service_version", "floe_product_version"), "1.0.0")
    mode = dict.fromkeys(("deployment_environment", "floe_mode"), "dev")
    models = [
        {"name": "amounts", "compute": "duckdb", "depends_on": []},
        {"name": "totals", "compute": "duckdb", "depends_on": ["amounts"]},
    ]
    config = {"executor": "in_process", "dbt": {"engine": choice.engine, **executable}, "lineage": {"enabled": False}}
    output = {"type": "duckdb", "path": "engine_check.duckdb", "threads": 1}
    return {
        "version": "0.16.0",
        "metadata": {
            "compiled_at": "2026-01-01T00:00:00Z",
            "floe_version": "0.1.0",
            "source_hash": "sha256:0",
            "product_name": _NAME,
            "product_version": "1.0.0",
        },
        "identity": {"product_id": "floe.engine_check", "domain": "floe", "repository": ""},
        "observability": {
            "telemetry": {"resource_attributes": {**resource, **version, **mode}},
            "lineage": False,
            "lineage_namespace": _NAME,
        },
        "plugins": {
            "compute": {"type": "duckdb", "version": "0.1.0"},
            "orchestrator": {"type": "dagster", "version": "0.1.0", "config": config},
        },
        "transforms": {"models": models, "default_compute": "duckdb"},
        "dbt_profiles": {_NAME: {"target": "dev", "outputs": {"dev": output}}},
    }
