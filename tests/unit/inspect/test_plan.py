"""Plans of products, created from any Definitions, and their text report."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.inspect.plan import (
    AssetPlan,
    AutomationPlan,
    JobPlan,
    Plan,
    PoolPlan,
    RunPlan,
    SensorPlan,
    plan_product,
)
from floe_orchestrator_dagster.inspect.report import print_plan
from floe_orchestrator_dagster.product import load_product
from unit.dbt_shop import dbt_shop, write_dbt_shop
from unit.samples import Json, model, product, profiles, write_json

if TYPE_CHECKING:
    from pathlib import Path

_SUNDAY = datetime(2026, 3, 22, 12, 0, tzinfo=timezone.utc)


def _plan(*models: Json, config: Json | None = None, now: datetime = _SUNDAY) -> Plan:
    planned = product(*models, config=config)
    return plan_product(planned, build_definitions(planned), now)


def test_assets_have_their_contract_attributes_in_topological_order() -> None:
    plan = _plan(model("orders", "stg_orders", quality_tier="gold"), model("stg_orders", quality_tier="bronze"))

    assert [asset.key for asset in plan.assets] == ["stg_orders", "orders"]
    assert plan.assets[1] == AssetPlan(
        key="orders",
        group="shop_orders",
        external=False,
        tier="gold",
        compute="duckdb",
        materialization=None,
        kinds=("dbt", "duckdb", "gold"),
        owners=(),
        partitions=None,
        upstream=("stg_orders",),
        checks=0,
        blocking_checks=0,
    )


def test_each_model_is_a_dbt_build_without_a_dbt_project() -> None:
    plan = _plan(model("a"), model("b", "a"))

    assert plan.jobs == (JobPlan("shop_orders", assets=2, checks=0, steps=2, dbt_invocations=2),)
    assert (plan.dbt_project, plan.dbt_target, plan.dbt_engine) == (None, None, None)


def test_product_without_transforms_has_an_empty_plan() -> None:
    plan = _plan()

    assert (plan.product, plan.version, plan.domain) == ("shop-orders", "1.2.0", "sales")
    assert (plan.assets, plan.jobs, plan.schedules, plan.sensors, plan.automation, plan.pools) == ((),) * 6
    assert (plan.checks, plan.blocking_checks) == (0, 0)


@pytest.mark.parametrize(
    ("now", "ticks"),
    [
        (
            datetime(2026, 3, 27, 12, 0, tzinfo=timezone.utc),
            ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        (
            datetime(2026, 10, 23, 12, 0, tzinfo=timezone.utc),
            ["2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"],
        ),
    ],
)
def test_ticks_are_dagsters_when_clocks_change(now: datetime, ticks: list[str]) -> None:
    config = {"default_schedule": "30 2 * * *", "timezone": "Europe/Berlin"}

    (schedule,) = _plan(model("a"), config=config, now=now).schedules

    assert [tick.isoformat() for tick in schedule.next_ticks] == ticks
    assert (schedule.name, schedule.job, schedule.running) == ("shop_orders_schedule", "shop_orders", True)
    assert (schedule.cron, schedule.timezone) == ("30 2 * * *", "Europe/Berlin")


def _not_run():  # type: ignore[no-untyped-def]  # noqa: ANN202  # Dagster takes no None for several outputs
    raise NotImplementedError


def _definitions() -> dg.Definitions:
    """Definitions with everything that a plan has a place for."""

    dbt_build = dg.multi_asset(
        name="dbt_build",
        specs=[
            dg.AssetSpec("seed_orders", kinds={"dbt"}, skippable=True),
            dg.AssetSpec(
                "orders", deps=["seed_orders", "raw"], kinds={"dbt"}, tags={"floe/tier": "gold"}, skippable=True
            ),
        ],
        check_specs=[
            dg.AssetCheckSpec("unique_id", asset="orders", blocking=True),
            dg.AssetCheckSpec("known_status", asset="orders"),
        ],
        can_subset=True,
        pool="warehouse",
    )(_not_run)

    @dg.asset(
        deps=["orders"],
        partitions_def=dg.DailyPartitionsDefinition("2026-01-01"),
        automation_condition=dg.AutomationCondition.eager(),
        owners=["team:shop"],
    )
    def report() -> None: ...

    @dg.asset_check(asset="orders")
    def is_fresh() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    everything = dg.define_asset_job("all", dg.AssetSelection.all() - dg.AssetSelection.assets("report"))

    @dg.run_status_sensor(run_status=dg.DagsterRunStatus.FAILURE, request_job=everything)
    def after_failure() -> None: ...

    return dg.Definitions(
        assets=[dbt_build, report, dg.AssetSpec("raw", group_name="shop")],
        asset_checks=[is_fresh],
        jobs=[everything, dg.define_asset_job("part", selection=["seed_orders"])],
        sensors=[after_failure],
        schedules=[
            dg.ScheduleDefinition(job_name="part", name="twice", cron_schedule=["0 6 * * *", "0 18 * * 1"]),
        ],
    )


def _full_plan(config: Json | None = None) -> Plan:
    return plan_product(product(model("orders"), config=config), _definitions(), _SUNDAY)


def test_checks_are_counted_per_asset_and_blocking_ones_separately() -> None:
    plan = _full_plan()

    assert {asset.key: (asset.checks, asset.blocking_checks) for asset in plan.assets} == {
        "raw": (0, 0),
        "seed_orders": (0, 0),
        "orders": (3, 1),
        "report": (0, 0),
    }
    assert (plan.checks, plan.blocking_checks) == (3, 1)


def test_external_assets_are_marked() -> None:
    plan = _full_plan()

    assert [asset.key for asset in plan.assets if asset.external] == ["raw"]
    assert [asset.key for asset in plan.built] == ["seed_orders", "orders", "report"]


def test_steps_that_build_dbt_assets_count_as_dbt_invocations() -> None:
    jobs = {job.name: job for job in _full_plan().jobs}

    assert jobs == {
        "all": JobPlan("all", assets=2, checks=3, steps=2, dbt_invocations=1),
        "part": JobPlan("part", assets=1, checks=0, steps=1, dbt_invocations=1),
    }


def test_definitions_that_dbt_splits_into_steps_count_each_of_them() -> None:
    alternating = [("a", []), ("b", ["a"]), ("c", ["b"]), ("d", ["c"])]
    specs = [dg.AssetSpec(name, deps=deps, kinds={"dbt"}, skippable=True) for name, deps in alternating]
    first = dg.multi_asset(name="first", specs=specs[::2], can_subset=True)(_not_run)
    second = dg.multi_asset(name="second", specs=specs[1::2], can_subset=True)(_not_run)
    definitions = dg.Definitions(assets=[first, second], jobs=[dg.define_asset_job("all", selection="*")])

    (job,) = plan_product(product(model("a")), definitions, _SUNDAY).jobs

    assert job == JobPlan("all", assets=4, checks=0, steps=4, dbt_invocations=4)


def test_sensors_automation_and_partitions_are_named() -> None:
    plan = _full_plan()

    assert plan.sensors == (
        SensorPlan("after_failure", "run_status", ("all",), running=False),
        SensorPlan("default_automation_condition_sensor", "automation", (), running=False),
    )
    assert plan.automation == (AutomationPlan("eager", ("report",)),)
    assert [asset.partitions for asset in plan.assets if asset.partitions] == ["Daily, starting 2026-01-01 UTC."]


def test_separate_steps_of_checks_count_as_dbt_invocations() -> None:
    built = dg.AssetSpec("orders", kinds={"dbt"}, skippable=True)
    build = dg.multi_asset(name="build", specs=[built], can_subset=True)(_not_run)
    late = dg.AssetCheckSpec("late", asset="orders")
    tests = dg.multi_asset_check(name="late", specs=[late], compute_kind="dbt", can_subset=True)(_not_run)
    noted = dg.AssetCheckSpec("noted", asset="orders")
    notes = dg.multi_asset_check(name="notes", specs=[noted], can_subset=True)(_not_run)
    definitions = dg.Definitions(
        assets=[build], asset_checks=[tests, notes], jobs=[dg.define_asset_job("all", selection="*")]
    )

    (job,) = plan_product(product(model("a")), definitions, _SUNDAY).jobs

    assert job == JobPlan("all", assets=1, checks=2, steps=3, dbt_invocations=2)


@pytest.mark.parametrize(("setting", "starts"), [("on_demand", 1), ("in_product_job", 2)])
def test_source_freshness_in_the_products_job_starts_dbt_once_more(tmp_path: Path, setting: str, starts: int) -> None:
    path = write_dbt_shop(tmp_path, {"source_freshness": setting})
    manifest_path = tmp_path / "target" / "manifest.json"
    content = json.loads(manifest_path.read_text(encoding="utf-8"))
    content["sources"]["source.shop.erp.orders"]["freshness"] = {"warn_after": {"count": 1, "period": "day"}}
    write_json(manifest_path, content)
    planned = load_product(path)

    (job,) = plan_product(planned, build_definitions(planned), _SUNDAY).jobs

    assert (job.steps, job.dbt_invocations) == (starts, starts)


def test_schedule_shows_its_selection_of_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedules = [
        {"name": "whole", "cron": "@daily"},
        {"name": "part", "cron": "@daily", "select": "tag:daily", "exclude": "stg"},
        {"name": "rest", "cron": "@daily", "exclude": "mart"},
    ]
    planned = dbt_shop(tmp_path, {"schedules": schedules})

    plan = plan_product(planned, build_definitions(planned), _SUNDAY)
    print_plan(plan, [])

    assert {schedule.name: (schedule.select, schedule.exclude) for schedule in plan.schedules} == {
        "whole": (None, None),
        "part": ("tag:daily", "stg"),
        "rest": (None, "mart"),
    }
    printed = capsys.readouterr().out
    assert re.findall(r"^    of it +(.*)$", printed, re.MULTILINE) == [
        "tag:daily without stg",
        "everything without mart",
    ]


def test_sensor_shows_what_it_watches(capsys: pytest.CaptureFixture[str]) -> None:
    sensors = [
        {"type": "run_status", "name": "own", "status": "success", "job": "nightly"},
        {"type": "run_status", "name": "named", "status": "failure", "job": "shop_orders", "jobs": ["nightly"]},
        {"type": "asset", "name": "follow", "asset": "erp/orders"},
    ]

    plan = _plan(model("a"), config={"jobs": [{"name": "nightly"}], "sensors": sensors})
    print_plan(plan, [])

    assert plan.sensors == (
        SensorPlan("follow", "asset", ("shop_orders",), running=True, watches=("erp/orders",)),
        SensorPlan("named", "run_status", ("shop_orders",), running=True, watches=("nightly",), status="failure"),
        SensorPlan("own", "run_status", ("nightly",), running=True, watches=("shop_orders",), status="success"),
    )
    printed = capsys.readouterr().out
    assert "  named   run_status nightly: failure" in printed
    assert "  follow  asset erp/orders " in printed


@pytest.mark.parametrize(
    ("config", "output", "runs", "said"),
    [
        ({}, {}, RunPlan("multiprocess", 1), ["multiprocess, 1 step at a time", "none", "none"]),
        ({}, {"type": "postgres"}, RunPlan(), ["the default", "none", "none"]),
        (
            {"retries": {"max_retries": 2, "delay_seconds": 1.5}, "timeout_seconds": 60, "executor": "in_process"},
            {"type": "postgres"},
            RunPlan("in_process", 1, 2, 1.5, 60),
            ["in_process, 1 step at a time", "2 of a failed step, each after 1.5 s", "60 s"],
        ),
        (
            {"retries": {"max_retries": 1}, "executor": "multiprocess"},
            {"type": "postgres"},
            RunPlan("multiprocess", None, 1),
            ["multiprocess", "1 of a failed step", "none"],
        ),
    ],
)
def test_settings_of_each_run_are_shown(
    capsys: pytest.CaptureFixture[str], config: Json, output: Json, runs: RunPlan, said: list[str]
) -> None:
    planned = product(model("a"), config=config, dbt_profiles=profiles(**output))

    plan = plan_product(planned, build_definitions(planned), _SUNDAY)
    print_plan(plan, [])

    assert plan.runs == runs
    printed = capsys.readouterr().out
    assert re.findall(r"^  (?:executor|retries|time limit) +(.*)$", printed, re.MULTILINE) == said


def test_pools_have_the_command_that_sets_their_limit() -> None:
    assert _full_plan().pools == (PoolPlan("warehouse", None, None),)
    assert _full_plan({"concurrency": {"pool": "big_warehouse", "limit": 2}}).pools == (
        PoolPlan("warehouse", None, None),
        PoolPlan("big_warehouse", 2, "dagster instance concurrency set big_warehouse 2"),
    )
    assert _full_plan({"concurrency": {"pool": "warehouse"}}).pools == (PoolPlan("warehouse", None, None),)


def test_ticks_are_in_the_future_by_default() -> None:
    planned = product(model("a"), config={"default_schedule": "* * * * *"})

    before = datetime.now(tz=timezone.utc)
    (schedule,) = plan_product(planned, build_definitions(planned)).schedules

    first, *others = schedule.next_ticks
    assert before <= first <= datetime.now(tz=timezone.utc) + timedelta(minutes=1)
    assert others == [first + timedelta(minutes=1), first + timedelta(minutes=2)]


# --- as text --------------------------------------------------------------------------------------------------------

_PRINTED = """\
shop-orders 1.2.0 in domain sales
  artifacts  CompiledArtifacts

