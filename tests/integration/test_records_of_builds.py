"""Runs that do not count, failed runs, killed runs and re-executed runs hide no change, and lose no record."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.execution.step.build_marks import mark_started
from integration.failing_shop import logged
from integration.test_changed_builds import Shop, built

if TYPE_CHECKING:
    from collections.abc import Mapping

LOG = dg.AssetKey("log")
CODE = "{{{{ config(materialized='incremental') }}}} select {} as code"
CHANGED = "incremental models whose code has changed: log"


def warnings(shop: Shop, **options: object) -> int:
    """Build the incremental model, and count the warnings about its code."""
    result = shop.result("log", **options)
    assert built(result) == {"log"}
    return logged(shop.instance, result.run_id, "WARNING").count(CHANGED)


@pytest.mark.parametrize("options", [{"vars": {"owner": "them"}}, {"empty": True}])
def test_first_build_that_does_not_count_hides_no_later_change_of_code(
    tmp_path: Path, instance: dg.DagsterInstance, options: Mapping[str, object]
) -> None:
    shop = Shop(tmp_path / "shop", instance, "core")
    shop.write("models/log.sql", CODE.format(1))
    assert warnings(shop, **options) == 0

    shop.write("models/log.sql", CODE.format(2))
    assert warnings(shop) == 1
    assert shop.rows("log") == [(1,), (2,)]


def test_killed_first_build_hides_no_later_change_of_code(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = Shop(tmp_path / "shop", instance, "core", full_refresh_on_change=True)
    shop.write("models/log.sql", CODE.format(1))
    [(_, found)] = shop.plan().decisions
    code = found.known.fingerprints["model.shop_orders.log"]
    mark_started(instance, "killed", found.history, [LOG], {LOG: code})
    shop.execute("create table log as select 1 as code")  # dbt's commit, before the run was killed

    shop.write("models/log.sql", CODE.format(2))
    assert built(shop.result("log")) == {"log"}
    assert shop.rows("log") == [(2,)]


def test_runs_that_do_not_count_warn_once_about_a_change_of_code(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = Shop(tmp_path / "shop", instance, "core")
    usual = {"vars": {"owner": "them"}}
    shop.write("models/log.sql", CODE.format(1))
    assert warnings(shop, **usual) == 0

    shop.write("models/log.sql", CODE.format(2))
    assert (warnings(shop, **usual), warnings(shop, **usual)) == (1, 0)

    shop.configure(full_refresh_on_change=True)
    shop.write("models/log.sql", CODE.format(3))
    result = shop.result("log", **usual)
    text = "in spite of full_refresh_on_change, because the run sets vars. Launch a run with full_refresh"
    assert text in logged(instance, result.run_id, "WARNING")

    # A full refresh leaves no rows of other code, also in a run that does not count.
    assert warnings(shop, **usual, full_refresh=True) == 0
    assert warnings(shop) == 0
    assert shop.rows("log") == [(3,), (3,)]


def test_build_that_failed_says_nothing_about_the_rows_of_its_table(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = Shop(tmp_path / "shop", instance, "core", full_refresh_on_change=True)
    shop.write("models/log.sql", CODE.format(1))
    shop.result("log")
    shop.write("models/log.sql", CODE.format("cast('text' as int)"))
    assert not shop.result("log").success

    shop.write("models/log.sql", CODE.format(1))
    assert built(shop.result("log")) == {"log"}
    assert shop.rows("log") == [(1,), (1,)]


@pytest.mark.parametrize("engine", ["core", "v2"])
def test_model_whose_compiled_sql_reads_an_unknown_table_is_built_in_each_run(
    tmp_path: Path, instance: dg.DagsterInstance, engine: str
) -> None:
    shop = Shop(tmp_path / "shop", instance, engine)
    shop.execute("create table outside as select 7 as code")
    shop.write("macros/more.sql", "{% macro more() %}, outside{% endmacro %}")
    shop.write(
        "models/names.sql", "{{ config(materialized='table') }} select id, code from {{ ref('regions') }} {{ more() }}"
    )
    result = shop.result()
    assert "The next run builds names again: its compiled SQL reads outside" in logged(instance, result.run_id, "INFO")

    shop.execute("update outside set code = 8")
    assert shop.run() == {"names"}
    assert shop.rows("names") == [(1, 8), (2, 8)]


def test_incremental_model_without_records_is_built_from_scratch_once_after_a_change(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = Shop(tmp_path / "shop", instance, "core", full_refresh_on_change=True)
    shop.execute("create table outside as select 7 as other")
    shop.write("macros/more.sql", "{% macro more() %}, outside{% endmacro %}")
    for code in (1, 2):
        shop.write("models/log.sql", CODE.format(code) + " from (select 1) as one {{ more() }}")
        shop.run()

    assert shop.rows("log") == [(2,)]
    shop.run()
    assert shop.rows("log") == [(2,), (2,)]


def _job() -> dg.JobDefinition:
    return definitions_from_file(Path(os.environ["FLOE_ARTIFACTS_PATH"])).resolve_job_def("shop_orders")


def test_re_executed_run_keeps_the_records_of_the_tables_that_it_does_not_build_again(
    tmp_path: Path, lasting: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path / "shop", lasting, "core", steps=[{"select": "stg late names regions", "name": "first"}])
    late = """
        sources:
          - name: delayed
            config: {meta: {external_location: "landing/{name}.csv"}}
            tables: [{name: late}]
        """
    write_files(shop.directory, {"models/late.yml": late})
    shop.write("models/late.sql", "select * from {{ source('delayed', 'late') }}")
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(shop.artifacts))
    job = dg.reconstructable(_job)
    failed = dg.execute_job(job, instance=lasting)
    assert not failed.success

    write_files(shop.directory, {"landing/late.csv": "id\n1\n"})
    resumed = dg.execute_job(
        job,
        instance=lasting,
        reexecution_options=dg.ReexecutionOptions.from_failure(failed.run_id, lasting),
        tags={"dagster/is_resume_retry": "true"},
    )
    assert resumed.success
    events = resumed.filter_events(lambda event: event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION)
    found = [event.step_materialization_data.materialization for event in events]
    statuses = {event.asset_key.path[-1]: str(event.metadata["status"].value) for event in found}
    assert (statuses["stg"], statuses["late"], statuses["mart"]) == ("reused", "success", "success")
    assert shop.planned() == {}

    # The table that was handed over is built for the same reasons as each other one.
    write_files(shop.directory, {"landing/orders.csv": "id,amount\n1,15\n2,15\n"})
    assert shop.planned() == {"stg": "the data of landing.orders has changed since then", "mart": "stg is built"}
