"""Options of a run's launch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
import duckdb

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from integration.failing_shop import built, failure_of, logged, set_shop_engine
from unit.samples import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from lineage_backend import LineageServer


def test_options_of_the_run_reach_dbt_and_others_are_refused(
    shop: Path, backend: LineageServer, instance: dg.DagsterInstance, engine: dict[str, str]
) -> None:
    set_shop_engine(shop, engine)
    artifacts = json.loads((shop / "compiled_artifacts.json").read_text(encoding="utf-8"))
    outputs = artifacts["dbt_profiles"]["shop-orders"]["outputs"]
    outputs["other"] = {**outputs["dev"], "path": str(shop / "other.duckdb"), "schema": "elsewhere"}
    job = definitions_from_file(write_json(shop / "compiled_artifacts.json", artifacts)).resolve_job_def("shop_orders")

    def launch(*assets: str, **options: object) -> dg.ExecuteInProcessResult:
        chosen = [dg.AssetKey(name) for name in assets or ("first", "island")]
        config = {"ops": {"shop_orders_dbt_build": {"config": options}}}
        return job.execute_in_process(
            instance=instance, asset_selection=chosen, run_config=config, raise_on_error=False
        )

    result = launch(
        vars={"island": 3}, exclude="first not_null_island_id", fail_fast=True, threads=2, flags=["--store-failures"]
    )

    assert result.success
    assert set(built(result)) == {"island"}
    [check] = result.get_asset_check_evaluations()
    assert check.passed
    command = next(line for line in logged(instance, result.run_id, "INFO").splitlines() if "running dbt" in line)
    assert command.endswith(
        '--vars {"island": 3} --threads 2 --fail-fast --store-failures --profile shop_orders --target dev'
    )
    assert "exclude" not in logged(instance, result.run_id, "WARNING")
    backend.events.clear()
    elsewhere = launch("first", "island", "after_checked", exclude="tag:nothing first", target="other")
    assert set(built(elsewhere)) == {"island"}
    said = "run configuration, exclude: 'tag:nothing' matches nothing, so nothing is excluded."
    assert said in logged(instance, elsewhere.run_id, "WARNING")
    # Lineage has the names of the target that was built, also of what is not there: only dbt's manifest of it has them.
    tables = {table["name"] for event in backend.events for side in ("inputs", "outputs") for table in event[side]}
    assert tables == {f"other.elsewhere.{name}" for name in ("island", "checked", "after_checked")}
    refused = launch(flags=["--select", "--vars={}", "--nonsense"])
    text = failure_of(refused)
    assert "'--select' is not passed to dbt: launch the run for the assets that you want" in text
    assert "'--vars={}' is not passed to dbt: set `vars`" in text
    assert "'--nonsense' is not passed to dbt: known flags are --empty" in text
    unknown = "target: 'test' is not an output of the dbt profile 'shop_orders'. Choose one of 'dev', 'prod', 'other'."
    assert unknown in failure_of(launch(target="test"))
    assert "run configuration, exclude: 'nonsense:x' is not a valid dbt selection" in failure_of(
        launch(exclude="nonsense:x")
    )


def test_a_sample_limits_what_the_models_of_the_run_read(
    shop: Path, instance: dg.DagsterInstance, engine: dict[str, str]
) -> None:
    seen = "cast(now() as timestamp) - interval"
    write_files(
        shop,
        {
            "models/first.sql": "{{ config(materialized='table', event_time='seen') }} "
            f"select 1 as id, {seen} 1 hour as seen union all select 2, {seen} 10 day",
            "models/island.sql": "{{ config(materialized='table') }} select count(*) as id from {{ ref('first') }}",
        },
    )
    job = definitions_from_file(set_shop_engine(shop, engine)).resolve_job_def("shop_orders")

    def launch(sample: str) -> dg.ExecuteInProcessResult:
        config = {"ops": {"shop_orders_dbt_build": {"config": {"sample": sample}}}}
        chosen = [dg.AssetKey("first"), dg.AssetKey("island")]
        return job.execute_in_process(
            instance=instance, asset_selection=chosen, run_config=config, raise_on_error=False
        )

    result = launch("3 days")

    assert set(built(result)) == {"first", "island"}
    with duckdb.connect(str(shop / "shop.duckdb"), read_only=True) as connection:
        assert connection.execute("select count(*) from first").fetchall() == [(2,)]
        assert connection.execute("select id from island").fetchall() == [(1,)]
    assert "sample: '3 weeks' is not a time window. Write a number of hours" in failure_of(launch("3 weeks"))
