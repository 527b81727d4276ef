"""Partitioned models: each run builds the window of its partition, and a range is one dbt invocation."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dbt_v2 import engine_config, set_engine
from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from lineage_backend import serving
from openlineage_schemas import assert_valid_json
from partitioned_shop import materialize_assets, partition_range, rows_of
from processes import floe_compile, floe_dagster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = {
    "dbt_project.yml": """
        name: shop
        version: "1.0.0"
        profile: shop
        vars: {start_date: "1900-01-01", end_date: "2100-01-01", region: none}
        """,
    "seeds/raw_events.csv": """
        id,region,happened_at
        1,north,2026-01-01 08:00:00
        2,south,2026-01-02 09:00:00
        3,north,2026-01-03 10:00:00
        4,south,2026-01-04 11:00:00
        """,
    "models/events.sql": "select id, region, happened_at from {{ ref('raw_events') }}",
    "models/batched.sql": """
        {{ config(materialized='incremental', incremental_strategy='microbatch', event_time='happened_at',
                  batch_size='day', begin='2026-01-01') }}
        select id, happened_at from {{ ref('events') }}
        """,
    "models/windowed.sql": """
        {{ config(materialized='incremental', incremental_strategy='append') }}
        select id, '{{ var("start_date") }}' as first, '{{ var("end_date") }}' as after_last from {{ ref('events') }}
        where happened_at >= '{{ var("start_date") }}' and happened_at < '{{ var("end_date") }}'
        """,
    "models/regional.sql": """
        {{ config(materialized='incremental', incremental_strategy='append') }}
        select id, region from {{ ref('events') }} where region = '{{ var("region") }}'
        """,
    "models/report.sql": "select count(*) as batched from {{ ref('batched') }}",
    "models/schema.yml": """
        models:
          - name: events
            config: {event_time: happened_at}
          - name: batched
            columns: [{name: id, data_tests: [unique]}]
        """,
    "floe.yaml": """
        apiVersion: floe.dev/v1
        kind: FloeSpec
        metadata: {name: shop, version: 1.0.0, owner: shop@example.com}
        schedule: {cron: "0 6 * * *", timezone: UTC}
        platform: {manifest: manifest.yaml}
        transforms: [{name: events}, {name: batched}, {name: windowed}, {name: regional}, {name: report}]
        """,
    "manifest.yaml": """
        apiVersion: floe.dev/v1
        kind: Manifest
        metadata: {name: shop-platform, version: 1.0.0, owner: platform@example.com}
        plugins:
          compute: {type: duckdb, config: {path: warehouse.duckdb}}
          orchestrator:
            type: dagster
            config:
              partitions:
                - select: batched windowed
                  type: daily
                  start: "2026-01-01"
                  end: "2026-01-05"
                  time_column: happened_at
                - {select: regional, type: static, values: [north, south], vars: {key: region}}
        """,
}


@pytest.fixture(scope="module", params=["core", "v2"])
def shop(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Compile and prepare the product once for each dbt engine, and build what is not partitioned."""
    project = write_files(tmp_path_factory.mktemp("partitions") / "shop", FILES)
    floe_compile(project, "--output", "compiled_artifacts.json")
    artifacts = json.loads((project / "compiled_artifacts.json").read_text(encoding="utf-8"))
    artifacts["observability"]["lineage"] = True
    artifacts["plugins"]["orchestrator"]["config"]["lineage"] = {"spool_dir": str(project / "spool")}
    (project / "compiled_artifacts.json").write_text(json.dumps(artifacts), encoding="utf-8")
    floe_dagster("prepare", str(set_engine(project / "compiled_artifacts.json", engine_config(request.param))))
    return project


@pytest.fixture(scope="module")
def instance(shop: Path) -> Iterator[dg.DagsterInstance]:
    """Give an instance in which what the partitioned models read is built."""
    with dg.DagsterInstance.ephemeral(tempdir=str(shop.parent)) as ephemeral:
        assert materialize_assets(shop, ephemeral, "raw_events", "events").success
        yield ephemeral