Assets: 3 built here, 1 external
  asset, by group  tier  materialized  compute  checks  blocking
  ──────────────────────────────────────────────────────────────
  default (3)
    seed_orders
    orders         gold                              3         1
    report
  external (1)
    raw

Checks: 3, 1 of them blocking (a failure stops downstream assets)

Partitions
  partitions                       assets
  ───────────────────────────────────────
  Daily, starting 2026-01-01 UTC.  report

Jobs: a run of the whole job
  job   assets  checks  steps  starts dbt
  ───────────────────────────────────────
  all        2       3      2           1
  part       1       0      1           1

Runs: settings of each run
  executor    the default, 1 step at a time
  retries     none
  time limit  none

Schedules: their state once loaded, and their next ticks
  twice   stopped
    job   part
    cron  0 6 * * *; 0 18 * * 1 in UTC
    next  Mon 2026-03-23 06:00 UTC
          Mon 2026-03-23 18:00 UTC
          Tue 2026-03-24 06:00 UTC

Sensors: their state once loaded
  sensor                               watches     launches  state
  ──────────────────────────────────────────────────────────────────
  after_failure                        run_status  all       stopped
  default_automation_condition_sensor  automation            stopped

Automation: assets that Dagster materializes by itself
  condition  assets
  ─────────────────
  eager      report

