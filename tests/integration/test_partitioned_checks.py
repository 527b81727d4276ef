"""Results of tests for each partition, and dependencies between assets with different partitions, with real dbt."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dbt_v2 import engine_config, set_engine
from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from partitioned_shop import materialize, materialize_assets, partition_range, rows_of
from processes import floe_compile, floe_dagster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HAS_PARTITIONED_CHECKS = "partitions_def" in inspect.signature(dg.AssetCheckSpec.__new__).parameters
FILES = {
    "dbt_project.yml": """
        name: shop
        version: "1.0.0"
        profile: shop
        vars: {start_date: "1900-01-01", end_date: "2100-01-01", region: none}
        """,
    "seeds/raw_events.csv": """
        id,region,happened
        1,north,2026-01-01 01:10:00
        2,south,2026-01-01 01:20:00
        3,north,2026-01-01 02:30:00
        ,south,2026-01-02 03:40:00
        """,
    "macros/window.sql": """
        {% macro in_window() %}
        happened >= '{{ var("start_date") }}' and happened < '{{ var("end_date") }}'
        {% endmacro %}
        """,
    "models/hours.sql": """
        {{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='happened') }}
        select id, region, happened from {{ ref('raw_events') }} where {{ in_window() }}
        """,
    "models/days.sql": """
        {{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='happened') }}
        select id, region, happened from {{ ref('hours') }} where {{ in_window() }}
        """,
    "models/regions.sql": """
        {{ config(materialized='table') }}
        select '{{ var("region") }}' as region, id from {{ ref('days') }} where region = '{{ var("region") }}'
        """,
    "models/monthly.sql": "select region, '{{ var('start_date') }}' as month from {{ ref('regions') }}",
    "models/report.sql": "select count(*) as events from {{ ref('days') }}",
    "models/schema.yml": """
        models:
          - name: days
            data_tests:
              - after_start: {name: begins_after_start, arguments: {since: "{{ var('start_date') }}"}}
            columns:
              - name: id
                data_tests: [complete, {unique: {config: {severity: warn}}}]
        """,
    "macros/tests.sql": """
        {% test after_start(model, since) %}
        select * from {{ model }} where false and happened < '{{ since }}'
        {% endtest %}
        {% test complete(model, column_name) %}
        {{ config(severity='warn') }}
        select * from {{ model }} where {{ column_name }} is null
          and happened >= '{{ var("start_date") }}' and happened < '{{ var("end_date") }}'
        {% endtest %}
        """,
    "floe.yaml": """
        apiVersion: floe.dev/v1
        kind: FloeSpec
        metadata: {name: shop, version: 1.0.0, owner: shop@example.com}
        platform: {manifest: manifest.yaml}
        transforms: [{name: hours}, {name: days}, {name: regions}, {name: monthly}, {name: report}]
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
                - {select: hours, type: hourly, start: "2026-01-01-00:00", end: "2026-01-03-00:00"}
                - {select: days, type: daily, start: "2026-01-01", end: "2026-01-03"}
                - {select: regions, type: static, values: [north, south], vars: {key: region}}
                - {select: monthly, type: monthly, start: "2026-01-01", end: "2026-02-01"}
        """,
}
DAYS = dg.AssetKey("days")
WINDOWED, WHOLE = ("complete_days_id", "begins_after_start"), "unique_days_id"


@pytest.fixture(scope="module", params=["core", "v2"])
def shop(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Compile and prepare the product for a dbt engine."""
    project = write_files(tmp_path_factory.mktemp("checks") / "shop", FILES)
    floe_compile(project, "--output", "compiled_artifacts.json")
    floe_dagster("prepare", str(set_engine(project / "compiled_artifacts.json", engine_config(request.param))))
    return project


@pytest.fixture(scope="module")
def instance(shop: Path) -> Iterator[dg.DagsterInstance]:
    """Return an instance in which all hours and days are built."""
    with dg.DagsterInstance.ephemeral(tempdir=str(shop.parent)) as ephemeral:
        assert materialize_assets(shop, ephemeral, "raw_events").success
        assert materialize_assets(
            shop, ephemeral, "hours", tags=partition_range("2026-01-01-00:00", "2026-01-02-23:00")
        ).success
        assert materialize_assets(shop, ephemeral, "days", tags=partition_range("2026-01-01", "2026-01-02")).success
        yield ephemeral


def _results(result: dg.ExecuteInProcessResult) -> dict[str, dict[str | None, bool]]:
    """Return whether each check passed, by partition."""
    found: dict[str, dict[str | None, bool]] = {}
    for evaluation in result.get_asset_check_evaluations():
        partition = getattr(evaluation, "partition", None)
        found.setdefault(evaluation.check_name, {})[partition] = evaluation.passed
    return found


