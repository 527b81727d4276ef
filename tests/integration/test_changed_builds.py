"""With `build: changed`, a run builds the tables whose code or inputs have changed, and nothing else."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest

from dbt_v2 import engine_config
from files import write_files
from floe_orchestrator_dagster.code_location import build_location, definitions_from_file
from floe_orchestrator_dagster.execution.reuse.waiting import WAITS
from floe_orchestrator_dagster.inspect.changes import ChangePlan, explain, plan_changes
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FILES = {
    "dbt_project.yml": """
        {name: shop_orders, profile: shop_orders, version: "1.0", vars: {owner: "{{ env_var('OWNER', 'us') }}"}}
        """,
    "landing/orders.csv": "id,amount\n1,10\n2,20\n",
    "seeds/regions.csv": "id,name\n1,north\n2,south\n",
    "models/stg.sql": "select * from {{ source('landing', 'orders') }}",
    "models/hidden.sql": "{{ config(materialized='ephemeral') }} select id, amount from {{ ref('stg') }}",
    "models/mart.sql": "{{ config(materialized='table') }} select sum(amount) as amount from {{ ref('hidden') }}",
    "models/names.sql": "{{ config(materialized='table') }} select id, name from {{ ref('regions') }}",
    "models/schema.yml": """
        sources:
          - name: landing
            config: {meta: {external_location: "landing/{name}.csv"}}
            tables: [{name: orders}]
        models:
          - name: mart
            columns: [{name: amount, data_tests: [not_null, {accepted_values: {arguments: {values: [30]}}}]}]
          - name: names
            columns: [{name: id, data_tests: [unique]}]
        """,
}
SOURCES = """
    sources:
      - name: landing
        config: {meta: {external_location: "landing/{name}.csv"}}
        tables: [{name: orders}]
    """
NAMES = ("stg", "mart", "names")
ALL = {"stg", "mart", "names", "regions"}
NAMES_IN_CAPITALS = "{{ config(materialized='table') }} select id, upper(name) as name from {{ ref('regions') }}"


class Shop:
    """A product that builds what has changed, and its runs."""

    files: Mapping[str, str] = FILES
    names: Sequence[str] = NAMES

    def __init__(self, directory: Path, instance: dg.DagsterInstance, engine: str, **more: object) -> None:
        """Write and parse the product, with more settings."""
        self.directory, self.instance = write_files(directory, self.files), instance
        self.engine, self.artifacts = engine, directory / "compiled_artifacts.json"
        self.configure(**more)
        self.parse()

    def configure(self, **more: object) -> None:
        """Write the artifacts, with more settings."""
        config = {"build": "changed", "executor": "in_process", "dbt": engine_config(self.engine), **more}
        write_json(self.artifacts, contract(*map(model, self.names), config=config))

    def parse(self) -> None:
        """Parse the project as `floe-dagster prepare` does."""
        load_product(self.artifacts, manifest_source=manifest_rebuilt)

    def run(self, *, success: bool = True, **options: object) -> set[str]:
        """Run the product's job; returns the names of the built tables."""
        result = self.result(**options)
        assert result.success is success
        return built(result)

    def result(self, *names: str, **options: object) -> dg.ExecuteInProcessResult:
        """Run the product's job, for all assets or those with the names."""
        job = definitions_from_file(self.artifacts).get_repository_def().get_job("shop_orders")
        run_config = {"ops": {"shop_orders_dbt_build": {"config": options}}} if options else None
        keys = [dg.AssetKey(name) for name in names] or None
        return job.execute_in_process(
            instance=self.instance, run_config=run_config, raise_on_error=False, asset_selection=keys
        )

    def plan(self) -> ChangePlan:
        """Decide what a run would build, as `floe-dagster plan --changed` does."""
        return plan_changes(self.instance, build_location(load_product(self.artifacts)).builds)

    def planned(self) -> dict[str, str]:
        """Return the assets that a run would build, with the reasons."""
        return {asset.asset: asset.reason for asset in self.plan().assets if asset.is_built}

    def write(self, name: str, content: str) -> None:
        """Change a file of the project, and parse it."""
        write_files(self.directory, {name: content})
        self.parse()

    def starts(self) -> int:
        """Count the invocations of dbt."""
        return len(list((self.directory / "target").glob("shop_orders_dbt_build-*")))

    def rows(self, table: str) -> list[tuple[object, ...]]:
        """Read a table."""
        with duckdb.connect(str(self.directory / "shop.duckdb")) as connection:
            return connection.execute(f"select * from {table}").fetchall()  # noqa: S608  # a name in this file

    def execute(self, statement: str) -> None:
        """Change the database."""
        with duckdb.connect(str(self.directory / "shop.duckdb")) as connection:
            connection.execute(statement)


