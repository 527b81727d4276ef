"""Products as their authors have them: other names, other places, directories that cannot be written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest

from floe_orchestrator_dagster import DagsterOrchestratorPlugin, load_product_definitions
from floe_orchestrator_dagster.errors import ArtifactsError
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from processes import clean_environment, floe_compile, floe_dagster, run_python

if TYPE_CHECKING:
    from pathlib import Path

MATERIALIZE = ("-m", "dagster", "asset", "materialize")


def query(database: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.sql(sql).fetchall()


def test_a_strangers_project_runs_from_its_generated_definitions(stranger: Path) -> None:
    floe_dagster("prepare", str(stranger / "target" / "compiled_artifacts.json"))

    run_python(*MATERIALIZE, "-f", str(stranger / "target" / "definitions.py"), "--select", "*")

    assert query(stranger / "data" / "jaffle_shop.duckdb", "select total from totals") == [(30,)]
    assert (stranger / "build" / "dbt" / "manifest.json").is_file()


def test_definitions_carry_prefix_owner_schedule_and_job_of_the_product(stranger: Path) -> None:
    floe_dagster("prepare", str(stranger / "target" / "compiled_artifacts.json"))

    definitions = load_product_definitions("jaffle-shop", str(stranger / "target"))

    graph = definitions.resolve_asset_graph()
    orders = graph.get(dg.AssetKey(["kitchen", "orders"]))
    assert graph.materializable_asset_keys == {
        dg.AssetKey(["kitchen", name]) for name in ("raw_orders", "orders", "totals")
    }
    assert orders.parent_keys == {dg.AssetKey(["kitchen", "raw_orders"])}
    assert orders.owners == ["team:kitchen"]
    assert orders.group_name == "jaffle_shop"
    assert orders.tags["floe/product"] == "jaffle-shop"
    assert orders.tags["floe/compute"] == "duckdb"
    assert orders.kinds == {"dbt", "duckdb"}
    assert [job.name for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")] == ["jaffle_shop"]
    schedule = definitions.resolve_schedule_def("jaffle_shop_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("@daily", "UTC")


def test_loader_refuses_artifacts_of_another_product(stranger: Path) -> None:
    with pytest.raises(ArtifactsError) as caught:
        load_product_definitions("retail-orders", stranger / "target")

    assert str(caught.value) == (
        f"{stranger}/target/compiled_artifacts.json: 1 problem\n"
        "  metadata.product_name: is 'jaffle-shop', expected 'retail-orders'\n"
        "    fix: Use the artifacts of 'retail-orders', or load 'jaffle-shop'."
    )


def test_transforms_materialize_one_by_one(
    stranger: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from floe_core.plugins.orchestrator import TransformConfig

    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(stranger))
    assets = DagsterOrchestratorPlugin().create_assets_from_transforms(
        [
            TransformConfig(name="raw_orders"),
            TransformConfig(name="orders", depends_on=["raw_orders"]),
            TransformConfig(name="typo", depends_on=["orders"]),
        ]
    )

    results = [dg.materialize([asset], instance=instance) for asset in assets[:2]]

    assert all(result.success for result in results)
    assert query(stranger / "data" / "jaffle_shop.duckdb", "select count(*) from orders") == [(2,)]
    assert [asset.keys for asset in assets] == [
        {dg.AssetKey("raw_orders")},
        {dg.AssetKey("orders")},
        {dg.AssetKey("typo")},
    ]
    materialization = results[1].asset_materializations_for_node("dbt_build_orders")[0]
    assert materialization.metadata["dagster/table_name"].value == "jaffle_shop.main.orders"
    with pytest.raises(dg.Failure) as caught:
        dg.materialize([assets[2]], instance=instance)
    assert caught.value.description == (
        f"{stranger}: dbt has no enabled model, seed or snapshot named 'typo', so nothing was built. "
        "Correct the name, or set FLOE_DBT_PROJECT_DIR to the project that has it."
    )


def change_outputs(project: Path, **outputs: dict[str, str]) -> Path:
    """Give the compiled profile other outputs; returns the artifacts' path."""
    path = project / "target" / "compiled_artifacts.json"
    artifacts = json.loads(path.read_text(encoding="utf-8"))
    artifacts["dbt_profiles"] = {"jaffle-shop": {"target": "dev", "outputs": outputs}}
    path.write_text(json.dumps(artifacts), encoding="utf-8")
    return path


