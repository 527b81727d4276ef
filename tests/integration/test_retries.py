"""A step that fails is tried again as often as configured, and runs what is left; so does a re-execution."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.failing_shop import built, failure_of, ran, set_shop_engine, states, tried_again
from openlineage_schemas import assert_valid_json
from unit.samples import Json, contract, model, write_json

if TYPE_CHECKING:
    from lineage_backend import LineageServer

FILES = {
    "dbt_project.yml": '{name: shop_orders, profile: shop_orders, version: "1.0"}',
    "models/broken.sql": "select * from nowhere",
}


@pytest.fixture(scope="session")
def _parsed_broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_files(tmp_path_factory.mktemp("retries") / "broken", FILES)
    path = write_json(project / "compiled_artifacts.json", contract(model("broken")))
    load_product(path, manifest_source=manifest_rebuilt)
    return project


@pytest.fixture
def broken(_parsed_broken: Path, tmp_path: Path) -> Path:
    """Give a project whose only model fails."""
    return Path(shutil.copytree(_parsed_broken, tmp_path / "broken"))


@pytest.mark.parametrize(("retries", "tries"), [(None, 1), ({"max_retries": 1, "delay_seconds": 0.1}, 2)])
def test_failing_step_is_tried_as_often_as_configured(
    broken: Path, instance: dg.DagsterInstance, engine: dict[str, str], retries: Json | None, tries: int
) -> None:
    config = {"dbt": engine, **({"retries": retries} if retries else {})}
    path = write_json(broken / "compiled_artifacts.json", contract(model("broken"), config=config))

    job = definitions_from_file(path).get_repository_def().get_job("shop_orders")
    result = job.execute_in_process(instance=instance, raise_on_error=False)

    assert not result.success
    assert tried_again(result) == tries - 1
    assert len(ran(broken)) == tries


def job_that_tries_twice(shop: Path, engine: dict[str, str]) -> dg.JobDefinition:
    path = set_shop_engine(shop, engine)
    artifacts = json.loads(path.read_text())
    artifacts["plugins"]["orchestrator"]["config"]["retries"] = {"max_retries": 1}
    write_json(path, artifacts)
    return definitions_from_file(path).resolve_job_def("shop_orders")


def test_a_hook_that_fails_is_named_and_a_retry_runs_it_again_with_its_nodes(
    shop: Path, instance: dg.DagsterInstance, engine: dict[str, str]
) -> None:
    job = job_that_tries_twice(shop, engine)

    def launch(**options: object) -> dg.ExecuteInProcessResult:
        config = {"ops": {"shop_orders_dbt_build": {"config": options}}}
        chosen = [dg.AssetKey("first")]
        return job.execute_in_process(
            instance=instance, asset_selection=chosen, run_config=config, raise_on_error=False
        )

    result = launch(vars={"break_hook": True})

    assert tried_again(result) == 1
    headline, hook, *_ = failure_of(result).splitlines()
    assert headline == f"{shop}: 1 on-run hook failed, 2 succeeded"
    assert hook.startswith("  dbt_project.yml: hook shop.on-run-end.1: ")
    assert [names & {"first", "unique_first_ID"} for names in ran(shop)] == [{"first", "unique_first_ID"}] * 2
    refused = launch(flags=["--select"])
    assert "is not passed to dbt" in failure_of(refused)
    assert tried_again(refused) == 0


def test_a_retry_of_the_step_runs_only_what_is_left(
    shop: Path, instance: dg.DagsterInstance, backend: LineageServer, engine: dict[str, str]
) -> None:
    job = job_that_tries_twice(shop, engine)
    chosen = [dg.AssetKey(name) for name in ("regions", "first", "flaky", "child")]
    config = {"ops": {"shop_orders_dbt_build": {"config": {"vars": {"mend": True}}}}}

    result = job.execute_in_process(instance=instance, asset_selection=chosen, run_config=config)

    assert result.success
    first, second = ran(shop)
    assert {"regions", "first", "flaky", "child"} <= first
    assert {name for name in second if not name.startswith("shop-on-run-end")} == {
        "flaky",
        "child",
        "not_null_child_id",
    }
    assert all(metadata["status"] == "success" for metadata in built(result).values())
    assert_valid_json(backend.events)
    assert states(backend, "shop-orders") == ["START", "COMPLETE"]  # no FAIL of a step that is tried again
    assert states(backend, "model.shop.flaky") == ["START", "FAIL", "START", "COMPLETE"]
    first_try, _, second_try, _ = (e for e in backend.events if e["job"]["name"] == "model.shop.flaky")
    assert first_try["run"]["runId"] != second_try["run"]["runId"]


def keys_left(instance: dg.DagsterInstance, run_id: str) -> tuple[set[dg.AssetKey], set[dg.AssetCheckKey]]:
    """Ask Dagster what a re-execution of the failed assets selects, as its webserver does."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    plan = instance.get_execution_plan_snapshot(str(run.execution_plan_snapshot_id))
    find = getattr(instance, "_get_keys_to_reexecute", None)  # of Dagster 1.10
    if find is None:
        from dagster._core.instance.runs.run_domain import RunDomain

        find = RunDomain(instance).get_keys_to_reexecute
    assets, checks = find(run_id, plan)
    return set(assets), set(checks)


def test_a_re_execution_of_failed_assets_runs_what_dagster_selects(
    shop: Path, instance: dg.DagsterInstance, engine: dict[str, str]
) -> None:
    artifacts = set_shop_engine(shop, engine)
    job = definitions_from_file(artifacts).resolve_job_def("shop_orders")
    chosen = [dg.AssetKey(name) for name in ("first", "flaky", "child", "checked", "after_checked")]
    first = job.execute_in_process(instance=instance, asset_selection=chosen, raise_on_error=False)
    assets, checks = keys_left(instance, first.run_id)

    (shop / "flag.csv").write_text("id\n1\n", encoding="utf-8")
    (shop / "checked.csv").write_text("id\n1\n", encoding="utf-8")
    again = job.get_subset(asset_selection=assets, asset_check_selection=checks).execute_in_process(
        instance=instance,
        tags={
            "dagster/is_asset_resume_retry": "true",
            "dagster/parent_run_id": first.run_id,
            "dagster/root_run_id": first.run_id,
        },
    )

    assert {key.path[-1] for key in assets} == {"flaky", "child", "checked", "after_checked"}
    assert again.success
    assert set(built(again)) == {"flaky", "child", "checked", "after_checked"}
    assert {name for name in ran(shop)[-1] if not name.startswith("shop-on-run-end")} == {
        *("flaky", "child", "not_null_child_id"),
        *("checked", "accepted_values_checked_id__1", "after_checked"),
    }
