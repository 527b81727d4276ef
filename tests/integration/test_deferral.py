"""Runs that defer to another environment, with either engine: which tables dbt reads from there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from files import write_files
from floe_orchestrator_dagster.automation.state_publication import built_state
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from floe_orchestrator_dagster.state.built import publish_built
from integration.failing_shop import built, logged
from unit.samples import contract, model, profiles, write_json

FILES = {
    "dbt_project.yml": """
        name: shop
        version: "1.0"
        profile: shop_orders
        models: {+materialized: table}
        """,
    "models/base.sql": "select 1 as id",
    "models/apart.sql": "select 1 as id",
    "models/first.sql": "select id + 1 as id from {{ ref('base') }}",
    "models/second.sql": """
        select id from {{ ref('first') }}
        {% if var('needs_flag', false) %} where exists (select 1 from read_csv('flag.csv')) {% endif %}
        """,
    "models/schema.yml": """
        models:
          - name: first
            columns:
              - name: id
                data_tests:
                  - relationships:
                      name: first_in_apart
                      arguments: {to: ref('apart'), field: id}
                      config: {severity: warn}
          - name: second
            columns:
              - name: id
                data_tests: [{relationships: {name: second_in_first, arguments: {to: ref('first'), field: id}}}]
        """,
}


def _write_shop(project: Path, engine: dict[str, str]) -> Path:
    """Write a product of two steps, and the state of its production, whose tables are in another schema."""
    write_files(project, FILES)
    deferred = {"defer": True, "favor_state": True, "state": "production"}
    config = {
        "executor": "in_process",
        "dbt": engine,
        "steps": [{"select": "second", "name": "late"}],
        "jobs": [{"name": "part", "select": "first second", **deferred}],
    }
    models = [model("base"), model("apart"), model("first", "base"), model("second", "first")]
    path = write_json(project / "a.json", contract(*models, config=config, dbt_profiles=profiles(threads=1)))
    (project / "production").mkdir()
    state = project / "production" / "manifest.json"
    state.write_text('{"nodes": {}}', encoding="utf-8")
    loaded = load_product(path, manifest_source=manifest_rebuilt).dbt
    assert loaded is not None
    content: dict[str, Any] = json.loads(loaded.manifest.path.read_text(encoding="utf-8"))
    for node in content["nodes"].values():
        if node["resource_type"] == "model":
            relation = str(node["relation_name"]).replace('"main"', '"production"')
            node.update(schema="production", relation_name=relation)
    write_json(state, content)
    with duckdb.connect(str(project / "shop.duckdb")) as connection:
        connection.execute("create schema production")
        connection.execute("create table production.base as select 10 as id union all select 11")
        connection.execute("create table production.apart as select 11 as id")
        connection.execute("create table production.first as select 99 as id")
    return path


def _part_job() -> dg.JobDefinition:
    return definitions_from_file(Path(os.environ["FLOE_ARTIFACTS_PATH"])).resolve_job_def("part")


def _rows(project: Path, table: str) -> list[Any]:
    with duckdb.connect(str(project / "shop.duckdb"), read_only=True) as connection:
        return sorted(row[0] for row in connection.execute(f"select id from {table}").fetchall())  # noqa: S608


@pytest.fixture
def project(tmp_path: Path, engine: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the product and its state."""
    directory = tmp_path / "shop"
    directory.mkdir()
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(_write_shop(directory, engine)))
    monkeypatch.delenv("FLOE_DBT_PROJECT_DIR", raising=False)
    return directory