def test_profile_variables_are_needed_by_runs_only(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = {"type": "duckdb", "path": "{{ env_var('WAREHOUSE') }}", "schema": "{{ env_var('SCHEMA', 'main') }}"}
    artifacts = change_outputs(stranger, dev=output)

    prepared = floe_dagster("prepare", str(artifacts))
    assets = list(load_product_definitions("jaffle-shop", artifacts.parent).assets or [])

    assert prepared.stderr == (
        f"WARNING: {artifacts}: the dbt profile reads WAREHOUSE, which is not set; runs will fail\n"
        "WARNING: dbt parse uses placeholders for variables that are not set: WAREHOUSE\n"
    )
    with pytest.raises(dg.Failure) as caught:
        dg.materialize(assets)  # type: ignore[arg-type]
    assert caught.value.allow_retries is False
    assert caught.value.description == (
        "dbt profile 'jaffle_shop', target 'dev': 1 problem\n"
        "  WAREHOUSE: the environment variable is not set\n"
        "    fix: Set it where Dagster's runs get their secrets."
    )
    monkeypatch.setenv("WAREHOUSE", str(stranger / "mine.duckdb"))
    assert dg.materialize(assets).success  # type: ignore[arg-type]
    assert query(stranger / "mine.duckdb", "select total from totals") == [(30,)]


def test_floe_env_chooses_the_output(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = {name: {"type": "duckdb", "path": f"data/{name}.duckdb"} for name in ("dev", "staging")}
    artifacts = change_outputs(stranger, **outputs)
    monkeypatch.setenv("FLOE_ENV", "staging")
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")
    assets = list(load_product_definitions("jaffle-shop", artifacts.parent).assets or [])

    dg.materialize(assets)  # type: ignore[arg-type]

    assert query(stranger / "data" / "staging.duckdb", "select total from totals") == [(30,)]
    assert not (stranger / "data" / "dev.duckdb").exists()
    monkeypatch.setenv("FLOE_ENV", "dev")
    graph = load_product_definitions("jaffle-shop", artifacts.parent).resolve_asset_graph()
    table = graph.get(dg.AssetKey(["kitchen", "orders"])).metadata["dagster/table_name"]
    assert table == "dev.main.orders"


def test_prepare_installs_the_packages_of_the_project(stranger: Path) -> None:
    package = stranger.parent / "spices"
    (package / "models").mkdir(parents=True)
    (package / "dbt_project.yml").write_text("name: spices\nversion: '1.0'\n", encoding="utf-8")
    (package / "models" / "pepper.sql").write_text("select 1 as id", encoding="utf-8")
    (stranger / "packages.yml").write_text("packages: [{local: ../spices}]", encoding="utf-8")

    result = floe_dagster("prepare", str(stranger / "target" / "compiled_artifacts.json"))

    assert result.stdout.startswith("jaffle-shop: 4 dbt assets in ")


def test_project_that_cannot_be_written_keeps_its_data_in_the_users_state_directory(
    stranger: Path, tmp_path: Path
) -> None:
    artifacts = stranger / "target" / "compiled_artifacts.json"
    floe_dagster("prepare", str(artifacts))
    environment = {"FLOE_ARTIFACTS_PATH": str(artifacts), "XDG_STATE_HOME": str(tmp_path / "state")}
    command = [*MATERIALIZE, "-m", "floe_orchestrator_dagster.definitions", "--select", "*"]

    run_with_read_only(stranger, [sys.executable, *command], environment)

    state = tmp_path / "state" / "floe" / "jaffle-shop"
    assert query(state / "data" / "jaffle_shop.duckdb", "select total from totals") == [(30,)]
    assert not (stranger / "data").exists()


def run_with_read_only(directory: Path, command: list[str], environment: dict[str, str]) -> None:
    """Run a command that finds ``directory`` read-only, also for root, who ignores modes, through a mount."""
    if os.geteuid() == 0:
        if shutil.which("unshare") is None:
            reason = "no unshare: apt-get install util-linux"
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
        mount = f"mount --bind '{directory}' '{directory}' && mount -o remount,bind,ro '{directory}' && exec \"$@\""
        command = ["unshare", "--mount", "sh", "-ec", mount, "sh", *command]
    else:
        set_modes(directory, 0o555)
    try:
        subprocess.run(command, env=clean_environment(**environment), check=True, timeout=900, capture_output=True)
    finally:
        set_modes(directory, 0o755)


def set_modes(directory: Path, mode: int) -> None:
    for path in [directory, *directory.rglob("*")]:
        path.chmod(mode)


def test_sample_artifacts_are_what_floe_compiles(sample: Path) -> None:
    committed = load_product(sample / "compiled_artifacts.json", manifest_source=manifest_rebuilt).artifacts

    floe_compile(sample, "--output", "recompiled.json")

    recompiled = load_product(sample / "recompiled.json").artifacts
    compiled_at = {"compiled_at": committed.metadata.compiled_at}
    metadata = recompiled.metadata.model_copy(update=compiled_at)
    assert recompiled.model_copy(update={"metadata": metadata}) == committed