Pools: set the limit once per Dagster instance
  warehouse: 2
    dagster instance concurrency set warehouse 2

Warnings
  WAREHOUSE is not set
"""


def test_plan_fits_80_columns_without_colours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    print_plan(_full_plan({"concurrency": {"pool": "warehouse", "limit": 2}}), ["WAREHOUSE is not set"])

    printed = capsys.readouterr().out
    assert printed == _PRINTED


def test_product_without_transforms_says_that_there_is_nothing_to_build(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(_plan(), [])

    assert capsys.readouterr().out == (
        "shop-orders 1.2.0 in domain sales\n"
        "  artifacts  CompiledArtifacts\n"
        "\n"
        "Nothing to build: the product declares no transforms.\n"
        "\n"
        "Not in this product: assets, jobs, schedules, sensors, automation, pools.\n"
    )


@pytest.mark.parametrize("columns", ["80", "120", "300"])
def test_no_line_is_wider_than_the_terminal_or_120(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    names = [f"a_rather_long_name_of_a_model_in_{index}_that_goes_on_and_on" * 3 for index in range(9)]

    print_plan(_plan(*(model(name) for name in names)), ["a warning " * 30])

    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(len(line) for line in printed.splitlines()) <= min(int(columns), 120)
    unfolded = re.sub(r"(\s+duckdb)?\n\s*", "", printed)
    assert all(name in unfolded for name in names)


@pytest.mark.parametrize("colours", [False, True])
def test_names_and_warnings_are_whole_in_a_pipe(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    colours: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    if colours:
        monkeypatch.setenv("FORCE_COLOR", "1")  # as many CI systems set it
    names = [f"a_rather_long_name_of_a_model_in_{index}_that_goes_on_and_on" * 3 for index in range(9)]
    warning = "a warning " * 30 + "ends"

    print_plan(_plan(*(model(name) for name in names)), [warning])

    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert [name for name in names if not any(name in line for line in lines)] == []
    assert f"  {warning}" in lines


def test_paths_and_commands_stay_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    pool = "a_pool_of_a_long_name" * 4
    plan = replace(_full_plan({"concurrency": {"pool": pool, "limit": 12}}), artifacts=f"/shop{'/deep' * 30}/a.json")

    print_plan(plan, [])

    printed = capsys.readouterr().out.splitlines()
    assert f"  artifacts  {plan.artifacts}" in printed
    assert f"    dagster instance concurrency set {pool} 12" in printed