def test_a_run_reads_the_tables_that_its_earlier_steps_and_tries_have_built(
    project: Path, lasting: dg.DagsterInstance
) -> None:
    job = dg.reconstructable(_part_job)
    late = "shop_orders_dbt_build_late"
    needs_flag = {"ops": {late: {"config": {"vars": {"needs_flag": True}}}}}

    failed = dg.execute_job(job, instance=lasting, run_config=needs_flag)

    assert set(built(failed)) == {"first"}
    # The table of the other environment is enough for a test.
    [check] = failed.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("first_in_apart", False)
    write_files(project, {"flag.csv": "id\n1\n"})
    resumed = dg.execute_job(
        job,
        instance=lasting,
        reexecution_options=dg.ReexecutionOptions.from_failure(failed.run_id, lasting),
        tags={"dagster/is_resume_retry": "true"},
        run_config=needs_flag,
    )

    assert set(built(resumed)) == {"second"}
    assert _rows(project, "main.first") == _rows(project, "main.second") == [11, 12]
    passed = {check.check_name: check.passed for check in resumed.get_asset_check_evaluations()}
    assert passed["second_in_first"]
    commands = [line for line in logged(lasting, resumed.run_id, "INFO").splitlines() if "running dbt" in line]
    assert all("--defer --defer-state " in line and "--favor-state" in line for line in commands)


def test_a_run_can_turn_off_the_options_of_its_job(project: Path, instance: dg.DagsterInstance) -> None:
    job = _part_job()

    def launch(asset: str, **options: object) -> dg.ExecuteInProcessResult:
        config = {"ops": {"shop_orders_dbt_build_rest": {"config": options}}}
        chosen = [dg.AssetKey(asset)]
        return job.execute_in_process(
            instance=instance, asset_selection=chosen, run_config=config, raise_on_error=False
        )

    with_state = launch("first")
    assert set(built(with_state)) == {"first"}
    assert _rows(project, "main.first") == [11, 12]

    without = launch("first", defer=False, favor_state=False, state="", empty=False)

    assert not without.success
    assert built(without) == {}
    [command] = [line for line in logged(instance, without.run_id, "INFO").splitlines() if "running dbt" in line]
    assert "--no-empty" in command
    assert "--no-defer" in command


TWO_COMPUTES = {
    "dbt_project.yml": """
        name: shop
        version: "1.0"
        profile: shop_orders
        models:
          +materialized: table
          shop:
            first: {+database: "{{ env_var('SHOP') }}_first"}
        """,
    "models/first.sql": "select 1 as id union all select 2",
    "models/second.sql": "select sum(id) as total from {{ ref('first') }}",
}


def test_a_step_reads_the_table_that_another_compute_has_built_in_production(
    tmp_path: Path, engine: dict[str, str], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_files(tmp_path / "shop", TWO_COMPUTES)
    first, second = (str(project / f"{{{{ env_var('SHOP') }}}}_{name}.duckdb") for name in ("first", "second"))
    other = {
        "type": "duckdb",
        "path": second,
        "threads": 1,
        "attach": [{"path": str(project / "production_first.duckdb"), "read_only": True}],
    }
    config = {
        "executor": "in_process",
        "dbt": engine,
        "computes": {"other": other},
        "state": {"url": str(tmp_path / "store")},
        "jobs": [{"name": "part", "select": "second", "defer": True}],
    }
    models = [model("first"), model("second", "first", compute="other")]
    path = write_json(
        project / "a.json", contract(*models, config=config, dbt_profiles=profiles(path=first, threads=1))
    )
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(path))
    monkeypatch.setenv("SHOP", "production")
    product = load_product(path, manifest_source=manifest_rebuilt)
    production = definitions_from_file(path).get_repository_def().get_job(product.identifier)
    assert built(production.execute_in_process(instance=instance)).keys() == {"first", "second"}
    keys = {f"model.shop.{name}": dg.AssetKey(name) for name in ("first", "second")}
    publish_built(product, built_state(instance, product, keys), "", str(tmp_path / "store"))
    with duckdb.connect(str(project / "production_first.duckdb")) as connection:
        connection.execute("insert into first values (40)")

    monkeypatch.setenv("SHOP", "development")
    load_product(path, manifest_source=manifest_rebuilt)
    deferred = _part_job().execute_in_process(instance=instance)

    assert built(deferred).keys() == {"second"}
    with duckdb.connect(str(project / "development_second.duckdb"), read_only=True) as connection:
        assert connection.execute("select total from second").fetchall() == [(43,)]