def test_only_tests_that_read_the_window_are_checks_with_partitions(shop: Path) -> None:
    graph = definitions_from_file(shop / "compiled_artifacts.json").resolve_asset_graph()

    daily = graph.get(DAYS).partitions_def
    partitions = {
        key.name: getattr(graph.get_check_spec(key), "partitions_def", None)
        for key in graph.asset_check_keys
        if key.asset_key == DAYS
    }
    expected = daily if HAS_PARTITIONED_CHECKS else None
    assert {name: partitions[name] for name in (*WINDOWED, WHOLE)} == {
        **dict.fromkeys(WINDOWED, expected),
        WHOLE: None,
    }


def test_a_partition_has_its_own_result(shop: Path, instance: dg.DagsterInstance) -> None:
    first, second = (materialize_assets(shop, instance, "days", partition_key=f"2026-01-0{day}") for day in (1, 2))

    complete = [_results(run)[WINDOWED[0]] for run in (first, second)]
    first_day, second_day = ("2026-01-01", "2026-01-02") if HAS_PARTITIONED_CHECKS else (None, None)
    assert complete == [{first_day: True}, {second_day: False}]
    assert [_results(run)[WHOLE] for run in (first, second)] == [{None: True}, {None: True}]


@pytest.mark.skipif(not HAS_PARTITIONED_CHECKS, reason="checks have no partitions before Dagster 1.13")
def test_a_run_of_several_partitions_has_a_result_for_each(shop: Path, instance: dg.DagsterInstance) -> None:
    result = materialize_assets(shop, instance, "days", tags=partition_range("2026-01-01", "2026-01-02"))

    results = _results(result)
    assert result.success
    assert results[WINDOWED[0]] == {"2026-01-01": False, "2026-01-02": False}
    assert results[WINDOWED[1]] == {"2026-01-01": True, "2026-01-02": True}
    assert results[WHOLE].keys() == {None}
    key = dg.AssetCheckKey(DAYS, WINDOWED[0])
    days = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-03")
    state = instance.event_log_storage.get_asset_check_state([(key, days)])[key]
    shown = {status.name: sorted(found.subset_value.get_partition_keys()) for status, found in state.subsets.items()}
    assert shown["FAILED"] == ["2026-01-01", "2026-01-02"]


@pytest.mark.skipif(not HAS_PARTITIONED_CHECKS, reason="checks have no partitions before Dagster 1.13")
def test_a_check_alone_reads_the_partition_of_its_run_and_without_one_the_whole_table(
    shop: Path, instance: dg.DagsterInstance
) -> None:
    chosen = dg.AssetSelection.checks(dg.AssetCheckKey(DAYS, WINDOWED[0]))
    for partition, passes in (("2026-01-01", True), ("2026-01-02", False)):
        result = materialize(shop, instance, chosen, tags={"dagster/partition": partition})
        assert _results(result) == {WINDOWED[0]: {partition: passes}}
    assert _results(materialize(shop, instance, chosen)) == {WINDOWED[0]: {None: False}}


def test_an_asset_without_partitions_reads_all_partitions(shop: Path, instance: dg.DagsterInstance) -> None:
    assert materialize_assets(shop, instance, "report").success

    graph = definitions_from_file(shop / "compiled_artifacts.json").resolve_asset_graph()
    mapping = graph.get_partition_mapping(dg.AssetKey("report"), DAYS)
    assert isinstance(mapping, dg.AllPartitionMapping)
    assert rows_of(shop, "select events > 0 from report") == [(True,)]


def test_a_day_depends_on_its_hours(shop: Path) -> None:
    graph = definitions_from_file(shop / "compiled_artifacts.json").resolve_asset_graph()

    mapping = graph.get_partition_mapping(DAYS, dg.AssetKey("hours"))
    hours, days = graph.get(dg.AssetKey("hours")).partitions_def, graph.get(DAYS).partitions_def
    assert isinstance(mapping, dg.TimeWindowPartitionMapping)
    assert hours is not None
    assert days is not None
    chosen = days.empty_subset().with_partition_keys(["2026-01-02"])
    found = mapping.get_upstream_mapped_partitions_result_for_partitions(chosen, days, hours)
    assert sorted(found.partitions_subset.get_partition_keys()) == [f"2026-01-02-{hour:02}:00" for hour in range(24)]


@pytest.mark.parametrize(
    ("name", "partition", "upstream"), [("regions", "north", "days"), ("monthly", "2026-01-01", "regions")]
)
def test_time_and_static_partitions_depend_on_all_of_each_other(
    shop: Path, instance: dg.DagsterInstance, name: str, partition: str, upstream: str
) -> None:
    definitions = definitions_from_file(shop / "compiled_artifacts.json")

    dg.Definitions.validate_loadable(definitions)
    mapping = definitions.resolve_asset_graph().get_partition_mapping(dg.AssetKey(name), dg.AssetKey(upstream))
    assert isinstance(mapping, dg.AllPartitionMapping)
    assert materialize_assets(shop, instance, name, partition_key=partition).success