def test_time_partitions_reach_dbt_as_event_time_and_variables(
    shop: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as backend:
        monkeypatch.setenv("OPENLINEAGE_URL", backend.url.removesuffix("/api/v1/lineage"))
        assert materialize_assets(shop, instance, "batched", "windowed", partition_key="2026-01-02").success

    assert_valid_json(backend.events)
    assert {"shop", "model.shop.batched", "model.shop.windowed"} <= set(backend.names)
    times = [event["run"]["facets"]["nominalTime"] for event in backend.events]
    assert {(time["nominalStartTime"], time["nominalEndTime"]) for time in times} == {
        ("2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z")
    }
    assert rows_of(shop, "select id from batched where id <= 2") == [(2,)]
    assert rows_of(shop, "select id, first, after_last from windowed where id <= 2") == [
        (2, "2026-01-02", "2026-01-03")
    ]


def test_a_range_of_partitions_is_one_run_with_one_dbt_invocation(shop: Path, instance: dg.DagsterInstance) -> None:
    before = set(shop.glob("target/*/run_results.json"))
    tags = partition_range("2026-01-03", "2026-01-04")

    result = materialize_assets(shop, instance, "batched", "windowed", tags=tags)

    assert result.success
    (results,) = set(shop.glob("target/*/run_results.json")) - before
    nodes = {node["unique_id"] for node in json.loads(results.read_text(encoding="utf-8"))["results"]}
    assert {"model.shop.batched", "model.shop.windowed"} <= nodes
    assert rows_of(shop, "select id from batched where id > 2 order by id") == [(3,), (4,)]
    assert rows_of(shop, "select id, first, after_last from windowed where id > 2 order by id") == [
        (3, "2026-01-03", "2026-01-05"),
        (4, "2026-01-03", "2026-01-05"),
    ]
    assert {"2026-01-03", "2026-01-04"} <= instance.get_materialized_partitions(dg.AssetKey("batched"))


def test_a_static_partition_reaches_dbt_as_a_variable(shop: Path, instance: dg.DagsterInstance) -> None:
    assert materialize_assets(shop, instance, "regional", partition_key="north").success

    assert rows_of(shop, "select id from regional order by id") == [(1,), (3,)]


def test_a_run_without_a_partition_is_refused_before_dbt_builds_a_window_of_its_own(
    shop: Path, instance: dg.DagsterInstance
) -> None:
    with pytest.raises(dg.Failure, match="regional: the assets have static partitions, and this run has none"):
        materialize_assets(shop, instance, "regional")


def test_partitioned_model_has_its_column_and_backfill_policy(shop: Path) -> None:
    graph = definitions_from_file(shop / "compiled_artifacts.json").resolve_asset_graph()

    batched = graph.get(dg.AssetKey("batched"))
    assert batched.metadata["partition_expr"] == "happened_at"
    assert batched.backfill_policy == dg.BackfillPolicy.single_run()
    assert graph.get(dg.AssetKey("regional")).backfill_policy == dg.BackfillPolicy.multi_run(1)
    assert graph.get(dg.AssetKey("report")).partitions_def is None


def test_each_kind_of_partitions_has_a_job_and_ticks_for_its_newest_or_all_partitions(shop: Path) -> None:
    repository = definitions_from_file(shop / "compiled_artifacts.json").get_repository_def()

    own, static = repository.get_job("shop"), repository.get_job("shop_static")
    assert own.partitions_def == dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-05")
    assert dg.AssetKey("regional") not in own.asset_layer.selected_asset_keys
    assert {dg.AssetKey("report"), dg.AssetKey("batched")} <= own.asset_layer.selected_asset_keys
    assert static.asset_layer.selected_asset_keys == {dg.AssetKey("regional")}
    ticks = {schedule.name: _requested(schedule, repository) for schedule in repository.schedule_defs}
    assert ticks == {"shop_schedule": ["2026-01-04"], "shop_static_schedule": ["north", "south"]}


def _requested(schedule: dg.ScheduleDefinition, repository: dg.RepositoryDefinition) -> list[str | None]:
    instant = datetime(2026, 2, 1, 6, tzinfo=timezone.utc)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance, scheduled_execution_time=instant, repository_def=repository)
        return [request.partition_key for request in schedule.evaluate_tick(context).run_requests or []]