def built(result: dg.ExecuteInProcessResult) -> set[str]:
    """Return the names of the tables that a run has built."""
    events = [event.step_materialization_data.materialization for event in result.get_asset_materialization_events()]
    return {event.asset_key.path[-1] for event in events}


def reused(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Return the reasons of the tables that a run has reused."""
    events = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    found = {event.asset_key.path[-1]: event.metadata for event in events}
    return {name: str(metadata["reason"].value) for name, metadata in found.items() if "reason" in metadata}


@pytest.fixture
def changed_shop(tmp_path: Path, instance: dg.DagsterInstance) -> Shop:
    """Give a product that builds what has changed."""
    return Shop(tmp_path / "shop", instance, "core")


def test_manifest_of_another_target_reuses_nothing(changed_shop: Shop) -> None:
    changed_shop.run()
    parsed_for = changed_shop.directory / "target" / "parsed_for_target.txt"
    parsed_for.write_text(parsed_for.read_text(encoding="utf-8").replace(" dev ", " warehouse "), encoding="utf-8")

    reason = "manifest.json was parsed for another target or dbt engine than dev"
    assert changed_shop.planned() == dict.fromkeys(ALL, reason)


def test_run_builds_what_has_changed_since_the_last_one(changed_shop: Shop) -> None:
    shop = changed_shop
    assert shop.planned() == dict.fromkeys(ALL, "no run has built it")
    assert shop.run() == ALL

    assert shop.planned() == {}
    starts, second = shop.starts(), shop.result()
    assert (second.success, built(second), shop.starts()) == (True, set(), starts)
    assert reused(second) == dict.fromkeys(ALL, "its code and its inputs have not changed since it was built")
    assert [evaluation.passed for evaluation in second.get_asset_check_evaluations()] == [True, True, True]

    shop.write("models/names.sql", NAMES_IN_CAPITALS)
    assert shop.planned() == {"names": "its code, its settings or a macro has changed"}
    assert shop.run() == {"names"}

    write_files(shop.directory, {"landing/orders.csv": "id,amount\n1,10\n2,21\n"})
    assert shop.planned() == {"stg": "the data of landing.orders has changed since then", "mart": "stg is built"}
    assert shop.run(success=False) == {"stg", "mart"}
    assert shop.rows("mart") == [(31,)]
    assert shop.planned()["mart"].startswith("its test accepted_values_mart_amount")
    assert shop.run(success=False) == {"mart"}

    write_files(shop.directory, {"landing/orders.csv": "id,amount\n1,10\n2,20\n"})
    shop.execute("drop table names")
    assert shop.planned().keys() == {"stg", "mart", "names"}
    explanation = explain(shop.plan(), "model.shop_orders.mart")
    assert [(cause.asset, cause.reason) for cause in explanation.causes] == [
        ("stg", "the data of landing.orders has changed since then")
    ]
    assert dict(explanation.inputs)["landing.orders"] == "its data has changed since the last build"
    assert shop.run() == {"stg", "mart", "names"}
    assert shop.rows("mart") == [(30,)]
    assert shop.rows("names") == [(1, "NORTH"), (2, "SOUTH")]

    (shop.directory / "shop.duckdb").unlink()
    assert shop.run() == ALL
    assert shop.run() == set()

    [emptied] = shop.result("names", empty=True).get_asset_materialization_events()
    assert emptied.materialization.metadata["floe/other_rows"].value == "empty"
    assert shop.rows("names") == []


def test_unit_test_that_runs_builds_its_model(changed_shop: Shop) -> None:
    shop = changed_shop
    unit_test = """
        unit_tests:
          - name: names_are_kept
            model: names
            given: [{input: ref('regions'), rows: [{id: 1, name: EXPECTED}]}]
            expect: {rows: [{id: 1, name: EXPECTED}]}
        """
    shop.write("models/units.yml", unit_test.replace("EXPECTED", "north"))
    assert shop.run() == ALL
    assert shop.run() == set()

    shop.write("models/units.yml", unit_test.replace("EXPECTED", "south"))
    assert shop.run() == {"names"}
    assert shop.run() == set()


def test_unit_test_of_a_model_that_reads_a_variable_runs_when_its_value_has_changed(
    changed_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = changed_shop
    unit_test = """
        unit_tests:
          - name: owner_is_added
            model: names
            overrides: {vars: {owner: eu}}
            given: [{input: ref('regions'), rows: [{id: 1}]}]
            expect: {rows: [{id: 1, owner: eu}]}
        """
    code = "{{ config(materialized='table') }} select id, '{{ var(\"owner\") }}' as owner from {{ ref('regions') }}"
    write_files(shop.directory, {"models/units.yml": unit_test})
    shop.write("models/names.sql", code)
    assert shop.run() == ALL
    assert shop.run() == set()

    monkeypatch.setenv("OWNER", "apac")
    result = shop.result()

    assert built(result) >= {"names"}
    checks = [check for check in result.get_asset_check_evaluations() if check.check_name == "owner_is_added"]
    assert [(check.passed, "reason" in check.metadata) for check in checks] == [(True, False)]
    assert shop.run() == set()


def test_incremental_model_is_built_from_scratch_after_a_change_of_its_code(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = Shop(tmp_path / "shop", instance, "core")
    code = "{{{{ config(materialized='incremental', on_schema_change='append_new_columns') }}}} select {} as code"
    shop.write("models/log.sql", code.format(1))
    shop.write("models/read.sql", "{{ config(materialized='table') }} select count(*) as n from {{ ref('log') }}")
    assert shop.run() == {*ALL, "log", "read"}

    shop.write("models/log.sql", code.format(2))
    assert shop.run() == {"log", "read"}
    assert (shop.rows("log"), shop.rows("read")) == ([(1,), (2,)], [(2,)])

    assert built(shop.result("log", full_refresh=True)) == {"log"}
    assert shop.planned() == {"read": "log was built since then"}
    assert shop.run() == {"read"}
    assert (shop.rows("log"), shop.rows("read")) == ([(2,)], [(1,)])

    shop.configure(full_refresh_on_change=True)
    assert shop.run() == set()
    shop.write("models/log.sql", code.format(3))
    assert shop.run() == {"log", "read"}
    assert (shop.rows("log"), shop.rows("read")) == ([(3,)], [(1,)])


def test_run_that_does_not_count_hides_no_change_of_an_incremental_model(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = Shop(tmp_path / "shop", instance, "core")
    code = "{{{{ config(materialized='incremental') }}}} select {} as code"
    shop.write("models/log.sql", code.format(1))
    shop.run()

    shop.write("models/log.sql", code.format(2))
    assert built(shop.result("log", vars={"owner": "them"})) == {"log"}
    shop.configure(full_refresh_on_change=True)

    assert built(shop.result("log")) == {"log"}
    assert shop.rows("log") == [(2,)]


def test_run_with_other_code_that_does_not_count_leaves_its_rows_in_an_incremental_model(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = Shop(tmp_path / "shop", instance, "core", full_refresh_on_change=True)
    code = "{{{{ config(materialized='incremental') }}}} select {} as code"
    shop.write("models/log.sql", code.format(1))
    shop.run()

    shop.write("models/log.sql", code.format(2))
    shop.result("log", vars={"owner": "them"})
    shop.write("models/log.sql", code.format(1))

    assert built(shop.result("log")) == {"log"}
    assert shop.rows("log") == [(1,)]


HOOKED = {
    "dbt_project.yml": """
        {name: shop_orders, profile: shop_orders, version: "1.0",
         on-run-end: ["create table if not exists calls as select 1 as id", "insert into calls values (1)"]}
        """,
}


def test_on_run_hooks_run_always_if_configured(changed_shop: Shop) -> None:
    write_files(changed_shop.directory, HOOKED)
    changed_shop.parse()
    assert changed_shop.run() == ALL
    assert changed_shop.run() == set()
    assert len(changed_shop.rows("calls")) == 2

    changed_shop.configure(on_run_hooks="always")
    changed_shop.run()
    result = changed_shop.result()

    assert built(result) == set()
    assert len(changed_shop.rows("calls")) == 4
    assert [check.check_name for check in result.get_asset_check_evaluations() if "reason" not in check.metadata] == [
        "accepted_values_mart_amount__30"
    ]


def test_on_run_hooks_of_a_product_without_tests_run_with_a_table_that_nothing_reads(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = Shop(tmp_path / "shop", instance, "core", on_run_hooks="always")
    write_files(shop.directory, {**HOOKED, "models/schema.yml": SOURCES})
    shop.parse()
    shop.run()

    assert shop.run() == {"mart"}
    assert shop.run() == {"mart"}
    assert len(shop.rows("calls")) == 4


def test_model_with_a_query_in_its_code_is_reused_if_it_declares_that(changed_shop: Shop) -> None:
    config = "materialized='table', meta={'dagster': {'reuse': true}}"
    code = "select 1 as id, '{{ run_query('select 2').columns[0].values()[0] }}' as name"
    changed_shop.write("models/names.sql", f"{{{{ config({config}) }}}} {{% if execute %}} {code} {{% endif %}}")

    assert changed_shop.run() == ALL
    assert changed_shop.run() == set()


def test_build_of_a_partition_says_nothing_about_others(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    rule = {"select": "fqn:*", "type": "static", "values": ["north", "south"]}
    shop = Shop(tmp_path / "shop", instance, "core", partitions=[rule])
    assets = [
        asset for asset in definitions_from_file(shop.artifacts).assets or () if isinstance(asset, dg.AssetsDefinition)
    ]
    chosen = dg.AssetSelection.assets("stg")

    for partition in ("north", "south"):
        assert built(dg.materialize(assets, instance=instance, selection=chosen, partition_key=partition)) == {"stg"}
    assert shop.planned() == dict.fromkeys(ALL, "a run decides about each of its partitions")


def test_tables_of_other_code_and_other_assets_are_built(changed_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = changed_shop
    (shop.directory / "models" / os.fsdecode(b"caf\xe9.txt")).touch()  # a name that is not UTF-8
    shop.parse()
    assert shop.run() == ALL

    # Other code with an old time, as `rsync -a` or an older image brings it.
    names = shop.directory / "models" / "names.sql"
    written, times = names.read_text(), names.stat()
    names.write_text(NAMES_IN_CAPITALS)
    os.utime(names, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert shop.run() == ALL
    assert shop.rows("names") == [(1, "NORTH"), (2, "SOUTH")]

    names.write_text(written)
    shop.parse()
    assert shop.run() == ALL
    for name, code in (("first", "select 1 as id"), ("second", "select 2 as id"), ("first", "select 1 as id")):
        shop.write(f"models/{name}.sql", f"{{{{ config(materialized='table', alias='shared') }}}} {code}")
        assert shop.run() == {name}
        (shop.directory / "models" / f"{name}.sql").unlink()
    shop.parse()

    # The path of a source with a variable: dbt may read another file than the manifest has.
    schema = FILES["models/schema.yml"].replace("landing/{name}.csv", "{{ env_var('LANDING', 'landing') }}/{name}.csv")
    shop.write("models/schema.yml", schema)
    write_files(shop.directory, {"later/orders.csv": "id,amount\n1,30\n"})
    monkeypatch.setenv("LANDING", "later")
    assert shop.run() == {"stg", "mart", "names"}  # the settings of `names` are in the same file
    write_files(shop.directory, {"later/orders.csv": "id,amount\n1,15\n2,15\n"})
    assert shop.run() == {"stg", "mart"}


def test_dbt_v2_builds_what_has_changed(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = Shop(tmp_path / "shop", instance, "v2")
    assert shop.run() == ALL

    starts = shop.starts()
    assert (shop.run(), shop.starts()) == (set(), starts)

    write_files(shop.directory, {"landing/orders.csv": "id,amount\n1,30\n"})
    assert shop.run() == {"stg", "mart"}


def test_step_reuses_what_another_step_reads(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    parts = [{"select": "stg regions", "name": "first"}]
    shop = Shop(tmp_path / "shop", instance, "core", steps=parts)
    assert built(shop.result()) == ALL

    second = shop.result()
    assert second.success
    materialized = [
        event.step_materialization_data.materialization for event in second.get_asset_materialization_events()
    ]
    assert {event.asset_key.path[-1]: event.metadata["status"].value for event in materialized} == {
        "stg": "reused",
        "regions": "reused",
    }
    assert reused(second).keys() == {"mart", "names"}

    third = shop.result()
    assert reused(third).keys() == {"mart", "names"}

    shop.write("models/stg.sql", "select *, 1 as one from {{ source('landing', 'orders') }}")
    assert shop.planned() == {"stg": "its code, its settings or a macro has changed", "mart": "stg is built"}
    assert {"stg", "mart"} <= built(shop.result())


def test_step_reuses_tables_and_views_that_read_each_other(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = Shop(tmp_path / "shop", instance, "v2")
    sources = "sources: [{name: main, config: {loaded_at_field: loaded_at}, tables: [{name: sales}]}]"
    shop.write("models/sources.yml", sources)
    shop.execute("create table sales as select 1 as id, timestamp '2026-01-01' as loaded_at")
    for name, materialized, query in (
        ("z_base", "table", "select id from {{ source('main', 'sales') }}"),
        ("a_view", "view", "select id from {{ ref('z_base') }}"),
        ("b_table", "table", "select count(*) as n from {{ ref('z_base') }}"),
        ("top", "table", "select a.id from {{ ref('a_view') }} a, {{ ref('b_table') }}, {{ ref('z_base') }}"),
    ):
        shop.write(f"models/{name}.sql", f"{{{{ config(materialized='{materialized}') }}}} {query}")
    shop.configure(steps=[{"select": "z_base a_view b_table", "name": "first"}])
    assert shop.run() == {*ALL, "z_base", "a_view", "b_table", "top"}

    # Dagster gets the output of each asset after those of the assets that it reads.
    unchanged = shop.result()
    assert unchanged.success
    assert {"z_base", "a_view", "b_table"} <= built(unchanged)
    assert reused(unchanged).keys() == {*ALL, "top"}

    shop.execute("insert into sales values (2, timestamp '2026-01-02')")
    changed = shop.result()
    assert changed.success
    statuses = {
        event.step_materialization_data.materialization.asset_key.path[-1]: str(
            event.step_materialization_data.materialization.metadata["status"].value
        )
        for event in changed.get_asset_materialization_events()
    }
    assert statuses == {
        **dict.fromkeys(("z_base", "b_table", "top"), "success"),
        "a_view": "reused",
    }
    assert len(shop.rows("top")) == 4


def test_new_rows_of_a_source_build_no_view(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = Shop(tmp_path / "shop", instance, "v2")
    write_files(
        shop.directory,
        {
            "models/base.sql": "{{ config(materialized='table') }} select * from {{ source('main', 'sales') }}",
            "models/shown.sql": "select * from {{ ref('base') }}",
            "models/total.sql": "{{ config(materialized='table') }} select count(*) as number from {{ ref('shown') }}",
            "models/sources.yml": """
                sources: [{name: main, config: {loaded_at_field: loaded_at}, tables: [{name: sales}]}]
                """,
        },
    )
    shop.parse()
    shop.execute("create table sales as select 1 as id, timestamp '2026-01-01' as loaded_at")
    assert shop.run() == {*ALL, "base", "shown", "total"}

    shop.execute("insert into sales values (2, timestamp '2026-01-02')")
    assert shop.run() == {"base", "total"}
    assert shop.rows("total") == [(2,)]

    shop.execute("delete from sales where id = 1")
    assert shop.run() == {"base", "total"}
    shop.execute("alter table sales add column store int")
    assert shop.run() == {"base", "shown", "total"}

    shop.execute("alter table base rename column store to shop")
    assert shop.run() == {"base", "total"}

    total = (
        "{{ config(materialized='table', state={'lag_tolerance': '2 days'}) }} select 1 as one from {{ ref('shown') }}"
    )
    shop.write("models/total.sql", total)
    assert shop.run() == {"total"}
    shop.execute("insert into sales values (3, timestamp '2026-01-03', 1)")
    waits = shop.result()
    assert (built(waits), reused(waits)["total"]) == ({"base"}, WAITS)

    for kind, name in (("view", "shown"), ("view", "stg"), *(("table", one) for one in ("base", "total", "mart"))):
        shop.execute(f"drop {kind} {name}")
    assert shop.run() == {"base", "shown", "total", "stg", "mart"}


def test_table_whose_event_was_lost_after_the_commit_is_built_again(
    changed_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = changed_shop
    code, store = FILES["models/names.sql"], dg.DagsterInstance.handle_new_event
    shop.run()

    def lose(instance: dg.DagsterInstance, event: dg.EventLogEntry, **more: Any) -> None:  # noqa: ANN401  # Dagster's
        if event.dagster_event and event.dagster_event.is_step_materialization:
            raise ConnectionError
        store(instance, event, **more)

    shop.write("models/names.sql", NAMES_IN_CAPITALS)
    with monkeypatch.context() as lost:
        lost.setattr(dg.DagsterInstance, "handle_new_event", lose)
        assert not shop.result("names").success
    assert _rows_when_unlocked(shop, "names") == [(1, "NORTH"), (2, "SOUTH")]

    # The code is that of the last recorded build again, but the rows are not.
    shop.write("models/names.sql", code)
    assert shop.planned()["names"].endswith("started to build it, and has recorded no result")
    assert built(shop.result("names")) == {"names"}
    assert shop.rows("names") == [(1, "north"), (2, "south")]


def _rows_when_unlocked(shop: Shop, table: str) -> list[tuple[object, ...]]:
    """Read a table after the end of a process that has the database open."""
    for _ in range(120):
        with suppress(duckdb.IOException):
            return shop.rows(table)
        time.sleep(1)
    return shop.rows(table)


def test_view_that_read_a_table_of_somebody_else_is_built_again(changed_shop: Shop) -> None:
    shop = changed_shop
    write_files(shop.directory, {"models/base.sql": "select id, name from {{ ref('regions') }}"})
    shop.write("models/shown.sql", "select * from {{ ref('base') }}")
    assert shop.run() == {*ALL, "base", "shown"}

    # The columns of the new view are those of a table that has the name of the view `base`.
    shop.execute("drop view base")
    shop.execute("create table base as select 1 as id, 'x' as name, 1 as more")
    assert built(shop.result("shown")) == {"shown"}

    assert shop.run() == {"base", "shown"}
    assert shop.rows("shown") == [(1, "north"), (2, "south")]
    assert shop.run() == set()


def test_readers_of_a_source_are_built_after_a_change_of_the_seed_that_is_its_table(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = Shop(tmp_path / "shop", instance, "core")
    shop.write("seeds/raw_stores.csv", "id,name,loaded_at\n1,north,2024-01-01\n2,south,2024-01-01\n")
    sources = """
        sources:
          - name: shops
            schema: main
            config: {loaded_at_field: "cast(loaded_at as timestamp)"}
            tables: [{name: stores, identifier: raw_stores}]
        """
    shop.write("models/stores.yml", sources)
    shop.write(
        "models/stores.sql", "{{ config(materialized='table') }} select name from {{ source('shops', 'stores') }}"
    )
    assert shop.run() == {*ALL, "raw_stores", "stores"}
    assert shop.planned() == {}

    # Rows, columns and the last loading time stay the same.
    shop.write("seeds/raw_stores.csv", "id,name,loaded_at\n1,east,2024-01-01\n2,west,2024-01-01\n")
    assert shop.planned() == {
        "raw_stores": "its code, its settings or a macro has changed",
        "stores": "raw_stores is built",
    }
    assert shop.run() == {"raw_stores", "stores"}
    assert shop.rows("stores") == [("east",), ("west",)]
    assert shop.planned() == {}

    # Somebody else adds a row to the same table.
    shop.execute("insert into raw_stores values (3, 'up', '2024-01-02')")
    assert shop.planned() == {"stores": "the data of shops.stores has changed since then"}
    assert shop.run() == {"raw_stores", "stores"}  # raw_stores is materialized again as reused, for the step of stores
    assert len(shop.rows("stores")) == 3
    assert shop.planned() == {}
