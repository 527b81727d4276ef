"""Nodes that were selected and that dbt leaves out without an error: the step fails and names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dbt_v2 import set_engine
from files import write_files
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.failing_shop import failure_of, logged, own_copy, product_job, ran, tried_again
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "dbt_project.yml": '{name: shop, profile: shop_orders, version: "1.0"}',
    "models/a.sql": "select 1 as id",
    "models/b.sql": "select id from {{ ref('a') }}",
    "models/c.sql": "{{ config(enabled=var('with_c', true)) }} select 1 as id",
    "models/schema.yml": """
        models:
          - {name: b, columns: [{name: id, data_tests: [not_null]}]}
        unit_tests:
          - {name: u1, model: b, given: [{input: ref('a'), rows: [{id: 1}]}], expect: {rows: [{id: 1}]}}
          - {name: u2, model: b, given: [{input: ref('a'), rows: [{id: 2}]}], expect: {rows: [{id: 2}]}}
        """,
}
STEP = "shop_orders_dbt_build"
RELOAD = "    fix: Run `floe-dagster prepare` and reload the code location."
GONE = "it was removed, renamed or changed after the code location was loaded"


@pytest.fixture(scope="session")
def _parsed_letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_files(tmp_path_factory.mktemp("letters") / "letters", FILES)
    config = {"executor": "in_process", "retries": {"max_retries": 1}}
    artifacts = contract(*(model(name) for name in "abc"), config=config)
    load_product(write_json(project / "compiled_artifacts.json", artifacts), manifest_source=manifest_rebuilt)
    return project


@pytest.fixture
def letters(_parsed_letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a project of three models, one of which a variable disables."""
    return own_copy(_parsed_letters, tmp_path, monkeypatch)


def test_models_that_were_renamed_since_the_load_fail_the_step_and_their_new_names_are_warned_of(
    letters: Path, instance: dg.DagsterInstance, engine: dict[str, str]
) -> None:
    set_engine(letters / "compiled_artifacts.json", engine)
    job = product_job()
    (letters / "models" / "b.sql").rename(letters / "models" / "b2.sql")
    (letters / "models" / "schema.yml").unlink()

    result = job.execute_in_process(instance=instance, raise_on_error=False)

    assert failure_of(result).splitlines() == [
        f"{letters}: 4 selected nodes were not run, 3 succeeded",
        f"  models/b.sql: dbt no longer has model b: {GONE}",
        f"  models/schema.yml: dbt no longer has test not_null_b_id: {GONE}",
        f"  models/schema.yml: dbt no longer has unit test u1: {GONE}",
        f"  models/schema.yml: dbt no longer has unit test u2: {GONE}",
        RELOAD,
    ]
    assert tried_again(result) == 0
    assert logged(instance, result.run_id, "WARNING") == (
        "dbt ran nodes that are not assets or checks: model b2. They were added to the dbt project after the "
        "code location was loaded. Run `floe-dagster prepare` and reload the code location."
    )


def launched(instance: dg.DagsterInstance, name: str, **options: object) -> dg.ExecuteInProcessResult:
    """Run the product's job for one asset."""
    config = {"ops": {STEP: {"config": options}}}
    chosen = [dg.AssetKey(name)]
    return product_job().execute_in_process(
        instance=instance, asset_selection=chosen, run_config=config, raise_on_error=False
    )


def test_a_part_of_the_product_that_is_disabled_fails_by_name(
    letters: Path, instance: dg.DagsterInstance, engine: dict[str, str]
) -> None:
    set_engine(letters / "compiled_artifacts.json", engine)

    disabled = launched(instance, "c", vars={"with_c": False})

    assert failure_of(disabled).splitlines() == [
        f"{letters}: 1 selected node was not run, 0 succeeded",
        (
            "  models/c.sql: model c was not run: it is disabled in this run, its `enabled` depends on a variable, the "
            "target or the environment"
        ),
        (
            "    fix: Run with the manifest's variables and target, or run `floe-dagster prepare` with these values "
            "and reload."
        ),
    ]


def test_a_part_of_the_product_that_a_variable_excludes_fails_by_name(
    letters: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_EXCLUDE_RESOURCE_TYPES", "unit_test")
    launched(instance, "a")

    excluded = launched(instance, "b")

    variable = "DBT_EXCLUDE_RESOURCE_TYPES='unit_test'"
    assert failure_of(excluded).splitlines() == [
        f"{letters}: 2 selected nodes were not run, 2 succeeded",
        f"  models/schema.yml: unit test u1 was not run: dbt omits it because of {variable}",
        f"  models/schema.yml: unit test u2 was not run: dbt omits it because of {variable}",
        "    fix: Unset the variable where Dagster's runs get their environment.",
    ]


def test_a_test_that_was_added_since_the_load_keeps_retries_red_until_it_passes(
    letters: Path, lasting: dg.DagsterInstance, engine: dict[str, str]
) -> None:
    set_engine(letters / "compiled_artifacts.json", engine)
    job = dg.reconstructable(product_job)
    # A run that finds the test in a project whose manifest does not have it yet.
    (letters / "tests").mkdir()
    (letters / "tests" / "added.sql").write_text("select 1 where not exists (select 1 from glob('flag.csv'))")

    first = dg.execute_job(job, instance=lasting)
    (letters / "flag.csv").touch()
    again = dg.execute_job(
        job,
        instance=lasting,
        reexecution_options=dg.ReexecutionOptions.from_failure(first.run_id, lasting),
        tags={"dagster/is_resume_retry": "true"},
    )

    assert not first.success
    assert tried_again(first) == 1
    assert again.success
    assert [names for names in ran(letters) if "added" in names][1:] == [{"added"}, {"added"}]
    # Five nodes and two unit tests.
    assert "/7 success model a, " in logged(lasting, first.run_id, "INFO")
