"""With `build: changed`, a run of a partition reuses its rows if the table certainly still has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.execution.step.build_history import BUILT_IN_RUN, RECORD
from integration.failing_shop import logged
from integration.test_changed_builds import Shop
from postgres import running_postgres
from unit.samples import NAME, contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FIRST, SECOND, THIRD = "2026-01-01", "2026-01-02", "2026-01-03"
WINDOWED = """
    {{{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='id',
               meta={{'dagster': {{'partitions': 'disjoint'}}}}) }}}}
    select id, day, {value} as value from {{{{ ref('raw') }}}}
    where day >= '{{{{ var("start_date") }}}}' and day < '{{{{ var("end_date") }}}}'
    """
BATCHED = """
    {{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day', batch_size='day',
               begin='2026-01-01', meta={'dagster': {'partitions': 'disjoint'}}) }}
    select id, day from {{ ref('raw') }}
    """
FILES = {
    "dbt_project.yml": """
        {name: shop_orders, profile: shop_orders, version: "1.0",
         vars: {start_date: "1900-01-01", end_date: "2100-01-01"}}
        """,
    "seeds/raw.csv": "id,day\n1,2026-01-01 08:00:00\n2,2026-01-02 08:00:00\n3,2026-01-03 08:00:00\n",
    "seeds/schema.yml": "seeds: [{name: raw, config: {event_time: day}}]",
    "models/events.sql": WINDOWED.format(value=1),
    "models/total.sql": "{{ config(materialized='table') }} select count(*) as n from {{ ref('events') }}",
}
CHOOSING = """
    select id, day from
    {% if var("start_date") < "2026-01-02" %}{{ ref('raw') }}{% else %}{{ ref('late') }}{% endif %}
    """
WIDENING = """
    {{ config(materialized='table') }}
    select id {% if var("start_date") >= "2026-01-02" %}, day{% endif %} from {{ ref('raw') }}
    """
OVERLAPPING = """
    {{ config(materialized='incremental', unique_key='id', meta={'dagster': {'reuse': true}}) }}
    select id, '{{ var("start_date") }}' as value from {{ ref('raw') }}
    """
TABLE_OF_ALL = "{{ config(materialized='table') }} select id from {{ ref('events') }}"
ALL = "select * from {{ ref('events') }}"
RULE = {"select": "events", "type": "daily", "start": FIRST, "end": "2026-01-04", "timezone": "UTC"}


OF_POSTGRES = {
    "models/events.sql": """
        {{ config(materialized='table') }}
        select id, day from {{ ref('raw') }} where day >= '{{ var("start_date") }}'
        """,
    "models/recent.sql": "select '{{ var(\"start_date\") }}' as first, id from {{ ref('events') }}",
    "models/shown.sql": "select id from {{ ref('recent') }}",
    "models/total.sql": "select count(*) as n from {{ ref('events') }}",
}


class PartitionedShop(Shop):
    """A product with a partitioned table, the seed that it reads and a table that reads it."""

    names: Sequence[str] = ("events", "total")
    rules = (RULE,)

    def __init__(self, directory: Path, instance: dg.DagsterInstance, engine: str, **files: str) -> None:
        """Write and parse the product."""
        self.files = {**FILES, **files}
        super().__init__(directory, instance, engine, partitions=[*self.rules])

    def starts(self) -> int:
        """Count the invocations of dbt for partitions."""
        return len(list((self.directory / "target").glob("shop_orders_dbt_build_daily-*")))

    def total(self) -> list[tuple[object, ...]]:
        """Run the asset that reads the partitioned one, and return its rows if it was built."""
        result = self.partition_run(None, None, "total")
        return sorted(self.rows("total"), key=str) if built_by_dbt(result) else []

    def build(self, first: str, last: str | None = None, *names: str, **options: object) -> set[str]:
        """Run a partition or a range of them, for the partitioned table or others; return what dbt has built."""
        return built_by_dbt(self.partition_run(first, last, *names, **options))

    def ids(self) -> list[object]:
        """Return the ids in the partitioned table."""
        return [id_ for id_, *_ in self.rows("(from events order by id)")]

    def values(self) -> list[object]:
        """Return the values in the partitioned table."""
        return [value for *_, value in self.rows("(from events order by id)")]

    def partition_run(
        self, first: str | None, last: str | None = None, *names: str, **options: object
    ) -> dg.ExecuteInProcessResult:
        """Run a partition, a range of them, or assets without partitions."""
        found = definitions_from_file(self.artifacts).assets or ()
        assets = [asset for asset in found if isinstance(asset, dg.AssetsDefinition)]
        step = "shop_orders_dbt_build_daily" if first else "shop_orders_dbt_build"
        tags = {"dagster/asset_partition_range_start": first or "", "dagster/asset_partition_range_end": last or ""}
        return dg.materialize(
            assets,
            instance=self.instance,
            selection=dg.AssetSelection.assets(*(names or ("events",))),
            partition_key=None if last else first,
            tags=tags if last else None,
            run_config={"ops": {step: {"config": options}}} if options else None,
            raise_on_error=False,
        )


class PostgresShop(PartitionedShop):
    """A product on PostgreSQL with a partitioned table, and views of it with and without partitions."""

    names = ("events", "recent", "shown", "total")
    rules = ({**RULE, "select": "events recent"},)

    def __init__(self, directory: Path, instance: dg.DagsterInstance, socket: str) -> None:
        """Write and parse the product."""
        dev = {"type": "postgres", "host": socket, "port": 5432, "user": "postgres", "pass": "none", "dbname": "shop"}
        self.profiles = {NAME: {"target": "dev", "outputs": {"dev": {**dev, "schema": "main", "threads": 2}}}}
        super().__init__(directory, instance, "core", **OF_POSTGRES)

    def configure(self, **more: object) -> None:
        """Write the artifacts, with a profile."""
        config = {"build": "changed", "executor": "in_process", **more}
        content = contract(*map(model, self.names), config=config)
        write_json(self.artifacts, {**content, "dbt_profiles": self.profiles})


def built_by_dbt(result: dg.ExecuteInProcessResult) -> set[str]:
    """Return the names of the tables that a run has built, and not reused."""
    events = [event.step_materialization_data.materialization for event in result.get_asset_materialization_events()]
    return {event.asset_key.path[-1] for event in events if event.metadata["status"].value != "reused"}


@pytest.fixture
def shop(tmp_path: Path, instance: dg.DagsterInstance) -> PartitionedShop:
    """Give a product whose table has rows of partitions that are declared not to overlap."""
    shop = PartitionedShop(tmp_path / "shop", instance, "core")
    assert shop.build(FIRST, None, "raw", "events") == {"raw", "events"}
    return shop


def test_build_of_a_partition_leaves_those_of_others(shop: PartitionedShop) -> None:
    starts, again = shop.starts(), shop.partition_run(FIRST)
    assert starts == 1
    observed = [event.asset_observation_data.asset_observation for event in again.get_asset_observation_events()]
    assert [(event.asset_key.path[-1], event.partition, event.metadata["status"].value) for event in observed] == [
        ("events", FIRST, "reused")
    ]
    assert (again.success, shop.starts()) == (True, starts)

    second = shop.partition_run(SECOND)
    assert built_by_dbt(second) == {"events"}
    assert f"no run has recorded a build of partition {SECOND}: events" in logged(shop.instance, second.run_id, "INFO")
    assert (shop.build(FIRST), shop.build(SECOND)) == (set(), set())
    assert shop.build(FIRST, None, "events", "total") == {"total"}
    read = shop.partition_run(FIRST, None, "events", "total")
    [given] = read.get_asset_materialization_events()
    assert given.step_materialization_data.materialization.metadata["status"].value == "reused"
    builder = given.step_materialization_data.materialization.metadata[BUILT_IN_RUN]
    assert builder.value == shop.instance.get_runs()[-1].run_id
    assert built_by_dbt(read) == set()

    # One run of several partitions passes another window to dbt.
    assert shop.build(FIRST, SECOND) == {"events"}
    assert shop.build(FIRST, SECOND, "events", "total") == {"total"}
    assert shop.build(FIRST, SECOND) == set()
    assert shop.build(FIRST) == {"events"}
    assert shop.build(FIRST, SECOND) == {"events"}


def test_partitions_are_built_after_a_change_of_code_or_of_a_table_that_they_read(shop: PartitionedShop) -> None:
    shop.write("models/events.sql", WINDOWED.format(value=2))
    changed = shop.partition_run(SECOND)
    assert built_by_dbt(changed) == {"events"}
    assert "The rows of other partitions are kept" in logged(shop.instance, changed.run_id, "WARNING")
    assert shop.values() == [1, 2]
    assert (shop.build(FIRST), shop.build(FIRST), shop.build(SECOND)) == ({"events"}, set(), set())

    shop.write("seeds/raw.csv", FILES["seeds/raw.csv"] + "4,2026-01-01 09:00:00\n")
    assert shop.build(SECOND, None, "raw", "events") == {"raw", "events"}
    assert (shop.build(FIRST), shop.build(SECOND)) == ({"events"}, set())
    assert shop.ids() == [1, 2, 4]


def test_partitions_of_a_table_that_another_one_has_replaced_are_built(
    shop: PartitionedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.build(SECOND)
    assert shop.build(FIRST, full_refresh=True) == {"events"}
    assert len(shop.rows("events")) == 1
    assert (shop.build(FIRST), shop.build(SECOND), shop.build(FIRST)) == (set(), {"events"}, set())

    shop.execute("drop table events")
    assert shop.build(SECOND) == {"events"}
    assert len(shop.rows("events")) == 1
    assert (shop.build(FIRST), shop.build(SECOND)) == ({"events"}, set())

    store = dg.DagsterInstance.handle_new_event

    def lose(instance: dg.DagsterInstance, event: dg.EventLogEntry, **more: Any) -> None:  # noqa: ANN401  # Dagster's
        if event.dagster_event and event.dagster_event.is_step_materialization:
            raise ConnectionError
        store(instance, event, **more)

    with monkeypatch.context() as lost:
        lost.setattr(dg.DagsterInstance, "handle_new_event", lose)
        assert not shop.partition_run(THIRD).success
    assert (shop.build(FIRST), shop.build(SECOND)) == ({"events"}, {"events"})


def test_builds_of_partitions_that_do_not_count(shop: PartitionedShop) -> None:
    shop.build(SECOND)
    assert shop.build(THIRD, vars={"unused": 1}) == {"events"}
    assert (shop.build(SECOND), shop.build(FIRST), shop.build(SECOND)) == ({"events"}, {"events"}, set())


def test_batches_are_reused_in_each_range(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = PartitionedShop(tmp_path / "shop", instance, "core", **{"models/events.sql": BATCHED})

    assert shop.build(FIRST, None, "raw", "events") == {"raw", "events"}
    assert shop.build(SECOND) == {"events"}
    assert (shop.build(FIRST), shop.build(SECOND), shop.build(FIRST, SECOND)) == (set(), set(), set())
    assert shop.build(FIRST, THIRD) == {"events"}
    assert shop.build(THIRD) == set()
    assert shop.ids() == [1, 2, 3]


def test_batches_whose_compiled_sql_reads_an_unknown_table_are_built_again(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    more = "{% macro more() %}, outside{% endmacro %}"
    files = {"models/events.sql": BATCHED + " {{ more() }}", "macros/more.sql": more}
    shop = PartitionedShop(tmp_path / "shop", instance, "core", **files)
    shop.execute("create table outside as select 7 as code")

    first = shop.partition_run(FIRST, None, "raw", "events")
    assert "The next run builds events again: its compiled SQL reads outside" in logged(instance, first.run_id, "INFO")
    assert shop.build(FIRST) == {"events"}


def test_table_that_reads_one_with_partitions_that_is_always_built(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    dated = "{{ config(materialized='table') }} select id, current_date as today from {{ ref('raw') }}"
    shop = PartitionedShop(tmp_path / "shop", instance, "core", **{"models/events.sql": dated})

    assert shop.build(FIRST, None, "raw", "events", "total") == {"raw", "events", "total"}
    assert shop.total() == []
    assert shop.build(FIRST) == {"events"}
    assert (len(shop.total()), shop.total()) == (1, [])


def test_inputs_that_depend_on_the_partition_are_built_in_each_run(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    late, more = "id,day\n8,2026-01-02 08:00:00\n", "9,2026-01-02 09:00:00\n"
    files = {"models/events.sql": CHOOSING, "seeds/late.csv": late, "models/total.sql": TABLE_OF_ALL}
    shop = PartitionedShop(tmp_path / "shop", instance, "core", **files)
    shop.names = ("events", "total", "late")

    assert shop.build(SECOND, None, "raw", "late", "events") == {"raw", "late", "events"}
    assert len(shop.total()) == 1
    again = shop.partition_run(SECOND)
    assert built_by_dbt(again) == {"events"}
    why = "its inputs or settings may depend on the variables of a partition: events"
    assert why in logged(shop.instance, again.run_id, "INFO")
    [built] = again.get_asset_materialization_events()
    assert RECORD not in built.step_materialization_data.materialization.metadata

    # In the manifest, the view does not read this seed.
    shop.write("seeds/late.csv", late + more)
    assert built_by_dbt(shop.partition_run(None, None, "late")) == {"late"}
    assert len(shop.total()) == 2


def test_view_of_a_table_whose_columns_depend_on_the_partition(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    files = {"models/events.sql": WIDENING, "models/total.sql": ALL}
    shop = PartitionedShop(tmp_path / "shop", instance, "core", **files)

    assert shop.build(FIRST, None, "raw", "events") == {"raw", "events"}
    assert shop.total() == [(1,), (2,), (3,)]
    assert shop.build(SECOND) == {"events"}
    assert [len(row) for row in shop.total()] == [2, 2, 2]
    assert shop.total() == []


def test_declaration_of_reuse_is_none_of_disjoint_partitions(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = PartitionedShop(tmp_path / "shop", instance, "core", **{"models/events.sql": OVERLAPPING})

    assert shop.build(FIRST, None, "raw", "events") == {"raw", "events"}
    assert shop.build(FIRST) == set()
    assert shop.build(SECOND) == {"events"}
    assert shop.build(FIRST) == {"events"}
    assert shop.values() == [FIRST] * 3


def test_waiting_time_does_not_hold_back_partitions(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    waits = "freshness={'build_after': {'count': 1, 'period': 'day'}}, unique_key"
    code = WINDOWED.format(value=1).replace("unique_key", waits)
    shop = PartitionedShop(tmp_path / "shop", instance, "core", **{"models/events.sql": code})

    assert shop.build(FIRST, None, "raw", "events") == {"raw", "events"}
    shop.partition_run(None, None, "raw", build="all")
    assert shop.build(FIRST) == {"events"}


def test_partitions_of_runs_that_are_launched_together_do_not_count(shop: PartitionedShop) -> None:
    shop.build(SECOND)
    job = definitions_from_file(shop.artifacts).get_repository_def().get_job("shop_orders")
    queued = shop.instance.create_run_for_job(job, tags={"dagster/partition": SECOND})

    assert (shop.build(FIRST), shop.build(FIRST)) == ({"events"}, {"events"})
    shop.instance.report_run_canceled(queued)
    assert (shop.build(FIRST), shop.build(FIRST), shop.build(SECOND)) == ({"events"}, set(), {"events"})


def test_partitions_are_always_built_on_dbt_v2(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = PartitionedShop(tmp_path / "shop", instance, "v2")

    assert shop.build(FIRST, None, "raw", "events") == {"raw", "events"}
    again = shop.partition_run(FIRST)
    assert built_by_dbt(again) == {"events"}
    assert "partitions are reused with dbt-core only: events" in logged(instance, again.run_id, "INFO")


def test_views_of_partitions_are_not_created_for_other_ones(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    with running_postgres("shop") as postgres:
        shop = PostgresShop(tmp_path / "shop", instance, str(postgres.get_postmaster_info().socket_dir))

        def query(sql: str) -> str:
            return postgres.psql(f"\\c shop\n{sql};")

        assert shop.build(FIRST, None, "raw", *shop.names) == {"raw", *shop.names}
        second = shop.partition_run(SECOND)
        assert built_by_dbt(second) == {"events"}
        warned = "views of partitions that the database drops with their tables: recent, shown. Launch a run for them."
        assert warned in logged(instance, second.run_id, "WARNING")
        assert "2" in query("select n from main.total")
        assert "no view" in query("select coalesce(to_regclass('main.recent')::text, 'no view')")

        assert shop.build(FIRST, None, "events", "recent") == {"events", "recent"}
        assert FIRST in query("select min(first) from main.recent")
